//! Models by their sha256 alone: found on this machine, or fetched from other machines of the cluster.
//!
//! Every file travels as a blob under its own sha256 (`GET /v1/models/blobs/<sha256>`). A model of several files is
//! the blob of its manifest's text (see [`super::manifest`]), whose sha256 is the model's: so it is verified like any
//! other, and names the blobs of its files.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::blob::Expected;
use super::download::{Download, Meter};
use super::error::ModelError;
use super::http::Http;
use super::hub_options::{HubOptions, Token};
use super::manifest::{
    FileRecord, MANIFEST_VERSION, Manifest, ModelKind, identity, manifest_text, parse_digest,
};
use super::retry::Patience;
use super::safe_name::is_safe_component;
use super::store::ModelStore;
use super::{ModelFiles, PullProgress, ResolvedModel, hash_cache, local, lock};

/// A manifest's text is a line a file.
const TEXT_BYTES_MAX: u64 = 1 << 20;
/// Blobs that claim to be larger are refused.
const BLOB_BYTES_MAX: u64 = 1 << 42;

/// A machine that may have a model.
#[derive(Debug, Clone)]
pub struct Origin {
    /// The base URL of its HTTP face.
    pub base: String,
    /// What it wants to see.
    pub token: Option<Token>,
}

/// What a blob on this machine is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Blob {
    /// A file.
    File(PathBuf),
    /// The text that lists the files of a model.
    Text(String),
}

impl ModelStore {
    /// The model of this identity, if its files are on this machine: in the store, or one of the user's own files that
    /// was used before and has not changed.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn find_by_sha(&self, sha256: &[u8; 32]) -> Result<Option<ResolvedModel>, ModelError> {
        let wanted = hex::encode(sha256);
        let stored = self.manifests()?.into_iter();
        if let Some(model) = stored
            .filter(|manifest| manifest.sha256 == wanted)
            .find_map(|manifest| self.present(manifest))
        {
            return Ok(Some(model));
        }
        let path = match self.blob_file(sha256) {
            Some(path) if is_gguf(&path) => path,
            _ => return Ok(None),
        };
        let bytes = std::fs::metadata(&path)
            .map_err(|e| ModelError::io("cannot read", &path, e))?
            .len();
        Ok(Some(ResolvedModel {
            requested: nameless(&wanted),
            sha256: *sha256,
            files: ModelFiles::Gguf(vec![path]),
            revision: None,
            bytes,
        }))
    }

    /// The file of this sha256, if it is on this machine.
    pub fn blob_file(&self, sha256: &[u8; 32]) -> Option<PathBuf> {
        let stored = self.layout.blob(&hex::encode(sha256));
        if stored.is_file() {
            return Some(stored);
        }
        let remembered = hash_cache::remembered(&self.layout.hashes());
        let found = remembered.into_iter().find(|file| file.sha256 == *sha256);
        found.map(|file| file.path)
    }

    /// What others get under this sha256.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn blob(&self, sha256: &[u8; 32]) -> Result<Option<Blob>, ModelError> {
        if let Some(path) = self.blob_file(sha256) {
            return Ok(Some(Blob::File(path)));
        }
        let wanted = hex::encode(sha256);
        let manifest = (self.manifests()?.into_iter()).find(|found| found.sha256 == wanted);
        Ok(manifest.map(|manifest| Blob::Text(manifest_text(&manifest.files))))
    }

    /// What a server needs of the model at a path of the user's own: its files, and the list of them where there are
    /// several, each under its sha256. Blocks while it reads what was not read before.
    ///
    /// # Errors
    /// There is no model, or it cannot be read.
    pub fn own_blobs(&self, path: &Path) -> Result<Vec<([u8; 32], Blob)>, ModelError> {
        let files = local::files(&self.layout.hashes(), path)?;
        let records: Vec<FileRecord> = files.iter().map(|(_, record)| record.clone()).collect();
        let digest = |record: &FileRecord| {
            parse_digest(&record.sha256).expect("a digest that was just written is one")
        };
        let mut blobs: Vec<([u8; 32], Blob)> = files
            .into_iter()
            .map(|(path, record)| (digest(&record), Blob::File(path)))
            .collect();
        let sha256 = identity(&records);
        if !blobs.iter().any(|(found, _)| *found == sha256) {
            blobs.push((sha256, Blob::Text(manifest_text(&records))));
        }
        Ok(blobs)
    }

    /// Identity and size of every model on this machine that [`find_by_sha`](Self::find_by_sha) finds by a manifest or
    /// by an earlier use.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn on_disk(&self) -> Result<Vec<([u8; 32], u64)>, ModelError> {
        let stored = self.list()?.into_iter().filter(|model| model.complete);
        let mut models: Vec<([u8; 32], u64)> = stored
            .filter_map(|model| Some((parse_digest(&model.sha256)?, model.bytes)))
            .collect();
        let own = hash_cache::remembered(&self.layout.hashes()).into_iter();
        models.extend(
            own.filter(|file| is_gguf(&file.path))
                .map(|file| (file.sha256, file.bytes)),
        );
        models.sort_unstable();
        models.dedup_by_key(|model| model.0);
        Ok(models)
    }

    /// Fetches a model from the first machine that has it, and keeps it under `reference` where that is free.
    ///
    /// # Errors
    /// [`ModelError::AllSourcesFailed`] with the reason of each, or what is wrong with this machine's disk.
    pub async fn fetch_by_sha(
        &self,
        sha256: &[u8; 32],
        reference: &str,
        origins: &[Origin],
        progress: &dyn PullProgress,
    ) -> Result<ResolvedModel, ModelError> {
        let _store = lock::shared(&self.layout.store_lock()).await?;
        let mut failures = Vec::new();
        for origin in origins {
            let fetch = Fetch {
                store: self,
                http: Http::new(HubOptions::new(&origin.base, origin.token.clone())?)?,
                progress,
            };
            progress.source(&origin.base);
            let reason = match fetch.model(sha256, reference).await {
                Ok(model) => return Ok(model),
                Err(error @ (ModelError::NoSpace { .. } | ModelError::Io { .. })) => {
                    return Err(error);
                }
                Err(ModelError::Gated { .. } | ModelError::TokenRefused { .. }) => {
                    "RBEE_API_TOKEN is not its token".to_owned()
                }
                Err(error) => error.to_string(),
            };
            progress.note(&format!("not from {}: {reason}", origin.base));
            failures.push(format!("{}: {reason}", origin.base));
        }
        Err(ModelError::AllSourcesFailed {
            alias: nameless(&hex::encode(sha256)),
            failures: failures.join("; "),
        })
    }
}

/// The reference of a model of which nothing but its sha256 is known.
fn nameless(sha256_hex: &str) -> String {
    format!("sha256:{sha256_hex}")
}

fn is_gguf(path: &Path) -> bool {
    let mut magic = [0; 4];
    let read = std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut magic));
    read.is_ok() && magic == *b"GGUF"
}

/// Fetching from one machine.
struct Fetch<'a> {
    store: &'a ModelStore,
    http: Http,
    progress: &'a dyn PullProgress,
}

impl Fetch<'_> {
    async fn model(&self, sha256: &[u8; 32], reference: &str) -> Result<ResolvedModel, ModelError> {
        let digest = hex::encode(sha256);
        let host = super::http::host_of(&self.http.options.endpoint);
        let (path, bytes) = self.blob(sha256, &digest).await?;
        let (kind, files) = if is_gguf(&path) {
            let name = "model.gguf".to_owned();
            let file = FileRecord {
                name,
                sha256: digest.clone(),
                bytes,
            };
            (ModelKind::Gguf, vec![file])
        } else {
            let listed = read_text(&path).and_then(|text| parse_text(&text));
            let listed = listed.ok_or_else(|| ModelError::WrongContent {
                what: nameless(&digest),
                origin: host.clone(),
                expected: "a GGUF file or a list of files".to_owned(),
                found: "it is neither".to_owned(),
            })?;
            let mut files = Vec::with_capacity(listed.len());
            for (name, file_sha256) in listed {
                let (_, bytes) = self.blob(&file_sha256, &name).await?;
                files.push(FileRecord {
                    name,
                    sha256: hex::encode(file_sha256),
                    bytes,
                });
            }
            let split = files.iter().all(|file| file.name.ends_with(".gguf"));
            let kind = if split {
                ModelKind::Gguf
            } else {
                ModelKind::Safetensors
            };
            (kind, files)
        };
        let free = self.store.read_manifest(reference)?.is_none();
        let named = !reference.is_empty() && free;
        self.store.commit(Manifest {
            version: MANIFEST_VERSION,
            reference: if named {
                reference.to_owned()
            } else {
                nameless(&digest)
            },
            kind,
            sha256: hex::encode(identity(&files)),
            revision: None,
            source: host,
            files,
        })
    }

    /// Fetches one blob; what an earlier try left is used.
    async fn blob(&self, sha256: &[u8; 32], what: &str) -> Result<(PathBuf, u64), ModelError> {
        let digest = hex::encode(sha256);
        let target = self.store.layout.blob(&digest);
        let url = self
            .http
            .options
            .url(&["v1", "models", "blobs", digest.as_str()]);
        // The first answer only tells the size.
        let answer = self.http.get(&url, None, what, Patience::Eager).await;
        let answer = answer.map_err(|failure| failure.error)?;
        let bytes = answer.content_length().filter(|len| *len <= BLOB_BYTES_MAX);
        drop(answer);
        let bytes = bytes.ok_or_else(|| ModelError::Protocol {
            what: what.to_owned(),
            host: super::http::host_of(&url),
            reason: "it does not say how long the file is, or it is too long".to_owned(),
        })?;
        let expected = Expected {
            what: what.to_owned(),
            sha256: Some(*sha256),
            git_oid: None,
            bytes,
        };
        let _lock = self.store.lock_blob(&expected, self.progress).await?;
        if self.store.has_blob(&digest, bytes) {
            return Ok((target, bytes));
        }
        let mut partial = self.store.open_partial(&expected).await?;
        self.store.check_space(bytes - partial.len())?;
        let mut meter = Meter::new(self.progress, bytes);
        let download = Download {
            http: &self.http,
            url,
            patience: Patience::Eager,
        };
        let found = download.run(&mut partial, &mut meter).await?;
        self.store.install(partial, found).await?;
        Ok((target, bytes))
    }
}

fn read_text(path: &Path) -> Option<String> {
    let short = std::fs::metadata(path).is_ok_and(|meta| meta.len() <= TEXT_BYTES_MAX);
    if short {
        std::fs::read_to_string(path).ok()
    } else {
        None
    }
}

/// Names and digests of a manifest's text; `None` if it is none, or holds a name that is not safe.
fn parse_text(text: &str) -> Option<Vec<(String, [u8; 32])>> {
    let mut files = Vec::new();
    for line in text.lines() {
        let (digest, name) = line.split_once("  ")?;
        if !is_safe_component(name) {
            return None;
        }
        files.push((name.to_owned(), parse_digest(digest)?));
    }
    (!files.is_empty()).then_some(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifest_text_is_read_back_and_unsafe_names_are_not() {
        let file = |name: &str, digit: &str| FileRecord {
            name: name.into(),
            sha256: digit.repeat(64),
            bytes: 1,
        };
        let files = [file("b.safetensors", "b"), file("config.json", "a")];
        let text = manifest_text(&files);
        let parsed = parse_text(&text).unwrap();
        let names: Vec<&str> = parsed.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["b.safetensors", "config.json"]);
        for bad in ["", "GGUF", "../x  y", &text.replace("b.safe", "../b.safe")] {
            assert_eq!(parse_text(bad), None, "{bad:?}");
        }
    }
}
