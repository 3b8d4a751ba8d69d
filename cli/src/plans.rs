//! Plans that were made on this machine, kept so that a batch can be held against its own.
//!
//! A plan lies in the data directory under the key that a run or a submit of the same input gives its batch.

use std::path::Path;
use std::time::SystemTime;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::paths::DataDir;

/// Plans that are kept: the newest.
const MOST_KEPT: usize = 200;

/// Keeps a plan under a key, which is hex digits.
pub fn keep(data: &DataDir, key: &str, plan: &Value) -> Result<()> {
    let folder = data.plans()?;
    let path = folder.join(format!("{key}.json"));
    std::fs::write(&path, plan.to_string())
        .with_context(|| format!("cannot write {}", path.display()))?;
    forget_old(&folder);
    Ok(())
}

/// The plan that was made for a batch with this key.
pub fn of(data: &DataDir, key: Option<&str>) -> Option<Value> {
    let key = key.filter(|key| key.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
    let path = data.plans().ok()?.join(format!("{key}.json"));
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

/// What cannot be deleted now is tried again with the next plan.
fn forget_old(folder: &Path) {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut plans: Vec<(SystemTime, std::path::PathBuf)> = entries
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .collect();
    plans.sort_unstable();
    let excess = plans.len().saturating_sub(MOST_KEPT);
    for (_, path) in plans.drain(..excess) {
        let _ = std::fs::remove_file(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_come_back_by_their_keys_and_the_oldest_go() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir::open(Some(folder.path())).unwrap();
        for number in 0..MOST_KEPT + 5 {
            keep(&data, &format!("{number:04x}"), &Value::from(number)).unwrap();
        }
        let last = format!("{:04x}", MOST_KEPT + 4);
        assert_eq!(of(&data, Some(&last)), Some(Value::from(MOST_KEPT + 4)));
        assert_eq!(of(&data, None), None);
        assert_eq!(of(&data, Some("../0000")), None);
        let left = std::fs::read_dir(data.plans().unwrap()).unwrap().count();
        assert_eq!(left, MOST_KEPT);
    }
}
