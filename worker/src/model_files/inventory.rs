//! What is in the store: listing, showing, verifying and removing.

use std::collections::HashSet;
use std::path::PathBuf;

use super::PullProgress;
use super::blob::digest_file;
use super::error::ModelError;
use super::lock;
use super::manifest::{FileRecord, Manifest, ModelKind};
use super::reference::ModelRef;
use super::store::{ModelStore, read_manifest_file};

/// A model in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredModel {
    pub reference: String,
    pub kind: ModelKind,
    /// Hex; the model's identity.
    pub sha256: String,
    pub bytes: u64,
    /// The hub's commit.
    pub revision: Option<String>,
    /// Where it came from, for people.
    pub source: String,
    /// Name, digest and size of each file.
    pub files: Vec<FileRecord>,
    /// Whether all files are there in their full size.
    pub complete: bool,
}

/// What [`ModelStore::verify`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    pub reference: String,
    /// Empty if every byte is right.
    pub damaged: Vec<Damage>,
}

/// A file that is not what its manifest says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    pub file: String,
    pub path: PathBuf,
    /// A sentence's end: "is missing", "has another sha256 …".
    pub problem: String,
}

impl ModelStore {
    /// All stored models, by reference.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn list(&self) -> Result<Vec<StoredModel>, ModelError> {
        let mut models: Vec<StoredModel> = self
            .manifests()?
            .into_iter()
            .map(|m| self.stored(m))
            .collect();
        models.sort_by(|a, b| a.reference.cmp(&b.reference));
        Ok(models)
    }

    /// One stored model.
    ///
    /// # Errors
    /// [`ModelError::NotStored`], or the store cannot be read.
    pub fn show(&self, reference: &ModelRef) -> Result<StoredModel, ModelError> {
        self.manifest_of(reference)
            .map(|manifest| self.stored(manifest))
    }

    /// Reads every byte of a stored model and compares the digests. Blocks for as long as that takes.
    ///
    /// # Errors
    /// [`ModelError::NotStored`], or the store cannot be read. Damage is not an error but in the verdict.
    pub fn verify(
        &self,
        reference: &ModelRef,
        progress: &dyn PullProgress,
    ) -> Result<Verdict, ModelError> {
        let manifest = self.manifest_of(reference)?;
        progress.total(manifest.bytes());
        let mut damaged = Vec::new();
        for file in &manifest.files {
            let path = self.layout.blob(&file.sha256);
            if let Some(problem) = problem_of(file, &path, progress)? {
                damaged.push(Damage {
                    file: file.name.clone(),
                    path,
                    problem,
                });
            }
        }
        if let ModelRef::Alias(alias) = reference {
            let pinned = hex::encode(self.catalog_entry(alias)?.sha256);
            if manifest.sha256 != pinned {
                damaged.push(Damage {
                    file: "manifest".to_owned(),
                    path: self.layout.manifest(&manifest.reference),
                    problem: format!(
                        "names the sha256 {} and the catalog's is {pinned}",
                        manifest.sha256
                    ),
                });
            }
        }
        Ok(Verdict {
            reference: manifest.reference,
            damaged,
        })
    }

    /// Removes a stored model and the files that no other stored model uses; gives the bytes that became free. A
    /// process that has the model loaded keeps its files until it ends.
    ///
    /// # Errors
    /// [`ModelError::NotStored`], [`ModelError::Busy`] while a pull runs, or a file cannot be removed.
    pub fn remove(&self, reference: &ModelRef) -> Result<u64, ModelError> {
        let busy = || ModelError::Busy {
            path: self.dir().to_path_buf(),
        };
        let _alone = lock::try_exclusive(&self.layout.store_lock())?.ok_or_else(busy)?;
        let manifest = self.manifest_of(reference)?;
        // The manifest goes first: a removal that is interrupted leaves files without a reference, never the reverse.
        let path = self.layout.manifest(&manifest.reference);
        std::fs::remove_file(&path).map_err(|e| ModelError::io("cannot remove", &path, e))?;
        let set = self.layout.sets().join(&manifest.sha256);
        let others = self.manifests()?;
        if set.is_dir() && !others.iter().any(|other| other.sha256 == manifest.sha256) {
            std::fs::remove_dir_all(&set).map_err(|e| ModelError::io("cannot remove", &set, e))?;
        }
        let used: HashSet<&str> = others
            .iter()
            .flat_map(|other| other.files.iter().map(|file| file.sha256.as_str()))
            .collect();
        let mut freed = 0;
        for file in manifest
            .files
            .iter()
            .filter(|file| !used.contains(file.sha256.as_str()))
        {
            let path = self.layout.blob(&file.sha256);
            match std::fs::remove_file(&path) {
                Ok(()) => freed += file.bytes,
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(e) => return Err(ModelError::io("cannot remove", &path, e)),
            }
        }
        Ok(freed)
    }

    pub(super) fn manifests(&self) -> Result<Vec<Manifest>, ModelError> {
        let directory = self.layout.refs();
        let entries = std::fs::read_dir(&directory)
            .map_err(|e| ModelError::io("cannot list", &directory, e))?;
        let mut manifests = Vec::new();
        for entry in entries {
            let path = entry
                .map_err(|e| ModelError::io("cannot list", &directory, e))?
                .path();
            if path
                .extension()
                .is_some_and(|extension| extension == "json")
            {
                manifests.extend(read_manifest_file(&path)?);
            }
        }
        Ok(manifests)
    }

    fn manifest_of(&self, reference: &ModelRef) -> Result<Manifest, ModelError> {
        let text = reference.to_string();
        self.read_manifest(&text)?
            .ok_or(ModelError::NotStored { reference: text })
    }

    fn stored(&self, manifest: Manifest) -> StoredModel {
        StoredModel {
            bytes: manifest.bytes(),
            complete: manifest
                .files
                .iter()
                .all(|file| self.has_blob(&file.sha256, file.bytes)),
            reference: manifest.reference,
            kind: manifest.kind,
            sha256: manifest.sha256,
            revision: manifest.revision,
            source: manifest.source,
            files: manifest.files,
        }
    }
}

fn problem_of(
    file: &FileRecord,
    path: &std::path::Path,
    progress: &dyn PullProgress,
) -> Result<Option<String>, ModelError> {
    if !path.is_file() {
        progress.advance(file.bytes);
        return Ok(Some("is missing".to_owned()));
    }
    let (sha256, bytes) = digest_file(path, |read| progress.advance(read))?;
    Ok(if bytes != file.bytes {
        Some(format!("has {bytes} bytes and must have {}", file.bytes))
    } else if hex::encode(sha256) != file.sha256 {
        Some(format!(
            "has the sha256 {} and must have {}",
            hex::encode(sha256),
            file.sha256
        ))
    } else {
        None
    })
}
