//! The clock of leases: it goes on while the machine sleeps, and nobody can set it.

use std::time::Duration;

/// Time since the machine started, sleep included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(Duration);

impl Moment {
    /// Now.
    pub fn now() -> Moment {
        // Elsewhere the monotonic clock is the one that counts sleep.
        #[cfg(target_os = "linux")]
        let clock = libc::CLOCK_BOOTTIME;
        #[cfg(not(target_os = "linux"))]
        let clock = libc::CLOCK_MONOTONIC;
        let mut time = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // SAFETY: `time` is a valid timespec that outlives the call, which writes nothing else.
        #[expect(unsafe_code, reason = "a system call")]
        let answer = unsafe { libc::clock_gettime(clock, &mut time) };
        assert_eq!(answer, 0, "every supported system has this clock");
        Moment(Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
    }

    /// So much later.
    pub fn after(self, time: Duration) -> Moment {
        Moment(self.0.saturating_add(time))
    }

    /// How far it lies ahead; nothing once it has come.
    pub fn left(self) -> Duration {
        self.0.saturating_sub(Moment::now().0)
    }

    /// As a number that can be kept in an atomic.
    pub fn as_nanos(self) -> u64 {
        u64::try_from(self.0.as_nanos()).unwrap_or(u64::MAX)
    }

    /// From that number.
    pub fn from_nanos(nanos: u64) -> Moment {
        Moment(Duration::from_nanos(nanos))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moment_ahead_is_left_and_one_behind_is_not() {
        let now = Moment::now();
        assert_eq!(now.left(), Duration::ZERO);
        let ahead = now.after(Duration::from_secs(60));
        assert!(ahead.left() > Duration::from_secs(50) && ahead > now);
        assert_eq!(Moment::from_nanos(now.as_nanos()), now);
    }
}
