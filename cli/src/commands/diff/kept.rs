//! Lines of one side whose counterpart has not come yet: by what they are matched under.
//!
//! Owns where they wait: in memory up to a limit, then in a file without a name, so that two orders which have nothing
//! in common cost memory for a digest a line only.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use sha2::{Digest, Sha256};

/// Bytes of lines of one side that wait in memory.
const HELD_BYTES: usize = 32 << 20;
/// Bytes of a digest that lines are found by: enough that no two names are ever taken for one.
const DIGEST_BYTES: usize = 16;

/// What lines are matched under.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Name([u8; DIGEST_BYTES]);

impl Name {
    /// The name that a line's own id gives.
    pub fn of_id(id: &str) -> Name {
        Name::new(b"id", id)
    }

    /// The name that its request gives.
    pub fn of_job(key: &str) -> Name {
        Name::new(b"job", key)
    }

    fn new(kind: &[u8], text: &str) -> Name {
        let mut hash = Sha256::new();
        hash.update(kind);
        hash.update(b"\n");
        hash.update(text);
        let digest: [u8; 32] = hash.finalize().into();
        let mut name = [0; DIGEST_BYTES];
        name.copy_from_slice(&digest[..DIGEST_BYTES]);
        Name(name)
    }
}

/// A line that waits.
#[derive(Debug)]
struct Waiting {
    /// How many lines of its side came before it.
    place: u64,
    line: Line,
}

#[derive(Debug)]
enum Line {
    Held(Box<str>),
    Spilled { at: u64, bytes: usize },
}

/// The waiting lines of one side.
#[derive(Debug, Default)]
pub struct Kept {
    lines: HashMap<Name, Waiting>,
    held_bytes: usize,
    spilled: Option<File>,
    spilled_bytes: u64,
}

impl Kept {
    /// Keeps a line. False: another one waits under the same name.
    pub fn put(&mut self, name: Name, place: u64, line: &str, spool: &Path) -> io::Result<bool> {
        if self.lines.contains_key(&name) {
            return Ok(false);
        }
        let line = match self.held_bytes + line.len() <= HELD_BYTES {
            true => {
                self.held_bytes += line.len();
                Line::Held(line.into())
            }
            false => self.spill(line, spool)?,
        };
        self.lines.insert(name, Waiting { place, line });
        Ok(true)
    }

    fn spill(&mut self, line: &str, spool: &Path) -> io::Result<Line> {
        let file = match &mut self.spilled {
            Some(file) => file,
            None => self.spilled.insert(tempfile::tempfile_in(spool)?),
        };
        let at = self.spilled_bytes;
        file.seek(SeekFrom::Start(at))?;
        file.write_all(line.as_bytes())?;
        self.spilled_bytes += line.len() as u64;
        Ok(Line::Spilled {
            at,
            bytes: line.len(),
        })
    }

    /// Takes the line that waits under a name, with its place.
    pub fn take(&mut self, name: &Name) -> io::Result<Option<(u64, String)>> {
        let Some(waiting) = self.lines.remove(name) else {
            return Ok(None);
        };
        let line = match waiting.line {
            Line::Held(line) => {
                self.held_bytes -= line.len();
                line.into_string()
            }
            Line::Spilled { at, bytes } => {
                let file = self.spilled.as_mut().expect("a line was spilled into it");
                file.seek(SeekFrom::Start(at))?;
                let mut line = vec![0; bytes];
                file.read_exact(&mut line)?;
                String::from_utf8(line).map_err(io::Error::other)?
            }
        };
        Ok(Some((waiting.place, line)))
    }

    /// The names of all that wait, in the order of their places.
    pub fn names(&self) -> Vec<Name> {
        let mut names: Vec<(u64, Name)> = self
            .lines
            .iter()
            .map(|(name, waiting)| (waiting.place, *name))
            .collect();
        names.sort_unstable_by_key(|(place, _)| *place);
        names.into_iter().map(|(_, name)| name).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_back_from_memory_and_from_the_file() {
        let spool = tempfile::tempdir().unwrap();
        let mut kept = Kept {
            held_bytes: HELD_BYTES - 3,
            ..Kept::default()
        };
        let names = ["a", "b", "c"].map(Name::of_id);
        for (place, (name, line)) in names.iter().zip(["abc", "défg", "h"]).enumerate() {
            assert!(kept.put(*name, place as u64, line, spool.path()).unwrap());
        }
        assert!(!kept.put(names[0], 9, "x", spool.path()).unwrap());
        assert_eq!(kept.names(), names);
        assert_eq!(kept.take(&names[1]).unwrap(), Some((1, "défg".to_owned())));
        assert_eq!(kept.take(&names[0]).unwrap(), Some((0, "abc".to_owned())));
        assert_eq!(kept.take(&names[0]).unwrap(), None);
        assert_eq!(kept.take(&names[2]).unwrap(), Some((2, "h".to_owned())));
        assert_eq!(std::fs::read_dir(spool.path()).unwrap().count(), 0);
    }

    #[test]
    fn an_id_and_a_job_of_the_same_text_are_two_names() {
        assert_ne!(Name::of_id("a"), Name::of_job("a"));
    }
}
