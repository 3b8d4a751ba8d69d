//! Digests of the user's own files, remembered so that a start on a large file is quick.
//!
//! A remembered digest counts only while the file's device, inode, size, modification time and change time are all
//! equal. The change time cannot be set by a program, so a file that was rewritten with its old modification time is
//! noticed; and a digest is not remembered when the file changed so shortly before hashing that a further write could
//! share its timestamps, or while it was hashed.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::blob::digest_file;
use super::error::ModelError;
use super::manifest::parse_digest;
use super::store::write_atomically;

/// Coarsest timestamps of common file systems.
const TIMESTAMP_GRAIN: Duration = Duration::from_secs(2);

/// What identifies one state of one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    path: PathBuf,
    device: u64,
    inode: u64,
    bytes: u64,
    modified_ns: i128,
    changed_ns: i128,
}

#[derive(Debug, Serialize, Deserialize)]
struct Remembered {
    stamp: Stamp,
    sha256: String,
}

fn stamp(path: &Path) -> Result<Stamp, ModelError> {
    let meta = std::fs::metadata(path).map_err(|e| ModelError::io("cannot read", path, e))?;
    let nanoseconds =
        |seconds: i64, nanos: i64| i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
    Ok(Stamp {
        path: path.to_path_buf(),
        device: meta.dev(),
        inode: meta.ino(),
        bytes: meta.size(),
        modified_ns: nanoseconds(meta.mtime(), meta.mtime_nsec()),
        changed_ns: nanoseconds(meta.ctime(), meta.ctime_nsec()),
    })
}

/// sha256 and size of a file, from memory if it is unchanged. `hashing` hears the size before a file is read, then
/// each piece. `path` should be canonical. Blocks on the disk.
pub fn digest(
    cache_dir: &Path,
    path: &Path,
    hashing: &mut dyn FnMut(Hashing),
) -> Result<([u8; 32], u64), ModelError> {
    let entry = cache_dir.join(format!(
        "{}.json",
        hex::encode(Sha256::digest(path.as_os_str().as_encoded_bytes()))
    ));
    let before = stamp(path)?;
    if let Some(known) = recall(&entry, &before) {
        return Ok((known, before.bytes));
    }
    hashing(Hashing::Begins {
        bytes: before.bytes,
    });
    let started = SystemTime::now();
    let (sha256, bytes) = digest_file(path, |read| hashing(Hashing::Read { bytes: read }))?;
    let after = stamp(path)?;
    if after != before || bytes != before.bytes {
        let reason =
            "it changed while it was read; leave model files alone while they load".to_owned();
        return Err(ModelError::NotAModel {
            path: path.to_path_buf(),
            reason,
        });
    }
    if settled(&before, started) {
        let text = serde_json::to_vec(&Remembered {
            stamp: before,
            sha256: hex::encode(sha256),
        })
        .expect("a stamp of numbers and a UTF-8 path is JSON");
        // Without the entry the next start is slower, and nothing else.
        if let Err(error) = write_atomically(&entry, &text) {
            tracing::debug!(%error, "digest not remembered");
        }
    }
    Ok((sha256, bytes))
}

/// A file of the user's own whose digest is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RememberedFile {
    pub path: PathBuf,
    pub sha256: [u8; 32],
    pub bytes: u64,
}

/// The files whose digests are remembered and that have not changed since.
pub fn remembered(cache_dir: &Path) -> Vec<RememberedFile> {
    let entries = std::fs::read_dir(cache_dir).into_iter().flatten();
    let known = entries.flatten().filter_map(|entry| {
        let text = std::fs::read(entry.path()).ok()?;
        let remembered: Remembered = serde_json::from_slice(&text).ok()?;
        let unchanged = stamp(&remembered.stamp.path).ok()? == remembered.stamp;
        unchanged.then_some(RememberedFile {
            sha256: parse_digest(&remembered.sha256)?,
            bytes: remembered.stamp.bytes,
            path: remembered.stamp.path,
        })
    });
    known.collect()
}

/// What the digesting of a file that is not remembered does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hashing {
    Begins { bytes: u64 },
    Read { bytes: u64 },
}

fn recall(entry: &Path, now: &Stamp) -> Option<[u8; 32]> {
    let text = std::fs::read(entry).ok()?;
    let remembered: Remembered = serde_json::from_slice(&text).ok()?;
    (remembered.stamp == *now)
        .then(|| parse_digest(&remembered.sha256))
        .flatten()
}

/// Whether the last change lies far enough back that another one would show in the timestamps.
fn settled(stamp: &Stamp, started: SystemTime) -> bool {
    let Ok(started) = started.duration_since(SystemTime::UNIX_EPOCH) else {
        return false;
    };
    let limit = started.saturating_sub(TIMESTAMP_GRAIN).as_nanos() as i128;
    stamp.changed_ns < limit && stamp.modified_ns < limit
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remember(dir: &Path, path: &Path) {
        let stamp = stamp(path).unwrap();
        let entry = dir.join(format!(
            "{}.json",
            hex::encode(Sha256::digest(path.as_os_str().as_encoded_bytes()))
        ));
        let text = serde_json::to_vec(&Remembered {
            stamp,
            sha256: "ab".repeat(32),
        })
        .unwrap();
        std::fs::write(entry, text).unwrap();
    }

    fn digest_counting(dir: &Path, path: &Path) -> ([u8; 32], u64) {
        let mut read = 0;
        let (sha256, _) = digest(dir, path, &mut |event| {
            if let Hashing::Read { bytes } = event {
                read += bytes;
            }
        })
        .unwrap();
        (sha256, read)
    }

    #[test]
    fn unchanged_file_is_not_read_again_and_changed_one_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.gguf");
        std::fs::write(&path, b"one").unwrap();
        remember(dir.path(), &path);
        assert_eq!(
            digest_counting(dir.path(), &path),
            ([0xab; 32], 0),
            "the remembered digest is used"
        );

        let modified = std::fs::metadata(&path).unwrap().modified().unwrap();
        let before = stamp(&path).unwrap();
        // Until the file system's clock has ticked: a change within one tick is what `settled` is for.
        while stamp(&path).unwrap().changed_ns == before.changed_ns {
            std::fs::write(&path, b"two").unwrap();
            let file = std::fs::File::options().write(true).open(&path).unwrap();
            file.set_modified(modified).unwrap();
        }
        let (sha256, read) = digest_counting(dir.path(), &path);
        assert_eq!(
            (sha256, read),
            (Sha256::digest(b"two").into(), 3),
            "same size and mtime, but rewritten"
        );
    }

    #[test]
    fn file_changed_a_moment_ago_is_not_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.gguf");
        std::fs::write(&path, b"fresh").unwrap();
        digest_counting(dir.path(), &path);
        assert_eq!(digest_counting(dir.path(), &path).1, 5, "read again");
        let old = stamp(&path).unwrap();
        assert!(settled(&old, SystemTime::now() + Duration::from_secs(10)));
        assert!(!settled(&old, SystemTime::now()));
    }
}
