//! Which model is in memory: one at a time, loaded and put away off the async threads.

use crate::engine::{Engine, EngineEvent};
use rbee_queue::{JobError, ModelSha};
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Events of the engine that wait for the node.
const EVENTS_WAITING: usize = 1024;
/// Events that are heard at once.
const EVENTS_AT_ONCE: usize = 256;

/// A model in memory with its engine.
pub struct Hosted {
    /// The engine.
    pub engine: Engine,
    /// The digest that says which nodes compute the same bytes with it.
    pub numerics: String,
}

/// Loads a model and starts an engine that tells its events to the sender. It runs on a thread that may block.
pub type LoadModel =
    Arc<dyn Fn(ModelSha, mpsc::Sender<EngineEvent>) -> Result<Hosted, JobError> + Send + Sync>;

/// What came of a load.
pub struct Loaded {
    /// The model.
    pub model: ModelSha,
    /// Its numerics, or why it is not there.
    pub outcome: Result<String, JobError>,
}

/// What a host has to say.
pub enum HostEvent {
    /// The engine's events, at least one.
    Told(Vec<EngineEvent>),
    /// A load has ended.
    Loaded(Loaded),
    /// The engine is gone.
    Ended,
}

struct Resident {
    model: ModelSha,
    engine: Engine,
    events: mpsc::Receiver<EngineEvent>,
}

type Ready = (Hosted, mpsc::Receiver<EngineEvent>);
type Loading = (ModelSha, JoinHandle<Result<Ready, JobError>>);

/// Holds at most one model.
pub struct Host {
    load: LoadModel,
    resident: Option<Resident>,
    wanted: Option<ModelSha>,
    loading: Option<Loading>,
}

impl Host {
    /// A host without a model.
    pub fn new(load: LoadModel) -> Host {
        Host {
            load,
            resident: None,
            wanted: None,
            loading: None,
        }
    }

    /// Notes that a model is wanted in place of what is there.
    pub fn want(&mut self, model: ModelSha) {
        let there = self.resident() == Some(model) || self.loading() == Some(model);
        self.wanted = (!there).then_some(model);
    }

    /// Begins to load what is wanted. Only to be called while no job runs.
    pub fn load_wanted(&mut self) {
        if self.loading.is_some() {
            return;
        }
        let Some(model) = self.wanted.take() else {
            return;
        };
        let old = self.resident.take();
        let load = Arc::clone(&self.load);
        let task = tokio::task::spawn_blocking(move || {
            // The old model's memory is free before the new one needs it.
            drop(old);
            let (sender, events) = mpsc::channel(EVENTS_WAITING);
            Ok((load(model, sender)?, events))
        });
        self.loading = Some((model, task));
    }

    /// What happens next: events of the engine unless the caller does not `hear` them now, or the end of a load. Pends
    /// for ever when there is neither a model nor a load.
    pub async fn next(&mut self, hear: bool) -> HostEvent {
        let mut events = Vec::new();
        tokio::select! {
            heard = hear_many(&mut self.resident, &mut events), if hear => match heard {
                0 => HostEvent::Ended,
                _ => HostEvent::Told(events),
            },
            (model, ended) = join(&mut self.loading) => {
                self.loading = None;
                HostEvent::Loaded(self.take_over(model, ended))
            }
        }
    }

    fn take_over(&mut self, model: ModelSha, ended: Result<Ready, JobError>) -> Loaded {
        let outcome = ended.map(|(hosted, events)| {
            self.resident = Some(Resident {
                model,
                engine: hosted.engine,
                events,
            });
            hosted.numerics
        });
        Loaded { model, outcome }
    }

    /// The engine of the model in memory.
    pub fn engine(&self) -> Option<&Engine> {
        self.resident.as_ref().map(|resident| &resident.engine)
    }

    /// The model in memory.
    pub fn resident(&self) -> Option<ModelSha> {
        self.resident.as_ref().map(|resident| resident.model)
    }

    /// The model on its way there.
    pub fn loading(&self) -> Option<ModelSha> {
        self.loading.as_ref().map(|(model, _)| *model)
    }

    /// Puts everything away and waits for it.
    pub async fn stop(&mut self) {
        if let Some((_, task)) = self.loading.take() {
            // What it loaded is dropped with its result.
            let _ = task.await;
        }
        if let Some(resident) = self.resident.take() {
            let _ = tokio::task::spawn_blocking(move || drop(resident)).await;
        }
    }
}

async fn hear_many(resident: &mut Option<Resident>, events: &mut Vec<EngineEvent>) -> usize {
    match resident {
        Some(resident) => resident.events.recv_many(events, EVENTS_AT_ONCE).await,
        None => std::future::pending().await,
    }
}

async fn join(loading: &mut Option<Loading>) -> (ModelSha, Result<Ready, JobError>) {
    let Some((model, task)) = loading else {
        return std::future::pending().await;
    };
    let ended = task.await.unwrap_or_else(|panic| {
        let message = format!("Loading the model failed inside rbee: {panic}.");
        Err(JobError::new("model_load_failed", message))
    });
    (*model, ended)
}
