//! The output file: absent or complete, never partial.
//!
//! Owns the temporary name, the sync and the rename, and the check that output and input differ.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// Bytes gathered before a write.
const WRITE_BUFFER_BYTES: usize = 256 * 1024;

/// Why an output file was not written. Nothing is left behind.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// The disk is full.
    #[error("the disk of {path} is full: nothing was written there; make room and run the same command again", path = .path.display())]
    DiskFull {
        /// The file that was to be.
        path: PathBuf,
    },
    /// Any other failure of the file system.
    #[error("{path} cannot be written: {source}", path = .path.display())]
    Io {
        /// The file that was to be.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The path is that of a directory.
    #[error("{path} is a directory: name a file", path = .path.display())]
    Directory {
        /// The path.
        path: PathBuf,
    },
}

impl OutputError {
    /// Tells a full disk from other failures.
    pub fn new(path: &Path, source: io::Error) -> OutputError {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                OutputError::DiskFull { path }
            }
            _ => OutputError::Io { path, source },
        }
    }
}

/// A file under construction. Dropped before [`finish`](Self::finish), it leaves nothing.
#[derive(Debug)]
pub struct OutputFile {
    path: PathBuf,
    temporary: PathBuf,
    writer: Option<BufWriter<File>>,
}

impl OutputFile {
    /// Opens a temporary file beside `path` (beside its target, if it is a symbolic link).
    pub fn create(path: &Path) -> Result<OutputFile, OutputError> {
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        if path.is_dir() {
            return Err(OutputError::Directory { path });
        }
        let name = path
            .file_name()
            .ok_or_else(|| OutputError::Directory { path: path.clone() })?;
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{}.part", uuid::Uuid::now_v7().simple()));
        let temporary = path.with_file_name(hidden);
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&temporary)
            .map_err(|error| OutputError::new(&path, error))?;
        Ok(OutputFile {
            path,
            temporary,
            writer: Some(BufWriter::with_capacity(WRITE_BUFFER_BYTES, file)),
        })
    }

    /// Appends a line and its end.
    pub fn write_line(&mut self, line: &str) -> Result<(), OutputError> {
        let writer = self
            .writer
            .as_mut()
            .expect("the writer is taken by finish only");
        writer
            .write_all(line.as_bytes())
            .and_then(|()| writer.write_all(b"\n"))
            .map_err(|error| OutputError::new(&self.path, error))
    }

    /// Syncs the file and gives it its name, replacing what stood there.
    pub fn finish(mut self) -> Result<(), OutputError> {
        self.put_in_place()
            .map_err(|error| OutputError::new(&self.path, error))
    }

    fn put_in_place(&mut self) -> io::Result<()> {
        let writer = self.writer.take().expect("finish consumes the file");
        let file = writer
            .into_inner()
            .map_err(io::IntoInnerError::into_error)?;
        if let Ok(old) = fs::metadata(&self.path) {
            // A replaced file keeps its permissions; failing to is no reason to lose results.
            let _ = file.set_permissions(old.permissions());
        }
        file.sync_all()?;
        drop(file);
        fs::rename(&self.temporary, &self.path)?;
        let parent = self
            .path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty());
        File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
    }
}

impl Drop for OutputFile {
    fn drop(&mut self) {
        if self.writer.take().is_some() || self.temporary.exists() {
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

/// True if both paths lead to one existing file, by whatever name or link.
pub fn is_same_file(one: &Path, other: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (fs::metadata(one), fs::metadata(other)) {
        (Ok(one), Ok(other)) => one.dev() == other.dev() && one.ino() == other.ino(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unfinished_file_leaves_nothing_and_the_old_one_untouched() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.jsonl");
        fs::write(&path, "old").unwrap();
        let mut file = OutputFile::create(&path).unwrap();
        file.write_line("new").unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
        drop(file);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
    }

    #[test]
    fn finished_file_replaces_the_old_one_through_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.jsonl");
        let link = dir.path().join("link.jsonl");
        fs::write(&path, "old").unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let mut file = OutputFile::create(&link).unwrap();
        file.write_line("a").unwrap();
        file.write_line("b").unwrap();
        file.finish().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "a\nb\n");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn full_disk_is_its_own_error() {
        // /dev/full stands for a full disk wherever it exists.
        let Ok(full) = OpenOptions::new().write(true).open("/dev/full") else {
            return;
        };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.jsonl");
        let mut file = OutputFile::create(&path).unwrap();
        file.writer = Some(BufWriter::new(full));
        file.write_line("a").unwrap();
        let error = file.finish().unwrap_err();
        assert!(matches!(error, OutputError::DiskFull { .. }), "{error}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn hard_links_and_dots_are_the_same_file() {
        let dir = tempfile::tempdir().unwrap();
        let one = dir.path().join("a");
        let other = dir.path().join("b");
        fs::write(&one, "").unwrap();
        fs::hard_link(&one, &other).unwrap();
        assert!(is_same_file(&one, &other));
        assert!(is_same_file(&one, &dir.path().join("./a")));
        fs::write(dir.path().join("c"), "").unwrap();
        assert!(!is_same_file(&one, &dir.path().join("c")));
        assert!(!is_same_file(&one, &dir.path().join("absent")));
    }
}
