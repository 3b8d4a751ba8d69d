//! One file on its way into the store: a partial file that grows, is digested as it grows, and is renamed to its
//! final name only when it is whole, verified and on the disk.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

use super::error::ModelError;

/// Bytes read at once when a partial file is digested again.
const READ_BYTES: usize = 1 << 20;

/// What a file must turn out to be.
#[derive(Debug, Clone)]
pub struct Expected {
    /// The file's name for messages.
    pub what: String,
    pub sha256: Option<[u8; 32]>,
    /// Hex git object id, for hub files that are not in large-file storage.
    pub git_oid: Option<String>,
    pub bytes: u64,
}

impl Expected {
    /// A name for the partial file and its lock that is the same for every pull of the same bytes.
    pub fn key(&self) -> String {
        match (&self.sha256, &self.git_oid) {
            (Some(digest), _) => hex::encode(digest),
            (None, oid) => format!("git-{}-{}", oid.as_deref().unwrap_or("unknown"), self.bytes),
        }
    }

    fn describe(&self) -> String {
        match (&self.sha256, &self.git_oid) {
            (Some(digest), _) => format!("sha256 {}", hex::encode(digest)),
            (None, Some(oid)) => format!("git object {oid}"),
            (None, None) => format!("{} bytes", self.bytes),
        }
    }
}

/// The outcome of comparing a whole partial file with what it must be.
#[derive(Debug, PartialEq, Eq)]
pub enum Check {
    /// It is right; this is its sha256.
    Good([u8; 32]),
    Wrong {
        expected: String,
        found: String,
    },
}

/// What is remembered beside a partial file, so that a later process can ask the server for the rest.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Origin {
    #[serde(default)]
    etag: Option<String>,
}

/// A file that is not whole yet.
#[derive(Debug)]
pub struct Partial {
    file: File,
    path: PathBuf,
    expected: Expected,
    sha256: Sha256,
    git: Sha1,
    len: u64,
    origin: Origin,
}

impl Partial {
    /// Opens or creates the partial file and digests what is there. Reads the whole file: call it where blocking is
    /// allowed, and with the lock of its key held.
    pub fn open(dir: &Path, expected: Expected) -> Result<Partial, ModelError> {
        let path = dir.join(format!("{}.partial", expected.key()));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(|e| ModelError::io("cannot open", &path, e))?;
        let origin = std::fs::read(origin_path(&path))
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or_default();
        let git = git_start(expected.bytes);
        let mut partial = Partial {
            file,
            path,
            expected,
            sha256: Sha256::new(),
            git,
            len: 0,
            origin,
        };
        partial.digest_existing()?;
        Ok(partial)
    }

    fn digest_existing(&mut self) -> Result<(), ModelError> {
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let read = self
                .file
                .read(&mut buffer)
                .map_err(|e| ModelError::io("cannot read", &self.path, e))?;
            if read == 0 {
                break;
            }
            self.digest(&buffer[..read]);
        }
        // Longer than the whole: it cannot be a beginning of it.
        if self.len > self.expected.bytes {
            self.restart()
        } else {
            Ok(())
        }
    }

    fn digest(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        self.git.update(bytes);
        self.len += bytes.len() as u64;
    }

    pub fn len(&self) -> u64 {
        self.len
    }

    pub fn expected(&self) -> &Expected {
        &self.expected
    }

    /// The strong entity tag that the server gave for what is there.
    pub fn etag(&self) -> Option<&str> {
        self.origin.etag.as_deref()
    }

    /// Remembers the entity tag of the bytes that follow.
    pub fn set_etag(&mut self, etag: Option<String>) -> Result<(), ModelError> {
        if self.origin.etag == etag {
            return Ok(());
        }
        self.origin = Origin { etag };
        let path = origin_path(&self.path);
        let text = serde_json::to_vec(&self.origin).expect("one optional string is always JSON");
        std::fs::write(&path, text).map_err(|e| ModelError::io("cannot write", &path, e))
    }

    /// Appends; more than the expected size is refused before it is written.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), ModelError> {
        if self.len + bytes.len() as u64 > self.expected.bytes {
            return Err(ModelError::WrongContent {
                what: self.expected.what.clone(),
                origin: "its source".to_owned(),
                expected: format!("{} bytes", self.expected.bytes),
                found: "it is longer".to_owned(),
            });
        }
        self.file
            .write_all(bytes)
            .map_err(|e| ModelError::io("cannot write", &self.path, e))?;
        self.digest(bytes);
        Ok(())
    }

    /// Throws away what is there.
    pub fn restart(&mut self) -> Result<(), ModelError> {
        self.file
            .set_len(0)
            .map_err(|e| ModelError::io("cannot truncate", &self.path, e))?;
        self.file
            .seek(SeekFrom::Start(0))
            .map_err(|e| ModelError::io("cannot seek in", &self.path, e))?;
        self.sha256 = Sha256::new();
        self.git = git_start(self.expected.bytes);
        self.len = 0;
        self.set_etag(None)
    }

    /// Compares what is there with what it must be.
    pub fn check(&self) -> Check {
        let sha256: [u8; 32] = self.sha256.clone().finalize().into();
        let wrong = |found: String| Check::Wrong {
            expected: self.expected.describe(),
            found,
        };
        if self.len != self.expected.bytes {
            let expected = format!("{} bytes", self.expected.bytes);
            return Check::Wrong {
                expected,
                found: format!("it has {} bytes", self.len),
            };
        }
        match (&self.expected.sha256, &self.expected.git_oid) {
            (Some(expected), _) if *expected != sha256 => {
                wrong(format!("its sha256 is {}", hex::encode(sha256)))
            }
            (None, Some(expected)) => {
                let oid = hex::encode(self.git.clone().finalize());
                if *expected == oid {
                    Check::Good(sha256)
                } else {
                    wrong(format!("its git object id is {oid}"))
                }
            }
            _ => Check::Good(sha256),
        }
    }

    /// Makes the checked file a blob: synced, read-only, renamed. Blocks on the disk.
    pub fn install(self, blobs: &Path, sha256: &[u8; 32]) -> Result<PathBuf, ModelError> {
        let target = blobs.join(hex::encode(sha256));
        let failed = |e| ModelError::io("cannot finish", &self.path, e);
        self.file
            .set_permissions(std::fs::Permissions::from_mode(0o444))
            .map_err(failed)?;
        self.file.sync_all().map_err(failed)?;
        std::fs::rename(&self.path, &target).map_err(failed)?;
        sync_dir(blobs)?;
        self.forget_origin();
        Ok(target)
    }

    /// Removes the partial file: its bytes were wrong, or the store has them already.
    pub fn discard(self) {
        // A file that cannot be removed is found and digested again by the next pull; nothing else depends on it.
        let _ = std::fs::remove_file(&self.path);
        self.forget_origin();
    }

    fn forget_origin(&self) {
        let _ = std::fs::remove_file(origin_path(&self.path));
    }
}

fn origin_path(partial: &Path) -> PathBuf {
    partial.with_extension("origin.json")
}

/// Git digests a blob as `blob <length>\0` and its bytes.
fn git_start(bytes: u64) -> Sha1 {
    let mut git = Sha1::new();
    git.update(format!("blob {bytes}\0"));
    git
}

/// Makes a rename in `dir` durable.
pub fn sync_dir(dir: &Path) -> Result<(), ModelError> {
    File::open(dir)
        .and_then(|handle| handle.sync_all())
        .map_err(|e| ModelError::io("cannot sync", dir, e))
}

/// sha256 and length of a file, read from its beginning to its end.
pub fn digest_file(
    path: &Path,
    mut on_bytes: impl FnMut(u64),
) -> Result<([u8; 32], u64), ModelError> {
    let failed = |e| ModelError::io("cannot read", path, e);
    let mut file = File::open(path).map_err(failed)?;
    let mut buffer = vec![0; READ_BYTES];
    let (mut hasher, mut len) = (Sha256::new(), 0);
    loop {
        let read = file.read(&mut buffer).map_err(failed)?;
        if read == 0 {
            return Ok((hasher.finalize().into(), len));
        }
        hasher.update(&buffer[..read]);
        len += read as u64;
        on_bytes(read as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expected(content: &[u8]) -> Expected {
        let sha256 = Some(Sha256::digest(content).into());
        Expected {
            what: "x".into(),
            sha256,
            git_oid: None,
            bytes: content.len() as u64,
        }
    }

    #[test]
    fn partial_goes_on_where_an_earlier_process_stopped() {
        let dir = tempfile::tempdir().unwrap();
        let mut first = Partial::open(dir.path(), expected(b"hello world")).unwrap();
        first.append(b"hello").unwrap();
        first.set_etag(Some("\"v1\"".into())).unwrap();
        drop(first);
        let mut second = Partial::open(dir.path(), expected(b"hello world")).unwrap();
        assert_eq!((second.len(), second.etag()), (5, Some("\"v1\"")));
        second.append(b" world").unwrap();
        let Check::Good(sha256) = second.check() else {
            panic!("not good")
        };
        let blob = second.install(dir.path(), &sha256).unwrap();
        assert_eq!(std::fs::read(&blob).unwrap(), b"hello world");
        assert_eq!(
            std::fs::metadata(&blob).unwrap().permissions().mode() & 0o777,
            0o444
        );
        assert_eq!(
            std::fs::read_dir(dir.path()).unwrap().count(),
            1,
            "only the blob is left"
        );
    }

    #[test]
    fn wrong_short_and_long_content_is_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let mut partial = Partial::open(dir.path(), expected(b"right")).unwrap();
        partial.append(b"wron").unwrap();
        assert!(matches!(partial.check(), Check::Wrong { .. }));
        partial.append(b"g").unwrap();
        assert!(matches!(partial.check(), Check::Wrong { .. }));
        assert!(partial.append(b"x").is_err());
        partial.restart().unwrap();
        partial.append(b"right").unwrap();
        assert!(matches!(partial.check(), Check::Good(_)));
    }

    #[test]
    fn git_object_id_is_gits() {
        // `printf hello | git hash-object --stdin`
        let oid = "b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0".to_owned();
        let dir = tempfile::tempdir().unwrap();
        let expected = Expected {
            what: "x".into(),
            sha256: None,
            git_oid: Some(oid),
            bytes: 5,
        };
        let mut partial = Partial::open(dir.path(), expected).unwrap();
        partial.append(b"hello").unwrap();
        assert!(matches!(partial.check(), Check::Good(_)));
        partial.restart().unwrap();
        partial.append(b"hellO").unwrap();
        assert!(matches!(partial.check(), Check::Wrong { .. }));
    }
}
