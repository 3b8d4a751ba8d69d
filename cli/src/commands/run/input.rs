//! The prompts of a run: a file, or what came through a pipe, spooled so that it can be read twice.
//!
//! Owns where the bytes are; what they mean belongs to `rbee_queue::jsonl`.

use std::fs::File;
use std::io::{self, BufReader, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::failure::Failure;
use crate::output::DASH;
use crate::paths::DataDir;
use crate::progress::{ByteProgress, ShownRead};
use crate::talk::Talk;

/// Bytes read at once.
const READ_BUFFER_BYTES: usize = 1 << 18;

/// The prompts, readable from the start as often as needed, by one reader at a time.
#[derive(Debug)]
pub struct Input {
    file: File,
    path: Option<PathBuf>,
    /// What it is called, if not by its path.
    label: Option<String>,
}

impl Input {
    /// Prompts that were put together in a file without a name.
    pub fn gathered(file: File, label: String) -> Input {
        Input {
            file,
            path: None,
            label: Some(label),
        }
    }

    /// What the parent process spooled for this one: a file on stdin.
    pub fn spooled() -> Result<Input, Failure> {
        let file =
            stdin_file().context("cannot read the prompts that the parent process spooled")?;
        Ok(Input::read_once(file))
    }

    fn read_once(file: File) -> Input {
        Input {
            file,
            path: None,
            label: None,
        }
    }

    /// The spool, for a child process; `None` if the prompts lie in a file that the child can open itself.
    pub fn into_spooled(self) -> Option<File> {
        self.path.is_none().then_some(self.file)
    }

    /// Opens the file that `given` names. stdin, pipes and devices are read to their end first, into a file without a
    /// name that only this process can read.
    pub fn open(given: &Path, data: &DataDir) -> Result<Input, Failure> {
        if given.as_os_str() == DASH {
            let file = spool(&mut io::stdin().lock(), data)
                .context("cannot read the prompts from stdin")?;
            return Ok(Input::read_once(file));
        }
        let name = given.display();
        let mut file = File::open(given).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Failure::usage(format!(
                "there is no file {name}: check the path of the prompts"
            )),
            _ => Failure::Program(anyhow::Error::new(error).context(format!("cannot read {name}"))),
        })?;
        let found = file
            .metadata()
            .with_context(|| format!("cannot read {name}"))?;
        if found.is_dir() {
            return Err(Failure::usage(format!(
                "{name} is a directory: name a file of prompts"
            )));
        }
        if !found.is_file() {
            let file = spool(&mut file, data)
                .with_context(|| format!("cannot read the prompts from {name}"))?;
            return Ok(Input::read_once(file));
        }
        Ok(Input {
            file,
            path: Some(given.to_owned()),
            label: None,
        })
    }

    /// Where the prompts lie, unless they came through a pipe.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// What the batch is called in listings.
    pub fn name(&self) -> String {
        match (&self.label, self.path.as_deref().and_then(Path::file_name)) {
            (Some(label), _) => label.clone(),
            (None, Some(name)) => name.to_string_lossy().into_owned(),
            (None, None) => "stdin".to_owned(),
        }
    }

    /// The prompts from their first byte on, with a progress bar that says `verb`. An earlier reader must not be used
    /// any more.
    pub fn reader(&self, talk: &Talk, verb: &str) -> io::Result<BufReader<ShownRead<File>>> {
        let mut file = self.file.try_clone()?;
        file.seek(SeekFrom::Start(0))?;
        let label = format!("{verb} {}", self.name());
        let progress = ByteProgress::new(talk, &label, file.metadata()?.len());
        Ok(BufReader::with_capacity(
            READ_BUFFER_BYTES,
            ShownRead::new(file, progress),
        ))
    }
}

/// stdin as a file of its own.
fn stdin_file() -> io::Result<File> {
    Ok(File::from(io::stdin().as_fd().try_clone_to_owned()?))
}

fn spool(from: &mut dyn io::Read, data: &DataDir) -> Result<File> {
    let mut file = tempfile::tempfile_in(data.spool()?).context("cannot spool them")?;
    io::copy(from, &mut file)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn text(input: &Input) -> String {
        let mut text = String::new();
        input
            .reader(&Talk::new(true), "reading")
            .unwrap()
            .read_to_string(&mut text)
            .unwrap();
        text
    }

    #[test]
    fn file_is_read_again_from_its_start() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(Some(dir.path())).unwrap();
        let path = dir.path().join("prompts.jsonl");
        std::fs::write(&path, "a\nb\n").unwrap();
        let input = Input::open(&path, &data).unwrap();
        assert_eq!(
            (text(&input), text(&input)),
            ("a\nb\n".to_owned(), "a\nb\n".to_owned())
        );
        assert_eq!(
            (input.name(), input.path()),
            ("prompts.jsonl".to_owned(), Some(path.as_path()))
        );
    }

    #[test]
    fn what_can_be_read_once_is_spooled_and_leaves_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(Some(dir.path())).unwrap();
        let file = spool(&mut "a\nb\n".as_bytes(), &data).unwrap();
        let input = Input::read_once(file);
        assert_eq!(
            (text(&input), text(&input)),
            ("a\nb\n".to_owned(), "a\nb\n".to_owned())
        );
        assert_eq!(input.name(), "stdin");
        assert_eq!(std::fs::read_dir(data.spool().unwrap()).unwrap().count(), 0);
    }

    #[test]
    fn missing_file_is_wrong_usage() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(Some(dir.path())).unwrap();
        let failure = Input::open(&dir.path().join("absent"), &data).unwrap_err();
        assert!(matches!(failure, Failure::Usage(_)), "{failure:?}");
        let failure = Input::open(dir.path(), &data).unwrap_err();
        assert!(matches!(failure, Failure::Usage(_)), "{failure:?}");
    }
}
