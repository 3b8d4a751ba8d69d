//! The prompts of a run, as they are at its tick: copied into one file without a name, so that they can be read twice.

use super::settings::ScheduleSettings;
use crate::http::OWNER;
use crate::roots::{Roots, RootsError};
use rbee_queue::file::{Purpose, StoredFile};
use rbee_queue::schedule::{PromptSource, Schedule};
use rbee_queue::store::Store;
use rbee_queue::{FileId, ScheduleId, StoreError};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes of all prompts of a run, as of any input.
const MAX_INPUT_BYTES: u64 = 64 << 30;
/// Bytes copied at once.
const COPY_BYTES: usize = 1 << 18;
/// What some editors write before the first line.
const BOM: &[u8] = b"\xef\xbb\xbf";

/// Why there are no prompts.
#[derive(Debug, thiserror::Error)]
pub(super) enum GatherError {
    /// Files may not be read, or are not there.
    #[error(transparent)]
    Roots(#[from] RootsError),
    /// A pattern names nothing.
    #[error("no file is named by {pattern}")]
    Nothing { pattern: String },
    /// A file that was sent to the server is there no more.
    #[error("the file {0} is not there any more: it was deleted, or its time is over")]
    Gone(FileId),
    /// It went while it was read.
    #[error("the file {0} was deleted while it was read")]
    Cut(FileId),
    /// More than any input may have.
    #[error("the prompts have more than {MAX_INPUT_BYTES} bytes: split them")]
    TooLarge,
    /// Files cannot be copied.
    #[error("the prompts cannot be copied to the server's spool directory: {0}")]
    Spool(io::Error),
    /// A file cannot be read.
    #[error("{path} cannot be read: {source}", path = .path.display())]
    Read { path: PathBuf, source: io::Error },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An error inside rbee.
    #[error("copying the prompts ended by an error: {0}")]
    Task(#[from] tokio::task::JoinError),
}

impl GatherError {
    /// It may go a little later.
    pub fn is_temporary(&self) -> bool {
        match self {
            GatherError::Roots(error) => error.is_temporary(),
            GatherError::Nothing { .. } | GatherError::Gone(_) | GatherError::TooLarge => false,
            GatherError::Read { .. }
            | GatherError::Cut(_)
            | GatherError::Spool(_)
            | GatherError::Task(_) => true,
            GatherError::Store(error) => error.is_temporary(),
        }
    }
}

/// All prompts of a schedule in one file, from its first byte on.
pub(super) async fn gather(
    store: &Arc<dyn Store>,
    settings: &ScheduleSettings,
    schedule: &Schedule,
) -> Result<File, GatherError> {
    match &schedule.plan.source {
        PromptSource::Files { pattern } => {
            let (roots, spool) = (settings.roots.clone(), settings.spool.clone());
            let pattern = pattern.clone();
            tokio::task::spawn_blocking(move || copy_files(&roots, &spool, &pattern)).await?
        }
        PromptSource::Kept { .. } => kept(store, &settings.spool, &schedule.id).await,
        PromptSource::Uploaded { file, .. } => uploaded(store, &settings.spool, file).await,
    }
}

/// A file that was sent to the server, where schedules may read it: their batches are the server's own, and so must it be.
pub(crate) async fn uploaded_file(
    store: &Arc<dyn Store>,
    id: &FileId,
) -> Result<Option<StoredFile>, StoreError> {
    let found = store.file_get(id).await?;
    Ok(found.filter(|file| file.owner == OWNER && file.purpose == Purpose::Batch))
}

async fn uploaded(store: &Arc<dyn Store>, spool: &Path, id: &FileId) -> Result<File, GatherError> {
    let found = uploaded_file(store, id).await?;
    let found = found.ok_or_else(|| GatherError::Gone(id.clone()))?;
    let mut file = tempfile::tempfile_in(spool).map_err(GatherError::Spool)?;
    let mut read = 0;
    for piece in 0.. {
        let Some(bytes) = store.file_kept(id, piece).await? else {
            break;
        };
        file.write_all(&bytes).map_err(GatherError::Spool)?;
        read += bytes.len() as u64;
    }
    if found.bytes.is_some_and(|bytes| bytes != read) {
        return Err(GatherError::Cut(id.clone()));
    }
    file.seek(SeekFrom::Start(0)).map_err(GatherError::Spool)?;
    Ok(file)
}

async fn kept(store: &Arc<dyn Store>, spool: &Path, id: &ScheduleId) -> Result<File, GatherError> {
    let mut file = tempfile::tempfile_in(spool).map_err(GatherError::Spool)?;
    let mut piece = 0;
    while let Some(bytes) = store.schedule_kept(id, piece).await? {
        file.write_all(&bytes).map_err(GatherError::Spool)?;
        piece += 1;
    }
    file.seek(SeekFrom::Start(0)).map_err(GatherError::Spool)?;
    Ok(file)
}

fn copy_files(roots: &Roots, spool: &Path, pattern: &str) -> Result<File, GatherError> {
    let files = roots.matches(pattern)?;
    if files.is_empty() {
        return Err(GatherError::Nothing {
            pattern: pattern.to_owned(),
        });
    }
    let mut all = Gathered {
        file: tempfile::tempfile_in(spool).map_err(GatherError::Spool)?,
        bytes: 0,
        last: b'\n',
    };
    for path in files {
        let mut source = roots.open(&path)?;
        all.add(&mut source, &path)?;
    }
    all.file
        .seek(SeekFrom::Start(0))
        .map_err(GatherError::Spool)?;
    Ok(all.file)
}

struct Gathered {
    file: File,
    bytes: u64,
    last: u8,
}

impl Gathered {
    /// Adds a file, on a line of its own.
    fn add(&mut self, source: &mut impl Read, path: &Path) -> Result<(), GatherError> {
        if self.last != b'\n' {
            self.write(b"\n")?;
        }
        let mut buffer = vec![0; COPY_BYTES];
        let mut first = self.bytes > 0;
        loop {
            let read = source.read(&mut buffer);
            let count = read.map_err(|source| GatherError::Read {
                path: path.to_owned(),
                source,
            })?;
            let mut piece = &buffer[..count];
            if count == 0 {
                return Ok(());
            }
            // The reader knows it in front of all lines only.
            if first {
                piece = piece.strip_prefix(BOM).unwrap_or(piece);
                first = false;
            }
            self.write(piece)?;
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), GatherError> {
        self.bytes += bytes.len() as u64;
        if self.bytes > MAX_INPUT_BYTES {
            return Err(GatherError::TooLarge);
        }
        self.last = bytes.last().copied().unwrap_or(self.last);
        self.file.write_all(bytes).map_err(GatherError::Spool)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_follow_each_other_line_by_line() {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("1.jsonl", "\u{feff}{\"a\":1}"),
            ("2.jsonl", "\u{feff}{\"b\":1}\r\n"),
            ("3.jsonl", ""),
            ("4.jsonl", "{\"c\":1}"),
        ] {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let roots = Roots::new(&[dir.path().to_owned()]).unwrap();
        let pattern = dir.path().join("*.jsonl").display().to_string();
        let mut text = String::new();
        copy_files(&roots, dir.path(), &pattern)
            .unwrap()
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!(text, "\u{feff}{\"a\":1}\n{\"b\":1}\r\n{\"c\":1}");
        let none = dir.path().join("*.txt").display().to_string();
        let error = copy_files(&roots, dir.path(), &none).unwrap_err();
        assert!(!error.is_temporary() && error.to_string().contains("*.txt"));
    }
}
