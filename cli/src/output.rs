//! Where results go: stdout, or a file that is absent or complete and never in between.
//!
//! Owns paths, temporary names and syncing; what is written is the caller's.

use std::ffi::OsString;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::failure::{Failure, stdout_failure};

/// What stands for stdin or stdout on the command line.
pub const DASH: &str = "-";

/// Bytes gathered before a write.
const WRITE_BUFFER_BYTES: usize = 1 << 18;

/// A place for results, chosen and checked before anything is computed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    Stdout,
    /// A regular file, there or not: replaced as a whole.
    File(PathBuf),
    /// A device, a pipe or a socket: written as the data comes.
    Stream(PathBuf),
}

impl Target {
    /// The target that `given` names. Symbolic links are followed, so that the link stays and its file is replaced.
    pub fn new(given: &Path) -> Result<Target, Failure> {
        if given.as_os_str() == DASH {
            return Ok(Target::Stdout);
        }
        let path = std::fs::canonicalize(given).unwrap_or_else(|_| given.to_owned());
        match std::fs::metadata(&path) {
            Ok(found) if found.is_dir() => Err(Failure::usage(format!(
                "{} is a directory: name a file for the results",
                given.display()
            ))),
            Ok(found) if is_stream(&found) => Ok(Target::Stream(path)),
            _ => Ok(Target::File(path)),
        }
    }

    /// The regular file's path, if it is one.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Target::File(path) => Some(path),
            Target::Stdout | Target::Stream(_) => None,
        }
    }

    /// Fails if a file could not be put there, before hours are spent on what should go in.
    pub fn check_writable(&self) -> Result<()> {
        if let Target::File(path) = self {
            WholeFile::create(path)?;
        }
        Ok(())
    }

    /// Whether writing here would destroy `other`, or be destroyed by it.
    pub fn is_same_as(&self, other: &Path) -> bool {
        let Target::File(path) = self else {
            return false;
        };
        match (std::fs::metadata(path), std::fs::metadata(other)) {
            (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
            (Err(_), Err(_)) => absolute(path) == absolute(other),
            _ => false,
        }
    }

    /// Opens it for writing.
    pub fn open(&self) -> Result<Sink> {
        Ok(match self {
            Target::Stdout => {
                Sink::Stdout(BufWriter::with_capacity(WRITE_BUFFER_BYTES, io::stdout()))
            }
            Target::File(path) => Sink::File(WholeFile::create(path)?),
            Target::Stream(path) => {
                let file = OpenOptions::new().write(true).open(path);
                let file = file.with_context(|| format!("cannot write to {}", path.display()))?;
                Sink::Stream(
                    BufWriter::with_capacity(WRITE_BUFFER_BYTES, file),
                    path.clone(),
                )
            }
        })
    }
}

fn is_stream(found: &Metadata) -> bool {
    let kind = found.file_type();
    kind.is_char_device() || kind.is_block_device() || kind.is_fifo() || kind.is_socket()
}

/// The path with its directory made canonical, for files that are not there yet.
fn absolute(path: &Path) -> PathBuf {
    let parent = directory_of(path);
    let parent = std::fs::canonicalize(&parent).unwrap_or(parent);
    parent.join(path.file_name().unwrap_or_default())
}

fn directory_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// An open target. Nothing counts before [`Sink::finish`].
pub enum Sink {
    Stdout(BufWriter<io::Stdout>),
    Stream(BufWriter<File>, PathBuf),
    File(WholeFile),
}

impl Sink {
    /// A file without a name, from which the lines are read back.
    pub fn spool(file: File) -> Sink {
        let out = BufWriter::with_capacity(WRITE_BUFFER_BYTES, file);
        Sink::Stream(out, PathBuf::from("a temporary file"))
    }

    /// Writes one result line, without its newline.
    pub fn line(&mut self, line: &str) -> Result<(), Failure> {
        let write = |out: &mut dyn Write| {
            out.write_all(line.as_bytes())
                .and_then(|()| out.write_all(b"\n"))
        };
        let done = match self {
            Sink::Stdout(out) => write(out),
            Sink::Stream(out, _) => write(out),
            Sink::File(file) => write(&mut file.out),
        };
        done.map_err(|error| self.failure(error))
    }

    /// Writes result lines as they are, their ends included.
    pub fn lines(&mut self, lines: &[u8]) -> Result<(), Failure> {
        let done = match self {
            Sink::Stdout(out) => out.write_all(lines),
            Sink::Stream(out, _) => out.write_all(lines),
            Sink::File(file) => file.out.write_all(lines),
        };
        done.map_err(|error| self.failure(error))
    }

    /// Hands over what is buffered, where somebody may be reading it.
    pub fn flush(&mut self) -> Result<(), Failure> {
        let done = match self {
            Sink::Stdout(out) => out.flush(),
            Sink::Stream(out, _) => out.flush(),
            Sink::File(_) => Ok(()),
        };
        done.map_err(|error| self.failure(error))
    }

    /// Hands over what is buffered; a file appears under its name now.
    pub fn finish(mut self) -> Result<(), Failure> {
        let flushed = match &mut self {
            Sink::Stdout(out) => out.flush(),
            Sink::Stream(out, _) => out.flush(),
            Sink::File(file) => file.publish(),
        };
        flushed.map_err(|error| self.failure(error))
    }

    fn failure(&self, error: io::Error) -> Failure {
        let path = match self {
            Sink::Stdout(_) => return stdout_failure(error),
            Sink::Stream(_, _) if error.kind() == io::ErrorKind::BrokenPipe => {
                return Failure::ReaderGone;
            }
            Sink::Stream(_, path) => path,
            Sink::File(file) => &file.path,
        };
        let path = path.display();
        let advice = match error.kind() {
            io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge => {
                "; no result is lost: make room, or name another file, and run the same command again"
            }
            _ => "",
        };
        Failure::Program(anyhow::anyhow!("cannot write {path}: {error}{advice}"))
    }
}

/// A file that is written beside its place and moved there when it is whole.
///
/// The temporary name is the same each time and held by a lock, so that what a killed process left is used again
/// instead of piling up, and two processes never mix their lines.
pub struct WholeFile {
    path: PathBuf,
    part: PathBuf,
    out: BufWriter<File>,
    published: bool,
}

impl WholeFile {
    fn create(path: &Path) -> Result<WholeFile> {
        let mut name = OsString::from(".");
        name.push(
            path.file_name()
                .with_context(|| format!("{} names no file", path.display()))?,
        );
        name.push(".rbee-part");
        let part = directory_of(path).join(name);
        let file = open_locked(&part, path)?;
        if let Ok(old) = std::fs::metadata(path) {
            // The file that is replaced may be readable by fewer people than a new one would be. Where the mode
            // cannot be carried over (a file system without modes), the new file keeps its own.
            let _ = file.set_permissions(old.permissions());
        }
        let out = BufWriter::with_capacity(WRITE_BUFFER_BYTES, file);
        Ok(WholeFile {
            path: path.to_owned(),
            part,
            out,
            published: false,
        })
    }

    fn publish(&mut self) -> io::Result<()> {
        self.out.flush()?;
        self.out.get_ref().sync_all()?;
        std::fs::rename(&self.part, &self.path)?;
        self.published = true;
        File::open(directory_of(&self.path))?.sync_all()
    }
}

impl Drop for WholeFile {
    fn drop(&mut self) {
        if !self.published {
            let _ = std::fs::remove_file(&self.part);
        }
    }
}

/// Opens the temporary file empty and locked; `path` is what it will become.
fn open_locked(part: &Path, path: &Path) -> Result<File> {
    loop {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
            .open(part)
            .with_context(|| format!("cannot write {}", path.display()))?;
        file.try_lock().map_err(|_| {
            anyhow::anyhow!(
                "another rbee is writing {} just now: wait for it, or name another file",
                path.display()
            )
        })?;
        // Between opening and locking the other process may have moved the file to its final name: emptying it
        // then would destroy finished results.
        let opened = file
            .metadata()
            .with_context(|| format!("cannot read {}", part.display()))?;
        let named = std::fs::symlink_metadata(part);
        if named.is_ok_and(|named| (named.dev(), named.ino()) == (opened.dev(), opened.ino())) {
            file.set_len(0)
                .with_context(|| format!("cannot write {}", path.display()))?;
            return Ok(file);
        }
    }
}

/// `dir/prompts.jsonl` gives `dir/prompts.results.jsonl`.
pub fn default_results_path(input: &Path) -> PathBuf {
    let mut name = input.file_stem().unwrap_or_default().to_owned();
    name.push(".results.jsonl");
    input.with_file_name(name)
}

#[cfg(test)]
#[path = "output_tests.rs"]
mod tests;
