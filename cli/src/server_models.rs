//! The models that a server knows of: names to digests, and files by their digests.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use async_trait::async_trait;
use rbee_queue::ModelSha;
use rbee_scheduler::http::{ModelBlob, Models, NamedModel, ResolveError, Resolved};
use rbee_worker::model_files::{Blob, DEFAULT_ALIAS, ModelError, ModelRef, ModelStore};

use crate::engine_args::EngineKind;
use crate::engine_host::stub_model;
use crate::failure::Failure;
use crate::models_home::{self, ShownPull};
use crate::paths::DataDir;
use crate::talk::Talk;

/// Models of the data directory and of the sources that the catalog names.
pub struct ServerModels {
    engine: EngineKind,
    store: ModelStore,
    talk: Talk,
}

impl ServerModels {
    /// With the stub engine every name is a model of its own, which needs no file.
    pub fn open(engine: EngineKind, data: &DataDir, talk: &Talk) -> Result<ServerModels, Failure> {
        Ok(ServerModels {
            engine,
            store: models_home::open(data)?,
            talk: talk.clone(),
        })
    }

    fn blobs(&self) -> PathBuf {
        self.store.dir().join("blobs")
    }
}

#[async_trait]
impl Models for ServerModels {
    async fn resolve(&self, name: &str) -> Result<Resolved, ResolveError> {
        if self.engine == EngineKind::Stub {
            return Ok(Resolved {
                sha256: stub_model(name),
                revision: None,
            });
        }
        let reference = ModelRef::parse(name).map_err(refused)?;
        match &reference {
            // A path means a file of whoever wrote it, and this may be another machine.
            ModelRef::Path(_) => {
                return Err(ResolveError {
                    message: format!(
                        "{name} is a path, which only the client can look up: give it by --model"
                    ),
                    transient: false,
                });
            }
            // The catalog says what it is: whoever runs it fetches it.
            ModelRef::Alias(alias) => {
                if let Some(entry) = self.store.catalog().get(alias) {
                    return Ok(Resolved {
                        sha256: ModelSha(entry.sha256),
                        revision: None,
                    });
                }
            }
            ModelRef::Hub(_) => {}
        }
        let progress = ShownPull::new(&self.talk, name);
        let resolved = self.store.resolve(&reference, &progress).await;
        let resolved = resolved.map_err(refused)?;
        Ok(Resolved {
            sha256: ModelSha(resolved.sha256),
            revision: resolved.revision,
        })
    }

    fn names(&self) -> Vec<NamedModel> {
        if self.engine == EngineKind::Stub {
            return vec![NamedModel {
                name: DEFAULT_ALIAS.to_owned(),
                sha256: stub_model(DEFAULT_ALIAS),
                here: true,
            }];
        }
        let stored = self.store.list().unwrap_or_else(|error| {
            tracing::warn!(%error, "the models on disk cannot be listed");
            Vec::new()
        });
        let mut names: Vec<NamedModel> = stored
            .into_iter()
            .filter_map(|model| {
                Some(NamedModel {
                    sha256: model.sha256.parse().ok()?,
                    here: model.complete,
                    name: model.reference,
                })
            })
            .collect();
        for entry in self.store.catalog().entries() {
            if names.iter().all(|named| named.name != entry.alias) {
                names.push(NamedModel {
                    name: entry.alias.to_owned(),
                    sha256: ModelSha(entry.sha256),
                    here: false,
                });
            }
        }
        names
    }

    fn blob(&self, sha256: &ModelSha) -> Option<ModelBlob> {
        let found = self.store.blob(&sha256.0).unwrap_or_else(|error| {
            tracing::warn!(%error, "a model file cannot be looked for");
            None
        });
        found.map(|blob| match blob {
            Blob::File(path) => ModelBlob::File(path),
            Blob::Text(text) => ModelBlob::Text(text),
        })
    }

    fn uploads(&self) -> io::Result<PathBuf> {
        Ok(self.store.dir().join("partial"))
    }

    fn keep(&self, sha256: &ModelSha, file: tempfile::NamedTempFile) -> io::Result<()> {
        let mode = std::fs::Permissions::from_mode(0o444);
        file.as_file().set_permissions(mode)?;
        file.persist(self.blobs().join(sha256.to_hex()))
            .map_err(|error| error.error)?;
        std::fs::File::open(self.blobs())?.sync_all()
    }
}

fn refused(error: ModelError) -> ResolveError {
    ResolveError {
        transient: error.is_transient(),
        message: error.to_string(),
    }
}
