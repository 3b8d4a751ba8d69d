//! Putting files in their places: whole or not at all, and nothing before it is known that all of them can be written.

use std::fs::Permissions;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::{Access, access};

/// Whether all of these files could be written by this user, in folders that may have to be made.
///
/// # Errors
/// The first folder that it may not write to.
pub fn check_writable<'a>(paths: impl Iterator<Item = &'a Path>) -> Result<(), PathBuf> {
    for path in paths {
        let there = path.ancestors().skip(1).find(|folder| folder.exists());
        let Some(folder) = there else {
            return Err(path.to_owned());
        };
        if !folder.is_dir() || access(folder, Access::WRITE_OK | Access::EXEC_OK).is_err() {
            return Err(folder.to_owned());
        }
    }
    Ok(())
}

/// Writes a file that appears whole, with this mode. `false`: it was there already, the same.
pub fn write_file(path: &Path, bytes: &[u8], mode: u32) -> Result<bool> {
    if is_the_same(path, bytes, mode) {
        return Ok(false);
    }
    put(path, bytes, mode).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(true)
}

fn put(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    // What only its owner may read lies in a folder that only its owner may enter.
    let folder_mode = if mode & 0o077 == 0 { 0o700 } else { 0o755 };
    (std::fs::DirBuilder::new().recursive(true).mode(folder_mode)).create(folder)?;
    let mut draft = tempfile::Builder::new()
        .prefix(".rbee-")
        .tempfile_in(folder)?;
    draft.write_all(bytes)?;
    draft
        .as_file()
        .set_permissions(Permissions::from_mode(mode))?;
    draft.as_file().sync_all()?;
    draft.persist(path).map_err(|error| error.error)?;
    Ok(())
}

fn is_the_same(path: &Path, bytes: &[u8], mode: u32) -> bool {
    let found = std::fs::symlink_metadata(path);
    found.is_ok_and(|found| {
        found.is_file()
            && found.len() == bytes.len() as u64
            && found.permissions().mode() & 0o7777 == mode
            && std::fs::read(path).is_ok_and(|there| there == bytes)
    })
}

/// Removes a file. `false`: it was not there.
pub fn remove(path: &Path) -> Result<bool> {
    match std::fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).with_context(|| format!("cannot remove {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_appear_whole_with_their_mode_and_equal_ones_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/file");
        check_writable([path.as_path()].into_iter()).unwrap();
        assert!(write_file(&path, b"one", 0o600).unwrap());
        assert!(!write_file(&path, b"one", 0o600).unwrap());
        assert!(write_file(&path, b"one", 0o644).unwrap());
        assert!(write_file(&path, b"two", 0o644).unwrap());
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        let mode = std::fs::metadata(path.parent().unwrap())
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o700);
        assert!(remove(&path).unwrap() && !remove(&path).unwrap());
        // A file stands where a folder should be.
        std::fs::write(&path, b"").unwrap();
        assert!(check_writable([path.join("x").as_path()].into_iter()).is_err());
    }
}
