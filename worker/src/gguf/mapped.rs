//! One file mapped into memory for reading, with what is needed to notice that it changed.

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use memmap2::{Mmap, UncheckedAdvice};

use super::error::Problem;

/// A regular file, mapped read-only. Also used for safetensors.
#[derive(Debug)]
pub struct MappedFile {
    path: PathBuf,
    map: Mmap,
    modified: Option<SystemTime>,
}

impl MappedFile {
    /// Maps the file.
    ///
    /// # Errors
    /// It cannot be read, or is not a regular file (a pipe would block, a device has no size).
    pub fn open(path: &Path) -> Result<MappedFile, Problem> {
        // Looked at before opening: opening a named pipe would wait for a writer.
        if !std::fs::metadata(path)?.is_file() {
            return Err(Problem::NotAFile);
        }
        let file = File::open(path)?;
        let modified = file.metadata()?.modified().ok();
        // SAFETY: the map is private to this process and read-only, and Rust code only ever sees it as bytes, for
        // which every value is valid. What cannot be excluded is that another process changes or shortens the file
        // meanwhile: bytes would change under a `&[u8]`, or a touch of a lost page would raise SIGBUS. Files of the
        // model store are 0444 and replaced by rename only, never in place; for a user's own file `check_unchanged`
        // turns a change into an error as early as it can be seen, and a shortened one ends the process, not the data.
        #[expect(unsafe_code, reason = "files are mapped")]
        let map = unsafe { Mmap::map(&file)? };
        Ok(MappedFile {
            path: path.to_path_buf(),
            map,
            modified,
        })
    }

    pub fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// Drops the whole pages within the range from this process's memory; they are read again when touched.
    pub fn release(&self, range: Range<usize>) {
        const PAGE: usize = 4096;
        let start = range.start.next_multiple_of(PAGE);
        let end = range.end / PAGE * PAGE;
        if start < end && end <= self.map.len() {
            // SAFETY: the map is file-backed and never written, so that dropped pages come back with the same bytes.
            // A failure only leaves the pages where they are.
            #[expect(unsafe_code, reason = "files are mapped")]
            let _ = unsafe {
                self.map
                    .unchecked_advise_range(UncheckedAdvice::DontNeed, start, end - start)
            };
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// # Errors
    /// [`Problem::Changed`] when size or modification time differ from those at opening, or the file is gone.
    pub fn check_unchanged(&self) -> Result<(), Problem> {
        let now = std::fs::metadata(&self.path).map_err(|_| Problem::Changed)?;
        if now.len() != self.map.len() as u64 || now.modified().ok() != self.modified {
            return Err(Problem::Changed);
        }
        Ok(())
    }
}
