//! Archives whose bytes depend on nothing but what is in them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};
use flate2::{Compression, GzBuilder};
use tar::{Builder, EntryType, Header};

/// A file or a folder in an archive.
pub struct Entry {
    pub path: String,
    pub mode: u32,
    /// None of a folder.
    pub bytes: Option<Vec<u8>>,
}

impl Entry {
    pub fn file(path: &str, bytes: Vec<u8>, mode: u32) -> Entry {
        Entry {
            path: path.to_owned(),
            mode,
            bytes: Some(bytes),
        }
    }

    pub fn folder(path: &str) -> Entry {
        Entry {
            path: path.to_owned(),
            mode: 0o755,
            bytes: None,
        }
    }

    /// The same in a folder.
    pub fn below(self, folder: &str) -> Entry {
        Entry {
            path: format!("{folder}/{}", self.path),
            ..self
        }
    }
}

/// Everything in a folder, the folders too, with paths from there.
pub fn walk(folder: &Path) -> Result<Vec<Entry>> {
    let (mut entries, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(next) = folders.pop() {
        for found in
            fs::read_dir(&next).with_context(|| format!("cannot read {}", next.display()))?
        {
            let path = found?.path();
            let name = super::relative(&path, folder)?;
            if path.is_dir() {
                entries.push(Entry::folder(&name));
                folders.push(path);
            } else {
                let mode = fs::metadata(&path)?.permissions().mode() & 0o777;
                entries.push(Entry::file(&name, fs::read(&path)?, mode));
            }
        }
    }
    Ok(entries)
}

/// A compressed tar of the entries, in the order of their names.
pub fn tar_gz(mut entries: Vec<Entry>, time: u64) -> Result<Vec<u8>> {
    entries.sort_by(|one, other| one.path.cmp(&other.path));
    // No name and no time in gzip's own header.
    let gzip = GzBuilder::new()
        .mtime(0)
        .write(Vec::new(), Compression::best());
    let mut tar = Builder::new(gzip);
    for entry in entries {
        let mut header = Header::new_gnu();
        let bytes = entry.bytes.as_deref().unwrap_or_default();
        header.set_size(bytes.len() as u64);
        header.set_mode(entry.mode);
        header.set_mtime(time);
        header.set_uid(0);
        header.set_gid(0);
        header.set_username("root")?;
        header.set_groupname("root")?;
        let path = match entry.bytes {
            Some(_) => {
                header.set_entry_type(EntryType::Regular);
                entry.path
            }
            None => {
                header.set_entry_type(EntryType::Directory);
                entry.path + "/"
            }
        };
        tar.append_data(&mut header, &path, bytes)?;
    }
    Ok(tar.into_inner()?.finish()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_entries_make_equal_archives_in_any_order() {
        let entries = |turn: bool| {
            let mut entries = vec![
                Entry::folder("a"),
                Entry::file("a/b", b"b".to_vec(), 0o755),
                Entry::file("c", b"c".to_vec(), 0o644),
            ];
            if turn {
                entries.reverse();
            }
            entries
        };
        let archive = tar_gz(entries(false), 7).unwrap();
        assert_eq!(archive, tar_gz(entries(true), 7).unwrap());
        let mut tar = tar::Archive::new(flate2::read::GzDecoder::new(&archive[..]));
        let names: Vec<String> = (tar.entries().unwrap())
            .map(|entry| entry.unwrap().path().unwrap().display().to_string())
            .collect();
        assert_eq!(names, ["a/", "a/b", "c"]);
    }
}
