//! A small file system of its own, where mounting is allowed.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A file system in memory. It goes with this.
pub struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    /// Mounts one over a folder, which is made if it is not there. `None` where mounting is refused.
    pub fn mount(path: &Path, size: &str) -> Option<SmallDisk> {
        std::fs::create_dir_all(path).expect("a folder can be made");
        let size = format!("size={size}");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(path)
            .output();
        let path = path.to_owned();
        mounted
            .is_ok_and(|output| output.status.success())
            .then_some(SmallDisk { path })
    }

    /// Gives it another size.
    pub fn grow(&self, size: &str) {
        let size = format!("remount,size={size}");
        let grown = Command::new("mount")
            .args(["-o", &size])
            .arg(&self.path)
            .status();
        assert!(grown.is_ok_and(|status| status.success()), "remount");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Nothing to be done about a failure here; the folder's removal will name it.
        let _ = Command::new("umount").arg("-l").arg(&self.path).status();
    }
}
