//! Where this machine's node gets its models: the files of the data directory, or the stub engine.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use rbee_queue::node::DiskModel;
use rbee_queue::queue::LoadWish;
use rbee_queue::{JobError, ModelSha};
use rbee_worker::engine::EngineEvent;
use rbee_worker::model_files::{ModelError, ModelRef, ModelStore, PullProgress, ResolvedModel};
use rbee_worker::node::{Hosted, ModelShelf, Share};
use tokio::sync::mpsc;

use crate::engine_args::{EngineArgs, EngineKind};
use crate::engine_host::{self, Room, Source, stub_model};
use crate::talk::Talk;

/// The models that a node can load.
pub struct NodeShelf {
    args: EngineArgs,
    talk: Talk,
    models: Arc<ModelStore>,
    /// What was found for each model.
    found: Mutex<HashMap<ModelSha, Source>>,
}

impl NodeShelf {
    /// A shelf over the model store.
    pub fn new(args: EngineArgs, talk: Talk, models: ModelStore) -> NodeShelf {
        NodeShelf {
            args,
            talk,
            models: Arc::new(models),
            found: Mutex::default(),
        }
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
                let resolved = self.fetch_reference(&wish.reference, share).await?;
                if ModelSha(resolved.sha256) != wish.model {
                    let message = format!(
                        "{} is another file on this node than where the batch was made.",
                        wish.reference
                    );
                    return Err(JobError::new("model_not_found", message));
                }
                Source::Files(resolved)
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
        let stored = match (self.args.engine, self.models.list()) {
            (EngineKind::Stub, _) => return Vec::new(),
            (EngineKind::Model, Ok(stored)) => stored,
            (EngineKind::Model, Err(error)) => {
                tracing::warn!(%error, "the models on disk cannot be listed");
                return Vec::new();
            }
        };
        let whole = stored.into_iter().filter(|model| model.complete);
        let mut models: Vec<DiskModel> = whole
            .filter_map(|model| {
                Some(DiskModel {
                    model: model.sha256.parse().ok()?,
                    bytes: model.bytes,
                })
            })
            .collect();
        models.sort_by_key(|found| found.model);
        models.dedup_by_key(|found| found.model);
        models
    }
}

/// A failed fetch as the error of a load.
fn refusal(error: &ModelError) -> JobError {
    let code = if error.is_transient() {
        "download_failed"
    } else {
        "model_not_found"
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
