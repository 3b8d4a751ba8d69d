//! How much memory the control groups of this process leave it: what containers and services are bounded by.

use std::path::{Path, PathBuf};

/// What the control groups' limits leave.
pub fn left() -> Option<u64> {
    let own = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    limits_leave(Path::new("/sys/fs/cgroup"), &own)
}

/// What the limits of a process's groups leave; `None` where there is no limit. `own` is its `/proc/self/cgroup`. A
/// limit holds for all groups below it too: the tightest counts. Version 2 has one tree at `root`, version 1 one of its
/// own for memory.
fn limits_leave(root: &Path, own: &str) -> Option<u64> {
    let version_1 = root.join("memory");
    own.lines()
        .filter_map(|line| {
            let (_, rest) = line.split_once(':')?;
            match rest.split_once(':')? {
                ("", group) => tightest(root, group, ["memory.max", "memory.current"]),
                (kinds, group) if kinds.split(',').any(|kind| kind == "memory") => {
                    let files = ["memory.limit_in_bytes", "memory.usage_in_bytes"];
                    tightest(&version_1, group, files)
                }
                _ => None,
            }
        })
        .min()
}

/// The least that a group or one above it leaves. In a container the root of the tree is the container's own group,
/// and what the process calls its group may not be there.
fn tightest(root: &Path, group: &str, [limit, usage]: [&str; 2]) -> Option<u64> {
    let number =
        |path: PathBuf| -> Option<u64> { std::fs::read_to_string(path).ok()?.trim().parse().ok() };
    let group = Path::new(group.trim_start_matches('/'));
    group
        .ancestors()
        .filter_map(|group| {
            let folder = root.join(group);
            // Where there is no limit it says `max`, which is no number.
            let most = number(folder.join(limit))?;
            let used = number(folder.join(usage))?;
            let cache = file_cache(&folder.join("memory.stat")).unwrap_or(0);
            Some(most.saturating_sub(used.saturating_sub(cache)))
        })
        .min()
}

/// Page cache in the group's use, which the kernel gives back when memory is short.
fn file_cache(stat: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(stat).ok()?;
    text.lines()
        .find_map(|line| line.strip_prefix("inactive_file "))?
        .trim()
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        dir
    }

    #[test]
    fn tightest_limit_of_the_groups_above_counts_and_cache_is_free() {
        let dir = tree(&[
            ("a.slice/memory.max", "1000\n"),
            ("a.slice/memory.current", "300\n"),
            ("a.slice/memory.stat", "anon 1\ninactive_file 100\n"),
            ("a.slice/b.service/memory.max", "max\n"),
            ("a.slice/b.service/memory.current", "200\n"),
            ("c.slice/memory.max", "5\n"),
            ("c.slice/memory.current", "9\n"),
        ]);
        let left = |own: &str| limits_leave(dir.path(), own);
        assert_eq!(left("0::/a.slice/b.service\n"), Some(800));
        assert_eq!(left("0::/c.slice\n"), Some(0));
        assert_eq!(left("0::/other\n"), None);
        assert_eq!(left(""), None);
    }

    #[test]
    fn container_sees_its_own_group_as_the_root_of_the_tree() {
        let dir = tree(&[("memory.max", "700"), ("memory.current", "100")]);
        assert_eq!(limits_leave(dir.path(), "0::/docker/0123\n"), Some(600));
        assert_eq!(limits_leave(dir.path(), "0::/\n"), Some(600));
    }

    #[test]
    fn version_1_has_a_tree_of_its_own_for_memory() {
        let dir = tree(&[
            ("memory/job/memory.limit_in_bytes", "900"),
            ("memory/job/memory.usage_in_bytes", "50"),
            ("cpu/job/memory.limit_in_bytes", "1"),
            ("cpu/job/memory.usage_in_bytes", "0"),
        ]);
        let own = "3:cpu,cpuacct:/job\n2:memory:/job\n0::/\n";
        assert_eq!(limits_leave(dir.path(), own), Some(850));
    }
}
