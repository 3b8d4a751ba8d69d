//! Temporary folders that killed test runs left behind: a Postgres each, with all of its data.

use std::path::Path;

use anyhow::Result;

use crate::say;

/// The beginning of the folders' names, as `test-services/src/folder.rs` makes them; their owner's process id follows.
const PREFIX: &str = "rbee-test-";
/// Where the system shows its processes.
const PROCESSES: &str = "/proc";

/// Removes the folders whose owners live no more.
///
/// # Errors
/// When nothing can be said.
pub fn remove() -> Result<()> {
    if !Path::new(PROCESSES).is_dir() {
        return Ok(());
    }
    match remove_from(&std::env::temp_dir()) {
        0 => Ok(()),
        removed => say(&format!("removed {removed} folders of killed test runs")),
    }
}

/// How many were removed.
fn remove_from(folder: &Path) -> usize {
    let found = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let left = found.filter(|entry| {
        let name = entry.file_name();
        let owner = name.to_str().and_then(owner);
        owner.is_some_and(|owner| !Path::new(PROCESSES).join(owner.to_string()).exists())
    });
    // Another run may remove one just now, or it is another user's.
    left.filter(|entry| std::fs::remove_dir_all(entry.path()).is_ok())
        .count()
}

/// The process whose folder has this name.
fn owner(name: &str) -> Option<u32> {
    let (owner, _) = name.strip_prefix(PREFIX)?.split_once('-')?;
    owner.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folder_names_its_owner() {
        assert_eq!(owner("rbee-test-471-x2Yz"), Some(471));
        for other in ["rbee-test-x-y", "rbee-test-471", "471-x", "rbee-postgres"] {
            assert_eq!(owner(other), None, "{other}");
        }
    }

    #[test]
    fn folders_of_the_dead_go_and_those_of_the_living_stay() {
        let own = std::process::id();
        let folder = std::env::temp_dir().join(format!("{PREFIX}{own}-leftovers"));
        let living = format!("{PREFIX}{own}-x/data");
        // No process has such a number.
        let dead = format!("{PREFIX}{}-x/data", u32::MAX);
        for name in [&living, &dead, &"other".to_owned()] {
            std::fs::create_dir_all(folder.join(name)).unwrap();
        }
        assert_eq!(remove_from(&folder), 1);
        assert!(folder.join(living).exists() && folder.join("other").exists());
        std::fs::remove_dir_all(folder).unwrap();
    }
}
