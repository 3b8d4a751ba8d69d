//! Waiting for something to become true, with a deadline: the only place of the tests where time passes idly.

use std::time::{Duration, Instant};

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(5);

/// The first value that `look` finds.
///
/// # Panics
/// When it found none before the deadline; `what` is what was waited for.
pub fn until<T>(what: &str, deadline: Duration, look: impl FnMut() -> Option<T>) -> T {
    until_every(POLL, what, deadline, look)
}

/// The same, looked for less often: where looking costs what is being measured.
pub fn until_every<T>(
    poll: Duration,
    what: &str,
    deadline: Duration,
    mut look: impl FnMut() -> Option<T>,
) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(
            start.elapsed() < deadline,
            "waited {deadline:?} in vain for: {what}"
        );
        std::thread::sleep(poll);
    }
}
