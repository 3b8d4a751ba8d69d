//! Whether somebody else needs the machine: what other processes use of its processors, and when somebody last typed.
//!
//! Owns the reading of what Linux tells, and the judgement, which is pure.

use std::time::{Duration, Instant, SystemTime};

/// Others that use more than this share of all processors need the machine.
const BUSY_SHARE: f64 = 0.25;
/// Whoever typed so lately is still there.
const TYPED: Duration = Duration::from_secs(5 * 60);
/// It must have been calm for so long.
const CALM: Duration = Duration::from_secs(60);

/// Processor time since the start of the system, in ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Machine {
    busy: u64,
    all: u64,
    /// Of this process.
    own: u64,
}

impl Machine {
    /// What the system tells now; `None` where it tells nothing.
    pub fn look() -> Option<Machine> {
        let machine = std::fs::read_to_string("/proc/stat").ok()?;
        let own = std::fs::read_to_string("/proc/self/stat").ok()?;
        Machine::read(&machine, &own)
    }

    fn read(machine: &str, own: &str) -> Option<Machine> {
        let line = machine.lines().find_map(|line| line.strip_prefix("cpu "))?;
        let times: Vec<u64> = line
            .split_whitespace()
            .map_while(|time| time.parse().ok())
            .collect();
        // user, nice, system, idle, iowait, irq, softirq, steal; guests are in the first two.
        let [user, nice, system, idle, wait, irq, softirq, steal, ..] = times[..] else {
            return None;
        };
        let busy = user + nice + system + irq + softirq + steal;
        // Behind the name, which may hold anything, the 12th and 13th are user and system time.
        let (_, fields) = own.rsplit_once(") ")?;
        let mut fields = fields.split_whitespace().skip(11);
        let mut next = || fields.next()?.parse::<u64>().ok();
        Some(Machine {
            busy,
            all: busy + idle + wait,
            own: next()? + next()?,
        })
    }

    /// What other processes used of all processors since then, from 0 to 1.
    pub fn share_of_others_since(&self, before: &Machine) -> f64 {
        let busy = self.busy.saturating_sub(before.busy);
        let own = self.own.saturating_sub(before.own);
        match self.all.saturating_sub(before.all) {
            0 => 0.0,
            all => busy.saturating_sub(own) as f64 / all as f64,
        }
    }
}

/// How long ago somebody typed at a terminal of this machine.
pub fn typed_ago() -> Option<Duration> {
    let terminals = ["/dev/pts", "/dev"].iter().flat_map(std::fs::read_dir);
    let entries = terminals.flatten().flatten().filter(|entry| {
        let (folder, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        let numbered = name.trim_start_matches("tty").parse::<u32>().is_ok();
        numbered && (name.starts_with("tty") || folder.starts_with("/dev/pts"))
    });
    let now = SystemTime::now();
    let ago = entries.filter_map(|entry| {
        let read = entry.metadata().ok()?.accessed().ok()?;
        Some(now.duration_since(read).unwrap_or_default())
    });
    ago.min()
}

/// Whether the machine has been calm for long enough. It takes a minute to believe it, and a moment to stop.
#[derive(Debug, Default)]
pub struct Calm {
    since: Option<Instant>,
}

impl Calm {
    /// Notes what was seen: the share that others use, how long ago somebody typed, and whether somebody sits at a desktop.
    pub fn note(
        &mut self,
        now: Instant,
        share_of_others: f64,
        typed_ago: Option<Duration>,
        desk: bool,
    ) {
        let typed = typed_ago.is_some_and(|ago| ago < TYPED);
        let used = share_of_others > BUSY_SHARE || typed || desk;
        match used {
            true => self.since = None,
            false => {
                self.since.get_or_insert(now);
            }
        }
    }

    /// Whether nobody needs the machine.
    pub fn holds(&self, now: Instant) -> bool {
        self.since
            .is_some_and(|since| now.duration_since(since) >= CALM)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = "12 (a) b) S 1 12 12 0 -1 4194560 100 0 0 0 30 10 0 0 20 0 9";

    #[test]
    fn what_others_use_is_what_is_used_less_our_own() {
        let before = Machine::read("cpu  100 0 50 800 50 0 0 0 0 0\ncpu0 1", OWN).unwrap();
        assert_eq!((before.busy, before.all, before.own), (150, 1000, 40));
        let own = OWN.replace(" 30 10 ", " 70 20 ");
        let now = Machine::read("cpu  200 0 60 850 50 0 0 0 0 0", &own).unwrap();
        // 110 of 160 ticks were used, 50 of them by this process.
        assert_eq!(now.share_of_others_since(&before), 60.0 / 160.0);
        assert_eq!(now.share_of_others_since(&now), 0.0);
    }

    #[test]
    fn this_system_tells() {
        assert!(Machine::look().is_some());
    }

    #[test]
    fn calm_is_believed_late_and_its_end_at_once() {
        let began = Instant::now();
        let at = |seconds: u64| began + Duration::from_secs(seconds);
        let mut calm = Calm::default();
        assert!(!calm.holds(began));
        calm.note(began, 0.1, None, false);
        assert!(!calm.holds(at(59)));
        assert!(calm.holds(at(60)));
        calm.note(at(61), 0.1, Some(Duration::from_secs(10)), false);
        assert!(!calm.holds(at(61)));
        calm.note(at(62), 0.0, Some(Duration::from_secs(600)), false);
        assert!(calm.holds(at(122)));
        calm.note(at(123), 0.5, None, false);
        assert!(!calm.holds(at(123)));
        calm.note(at(124), 0.0, None, false);
        assert!(calm.holds(at(184)));
        calm.note(at(185), 0.0, None, true);
        assert!(!calm.holds(at(185)));
    }
}
