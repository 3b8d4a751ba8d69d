//! Where this machine's node gets its models: the files of the data directory, or the stub engine.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use rbee_queue::node::DiskModel;
use rbee_queue::queue::LoadWish;
use rbee_queue::record::DISK_FULL;
use rbee_queue::{JobError, ModelSha, Store};
use rbee_worker::engine::EngineEvent;
use rbee_worker::model_files::{
    Blob, ModelError, ModelRef, ModelStore, Origin, PullProgress, ResolvedModel, Token,
};
use rbee_worker::node::{Hosted, ModelShelf, Share};
use tokio::sync::mpsc;

use crate::client::TOKEN_VARIABLE;
use crate::engine_args::{EngineArgs, EngineKind};
use crate::engine_host::{self, Room, Source, stub_model};
use crate::failure::Failure;
use crate::secrets;
use crate::talk::Talk;

/// The models that a node can load.
pub struct NodeShelf {
    args: EngineArgs,
    talk: Talk,
    models: Arc<ModelStore>,
    /// Tells which other nodes have a model.
    store: Arc<dyn Store>,
    /// The server, if one is known.
    server: Option<String>,
    /// What server and nodes want to see.
    token: Option<Token>,
    /// What was found for each model.
    found: Mutex<HashMap<ModelSha, Source>>,
}

impl NodeShelf {
    /// A shelf over the model store; `store` knows the other nodes, and the server has what clients brought.
    pub fn new(
        args: EngineArgs,
        talk: Talk,
        models: ModelStore,
        store: Arc<dyn Store>,
        server: Option<String>,
    ) -> Result<NodeShelf, Failure> {
        let token = secrets::read(TOKEN_VARIABLE)?;
        Ok(NodeShelf {
            args,
            talk,
            models: Arc::new(models),
            store,
            server,
            token: token.and_then(|text| Token::new(&text)),
            found: Mutex::default(),
        })
    }

    /// What a reference stands for, fetched if it is not here.
    pub async fn resolve(&self, reference: &str) -> Result<LoadWish, JobError> {
        let source = match self.args.engine {
            EngineKind::Stub => Source::Stub(reference.to_owned()),
            EngineKind::Model => {
                Source::Files(self.fetch_reference(reference, &Share::default()).await?)
            }
        };
        let model = source.identity();
        let revision = match &source {
            Source::Stub(_) => None,
            Source::Files(resolved) => resolved.revision.clone(),
        };
        self.keep(model, source);
        Ok(LoadWish {
            model,
            reference: reference.to_owned(),
            revision,
            evict: Vec::new(),
        })
    }

    async fn fetch_reference(
        &self,
        reference: &str,
        share: &Share,
    ) -> Result<ResolvedModel, JobError> {
        let progress = SharedProgress::new(&self.talk, share);
        let resolved = async {
            let parsed = ModelRef::parse(reference)?;
            self.models.resolve(&parsed, &progress).await
        };
        resolved.await.map_err(|error| refusal(&error))
    }

    /// Finds a model by its sha256 on this machine, then on others, and last where its reference leads.
    async fn fetch_model(
        &self,
        wish: &LoadWish,
        share: &Share,
    ) -> Result<ResolvedModel, ModelError> {
        let sha256 = wish.model.0;
        let models = Arc::clone(&self.models);
        let here = tokio::task::spawn_blocking(move || models.find_by_sha(&sha256));
        if let Ok(Some(found)) = here.await.unwrap_or(Ok(None)) {
            return Ok(found);
        }
        let progress = SharedProgress::new(&self.talk, share);
        let reference = ModelRef::parse(&wish.reference);
        if let Ok(path @ ModelRef::Path(_)) = &reference
            && let Ok(found) = self.models.resolve(path, &progress).await
            && found.sha256 == sha256
        {
            return Ok(found);
        }
        let origins = self.origins(&wish.model).await;
        let name = match &reference {
            Ok(ModelRef::Path(_)) | Err(_) => "",
            Ok(_) => &wish.reference,
        };
        let elsewhere = (self.models)
            .fetch_by_sha(&sha256, name, &origins, &progress)
            .await;
        let absent = match elsewhere {
            Err(error @ ModelError::AllSourcesFailed { .. }) => error,
            found => return found,
        };
        let source = match reference {
            Ok(ModelRef::Path(_)) | Err(_) => return Err(absent),
            Ok(ModelRef::Hub(mut hub)) => {
                hub.revision = hub.revision.or_else(|| wish.revision.clone());
                ModelRef::Hub(hub)
            }
            Ok(alias) => alias,
        };
        let found = self.models.resolve(&source, &progress).await?;
        if found.sha256 == sha256 {
            return Ok(found);
        }
        Err(ModelError::WrongContent {
            what: wish.reference.clone(),
            origin: "its source".to_owned(),
            expected: format!("sha256 {}", wish.model),
            found: format!("its sha256 is {}", ModelSha(found.sha256)),
        })
    }

    /// Other machines that may have a model: nodes that say so, then the server.
    async fn origins(&self, model: &ModelSha) -> Vec<Origin> {
        let nodes = self.store.node_list().await.unwrap_or_else(|error| {
            tracing::warn!(%error, "other nodes are not asked for a model");
            Vec::new()
        });
        let having = nodes.into_iter().filter(|node| {
            let on_disk = &node.report.on_disk;
            !node.lost && on_disk.iter().any(|found| found.model == *model)
        });
        let bases = having.filter_map(|node| node.report.address);
        bases
            .chain(self.server.clone())
            .map(|base| Origin {
                base,
                token: self.token.clone(),
            })
            .collect()
    }

    fn known(&self, model: &ModelSha) -> Option<Source> {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.get(model).cloned()
    }

    fn keep(&self, model: ModelSha, source: Source) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.insert(model, source);
    }
}

#[async_trait]
impl ModelShelf for NodeShelf {
    async fn fetch(&self, wish: &LoadWish, share: &Share) -> Result<(), JobError> {
        let source = match self.args.engine {
            EngineKind::Stub if wish.model == stub_model(&wish.reference) => {
                Source::Stub(wish.reference.clone())
            }
            EngineKind::Stub => {
                let message = format!(
                    "This node runs the stub engine, and {} is a real model.",
                    wish.reference
                );
                return Err(JobError::new("model_not_found", message));
            }
            EngineKind::Model => {
                let found = self.fetch_model(wish, share).await;
                Source::Files(found.map_err(|error| refusal(&error))?)
            }
        };
        self.keep(wish.model, source);
        Ok(())
    }

    fn load(
        &self,
        wish: &LoadWish,
        memory: Option<u64>,
        events: mpsc::Sender<EngineEvent>,
    ) -> Result<Hosted, JobError> {
        let source = self.known(&wish.model).ok_or_else(|| {
            let message = format!("the model {} was not fetched", wish.model);
            JobError::new("model_not_found", message)
        })?;
        let room = memory.map_or(Room::Alone(self.args.machine.memory), Room::Beside);
        engine_host::host(&source, &self.args, room, &self.talk, events)
    }

    fn on_disk(&self) -> Vec<DiskModel> {
        let found = match self.args.engine {
            EngineKind::Stub => return Vec::new(),
            EngineKind::Model => self.models.on_disk(),
        };
        let found = found.unwrap_or_else(|error| {
            tracing::warn!(%error, "the models on disk cannot be listed");
            Vec::new()
        });
        let models = found.into_iter().map(|(sha256, bytes)| DiskModel {
            model: ModelSha(sha256),
            bytes,
        });
        models.collect()
    }

    fn blob(&self, sha256: &ModelSha) -> Option<Blob> {
        self.models.blob(&sha256.0).unwrap_or_else(|error| {
            tracing::warn!(%error, "a model file cannot be looked for");
            None
        })
    }
}

/// A failed fetch as the error of a load.
fn refusal(error: &ModelError) -> JobError {
    let code = match error {
        ModelError::NoSpace { .. } => DISK_FULL,
        error if error.is_transient() => "download_failed",
        _ => "model_not_found",
    };
    JobError::new(code, error.to_string())
}

/// Tells the share of a pull that is done.
struct SharedProgress<'a> {
    talk: &'a Talk,
    share: &'a Share,
    bytes: Mutex<(u64, u64)>,
}

impl<'a> SharedProgress<'a> {
    fn new(talk: &'a Talk, share: &'a Share) -> SharedProgress<'a> {
        SharedProgress {
            talk,
            share,
            bytes: Mutex::default(),
        }
    }

    fn set(&self, change: impl FnOnce(&mut (u64, u64))) {
        let mut bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut bytes);
        let (done, total) = *bytes;
        if total > 0 {
            self.share.set(done as f64 / total as f64);
        }
    }
}

impl PullProgress for SharedProgress<'_> {
    fn source(&self, name: &str) {
        self.talk.note(&format!("fetching from {name}"));
    }

    fn total(&self, total: u64) {
        self.set(|bytes| *bytes = (0, total));
    }

    fn advance(&self, more: u64) {
        self.set(|(done, _)| *done += more);
    }

    fn note(&self, line: &str) {
        self.talk.note(line);
    }
}
