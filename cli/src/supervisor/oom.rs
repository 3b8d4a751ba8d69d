//! Out-of-memory kills in this process's control group, as the kernel counts them (cgroup v2; elsewhere none are seen).

use std::path::Path;

/// How many there were; `None` where the kernel does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OomKills(Option<u64>);

impl OomKills {
    /// Reads the count of this process's group.
    pub fn read() -> OomKills {
        OomKills(read_events().as_deref().and_then(count))
    }

    /// Whether one was counted since `before`.
    pub fn more_than(&self, before: &OomKills) -> bool {
        matches!((self.0, before.0), (Some(now), Some(then)) if now > then)
    }
}

fn read_events() -> Option<String> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let group = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    std::fs::read_to_string(
        Path::new("/sys/fs/cgroup")
            .join(group)
            .join("memory.events"),
    )
    .ok()
}

fn count(events: &str) -> Option<u64> {
    events
        .lines()
        .find_map(|line| line.strip_prefix("oom_kill "))?
        .trim()
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn count_is_found_among_the_other_events() {
        assert_eq!(
            count("low 0\noom 3\noom_kill 2\noom_group_kill 0\n"),
            Some(2)
        );
        assert_eq!(count("low 0\n"), None);
        assert!(OomKills(Some(3)).more_than(&OomKills(Some(2))));
        assert!(!OomKills(None).more_than(&OomKills(Some(2))));
    }
}
