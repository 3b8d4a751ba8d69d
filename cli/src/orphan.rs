//! The child of a process that was killed: it ends once it has noticed, and holds a lock and a port until then.

use std::path::Path;
use std::time::{Duration, Instant};

/// How long it may take to notice. Milliseconds, unless the machine is overloaded.
const PATIENCE: Duration = Duration::from_secs(30);
const RETRY: Duration = Duration::from_millis(20);

/// Whoever waits for an orphan's end.
pub struct Orphan {
    deadline: Instant,
}

impl Orphan {
    /// One that begins to wait now.
    pub fn new() -> Orphan {
        Orphan {
            deadline: Instant::now() + PATIENCE,
        }
    }

    /// Whether what is locked in the name of a process may be an orphan's, and will be free soon: that process, which is
    /// the parent, is there no more.
    pub fn may_hold(&self, parent: u32) -> bool {
        !is_alive(parent) && Instant::now() < self.deadline
    }

    /// Waits for a moment.
    pub async fn wait(&self) {
        tokio::time::sleep(RETRY).await;
    }
}

/// Whether a process runs, as the kernel's process table says; where there is none to be read, it counts as running.
fn is_alive(pid: u32) -> bool {
    match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => !is_dead(&stat),
        Err(_) => !Path::new("/proc/self/stat").exists(),
    }
}

/// Reads the state in `/proc/PID/stat`: the letter behind the name, which may itself hold brackets.
fn is_dead(stat: &str) -> bool {
    let state = stat
        .rsplit_once(") ")
        .and_then(|(_, rest)| rest.chars().next());
    matches!(state, Some('Z' | 'X'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zombie_is_dead_whatever_its_name() {
        assert!(is_dead("12 (rbee) Z 1 12 12 0"));
        assert!(is_dead("12 (a) S (b) X 1 12"));
        assert!(!is_dead("12 (a) Z (b) S 1 12"));
        assert!(is_alive(std::process::id()));
    }
}
