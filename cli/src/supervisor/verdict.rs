//! What the parent makes of its child's end. Pure.

use std::fmt;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use crate::exit_code::ExitCode;

/// Crashes in a row before any job was with the engine: the model or the machine is at fault, and trying again will not
/// help.
const IDLE_CRASHES_MAX: u32 = 3;
/// Ends of a run by a signal that blames nobody.
const KILLS_MAX: u32 = 10;

/// What a user can do about a child that keeps dying.
pub const ADVICE: &str =
    "it happened too often to go on; what is finished is kept. RBEE_LOG=debug may show why";

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// By itself.
    Exited(ExitCode),
    /// By the signal of a user's wish, before it could listen for it.
    Stopped,
    /// By a signal that a fault of its own raised.
    Crashed(i32),
    /// The kernel took its memory back by killing it.
    OutOfMemory,
    /// By any other signal: nobody is to blame.
    Killed(i32),
}

impl Ending {
    /// Reads an exit status. `oom_killed`: the kernel counted an out-of-memory kill meanwhile.
    pub fn of(status: ExitStatus, oom_killed: bool) -> Ending {
        match (status.code(), status.signal()) {
            (Some(code), _) => Ending::Exited(ExitCode::from_number(code)),
            (None, Some(libc::SIGINT | libc::SIGTERM | libc::SIGHUP)) => Ending::Stopped,
            (
                None,
                Some(
                    signal @ (libc::SIGABRT
                    | libc::SIGSEGV
                    | libc::SIGBUS
                    | libc::SIGILL
                    | libc::SIGFPE),
                ),
            ) => Ending::Crashed(signal),
            (None, Some(libc::SIGKILL)) if oom_killed => Ending::OutOfMemory,
            (None, signal) => Ending::Killed(signal.unwrap_or(0)),
        }
    }

    /// Whether it speaks against the jobs that were running.
    pub fn is_evidence(self) -> bool {
        matches!(self, Ending::Crashed(_) | Ending::OutOfMemory)
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ending::Exited(code) => write!(f, "ended with {}", code.number()),
            Ending::Stopped => f.write_str("was stopped"),
            Ending::Crashed(signal) => write!(f, "crashed (signal {signal})"),
            Ending::OutOfMemory => f.write_str("was killed by the kernel for want of memory"),
            Ending::Killed(signal) => write!(f, "was killed (signal {signal})"),
        }
    }
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Exit(ExitCode),
    Restart,
    GiveUp,
}

/// How often a child had to be started again.
#[derive(Debug)]
pub struct Restarts {
    idle_crashes: u32,
    kills: u32,
    kills_max: u32,
}

impl Restarts {
    /// Somebody who kills a run again and again means it.
    pub fn of_run() -> Restarts {
        Restarts {
            idle_crashes: 0,
            kills: 0,
            kills_max: KILLS_MAX,
        }
    }

    /// A node is stopped by a signal to its parent, and by nothing else.
    pub fn of_node() -> Restarts {
        Restarts {
            kills_max: u32::MAX,
            ..Restarts::of_run()
        }
    }

    /// Decides after a child's end. `had_jobs`: the engine held jobs. A crash with jobs is always worth another start:
    /// each one that a job brings about alone is counted in the store, and the third ends that job.
    pub fn judge(&mut self, ending: Ending, had_jobs: bool) -> Verdict {
        let (count, most) = match ending {
            Ending::Exited(_) | Ending::Stopped => return Verdict::Exit(ending.into()),
            Ending::Crashed(_) | Ending::OutOfMemory if had_jobs => {
                self.idle_crashes = 0;
                return Verdict::Restart;
            }
            Ending::Crashed(_) | Ending::OutOfMemory => (&mut self.idle_crashes, IDLE_CRASHES_MAX),
            Ending::Killed(_) => (&mut self.kills, self.kills_max),
        };
        *count += 1;
        if *count < most {
            Verdict::Restart
        } else {
            Verdict::GiveUp
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signalled(signal: i32) -> ExitStatus {
        ExitStatus::from_raw(signal)
    }

    #[test]
    fn only_faults_and_want_of_memory_are_evidence() {
        for signal in [
            libc::SIGABRT,
            libc::SIGSEGV,
            libc::SIGBUS,
            libc::SIGILL,
            libc::SIGFPE,
        ] {
            assert!(Ending::of(signalled(signal), false).is_evidence());
        }
        assert!(!Ending::of(signalled(libc::SIGKILL), false).is_evidence());
        assert!(Ending::of(signalled(libc::SIGKILL), true).is_evidence());
        assert!(!Ending::of(signalled(libc::SIGQUIT), false).is_evidence());
        assert_eq!(Ending::of(signalled(libc::SIGTERM), false), Ending::Stopped);
        assert_eq!(
            Ending::of(ExitStatus::from_raw(3 << 8), false),
            Ending::Exited(ExitCode::SomeFailed)
        );
    }

    #[test]
    fn child_that_ends_by_itself_is_not_restarted() {
        let judge = |ending| Restarts::of_run().judge(ending, true);
        assert_eq!(
            judge(Ending::Exited(ExitCode::Error)),
            Verdict::Exit(ExitCode::Error)
        );
        assert_eq!(judge(Ending::Stopped), Verdict::Exit(ExitCode::Interrupted));
    }

    #[test]
    fn crashes_without_jobs_end_soon_and_crashes_with_jobs_go_on() {
        let mut restarts = Restarts::of_run();
        for _ in 0..100 {
            assert_eq!(
                restarts.judge(Ending::Crashed(libc::SIGSEGV), true),
                Verdict::Restart
            );
        }
        let verdicts: Vec<Verdict> = (0..3)
            .map(|_| restarts.judge(Ending::Crashed(libc::SIGSEGV), false))
            .collect();
        assert_eq!(
            verdicts,
            [Verdict::Restart, Verdict::Restart, Verdict::GiveUp]
        );
    }

    #[test]
    fn who_kills_it_again_and_again_means_it() {
        let mut restarts = Restarts::of_run();
        let restarted = (0..20)
            .take_while(|_| restarts.judge(Ending::Killed(9), true) == Verdict::Restart)
            .count();
        assert_eq!(restarted, 9);
    }
}
