//! Failpoints: moments at which a test has this process killed or stopped. They exist only in builds with the feature
//! `failpoints`, which releases lack.
//!
//! Owns which moment it is, and the decorators of store, queue and model that know the moments. Nothing outside this
//! folder changes what it does because of them.

mod model;
mod queue;
mod store;

pub use model::FailModel;
pub use queue::FailQueue;
pub use store::FailStore;

use std::fs::OpenOptions;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::process::{Pid, Signal, getpid, kill_process};

/// `MOMENT:COUNT:SIGNAL:FILE`: at the moment's COUNTth time in a process, that process sends itself KILL or STOP, unless
/// FILE is there; it is made first, so that this happens once however many processes have the same environment.
const VARIABLE: &str = "RBEE_FAILPOINT";

/// What the environment asks for.
struct Armed {
    moment: String,
    left: AtomicU64,
    signal: Signal,
    once: PathBuf,
}

/// This moment has come.
pub fn at(moment: &str) {
    static ARMED: OnceLock<Option<Armed>> = OnceLock::new();
    let armed = ARMED.get_or_init(|| {
        let asked = std::env::var(VARIABLE).ok()?;
        Some(parse(&asked).unwrap_or_else(|| panic!("{VARIABLE} is not understood: {asked}")))
    });
    let Some(armed) = armed.as_ref().filter(|armed| armed.moment == moment) else {
        return;
    };
    if armed.left.fetch_sub(1, Ordering::SeqCst) != 1 {
        return;
    }
    let first = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&armed.once);
    if first.is_ok() {
        kill_process(this_thread(), armed.signal).expect("a process may signal itself");
    }
}

/// This thread by its number, which Linux takes for the process's: the signal then stops this thread before it goes on.
/// A signal to the process by its own number may be taken by another thread, some time later.
fn this_thread() -> Pid {
    let link = std::fs::read_link("/proc/thread-self").ok();
    let number = link.and_then(|link| link.file_name()?.to_str()?.parse().ok());
    number.and_then(Pid::from_raw).unwrap_or_else(getpid)
}

fn parse(asked: &str) -> Option<Armed> {
    let mut words = asked.splitn(4, ':');
    Some(Armed {
        moment: words.next()?.to_owned(),
        left: AtomicU64::new(words.next()?.parse().ok()?),
        signal: match words.next()? {
            "KILL" => Signal::KILL,
            "STOP" => Signal::STOP,
            _ => return None,
        },
        once: PathBuf::from(words.next()?),
    })
}
