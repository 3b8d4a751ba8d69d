//! The engine in this process: which model it gets, loading it, starting it, ending it.

use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rbee_queue::ModelSha;
use rbee_worker::engine::options::DEFAULT_SLOTS;
use rbee_worker::engine::stub::{self, StubOptions};
use rbee_worker::engine::{Engine, EngineEvent, EngineOptions, TextFace};
use rbee_worker::kernels::Kernel;
use rbee_worker::model::{self, LoadOptions, LoadedModel, numerics};
use rbee_worker::model_files::ResolvedModel;
use rbee_worker::node::Hosted;
use tokio::sync::mpsc;

use crate::commands::Context;
use crate::engine_args::{EngineArgs, EngineKind};
use crate::failure::Failure;
use crate::models_home;
use crate::talk::Talk;

/// Events that wait for their reader; a full channel holds the engine up.
const EVENTS_WAITING: usize = 1024;

/// What the stub engine announces as its numerics: its text depends on nothing but the job.
const STUB_NUMERICS: &str = "stub";

/// The stub engine's model, for every name.
pub const STUB_MODEL: ModelSha = ModelSha([0; 32]);

/// The stub engine's model of a name: as many as there are names.
pub fn stub_model(name: &str) -> ModelSha {
    use sha2::{Digest, Sha256};
    ModelSha(Sha256::digest(format!("rbee stub model\n{name}")).into())
}

/// A loaded model and the engine that runs it.
pub struct EngineHost {
    pub engine: Engine,
    pub events: mpsc::Receiver<EngineEvent>,
    pub model: ModelSha,
    /// What makes the bytes: equal for all machines that compute the same.
    pub numerics: String,
}

/// What is to be loaded.
#[derive(Debug, Clone)]
pub enum Source {
    Stub,
    Files(ResolvedModel),
}

impl Source {
    /// What the model is, whatever it is called.
    pub fn identity(&self) -> ModelSha {
        match self {
            Source::Stub => STUB_MODEL,
            Source::Files(resolved) => ModelSha(resolved.sha256),
        }
    }

    /// Resolves a reference, fetching the model if it is not here.
    pub async fn resolve(
        context: &Context,
        reference: &str,
        args: &EngineArgs,
    ) -> Result<Source, Failure> {
        if args.engine == EngineKind::Stub {
            return Ok(Source::Stub);
        }
        let models = models_home::open(&context.data()?)?;
        Ok(Source::Files(
            models_home::resolve(&models, reference, &context.talk).await?,
        ))
    }
}

impl EngineHost {
    /// Loads a model and starts the engine on it.
    pub async fn start(
        source: Source,
        args: &EngineArgs,
        talk: &Talk,
    ) -> Result<EngineHost, Failure> {
        let (events, receiver) = mpsc::channel(EVENTS_WAITING);
        let (args, talk) = (args.clone(), talk.clone());
        let model = source.identity();
        let hosted =
            tokio::task::spawn_blocking(move || host(&source, &args, &talk, events)).await??;
        Ok(EngineHost {
            engine: hosted.engine,
            events: receiver,
            model,
            numerics: hosted.numerics,
        })
    }

    /// Ends the engine after the step that runs, and gives its memory back.
    pub async fn stop(self) {
        let EngineHost { engine, events, .. } = self;
        // Nobody reads any more, so that the engine cannot wait for a reader.
        drop(events);
        // A panic in there was logged by the engine.
        let _ = tokio::task::spawn_blocking(move || engine.shutdown()).await;
    }
}

/// Loads a model and starts an engine that tells its events to `events`. Blocks while it loads.
pub fn host(
    source: &Source,
    args: &EngineArgs,
    talk: &Talk,
    events: mpsc::Sender<EngineEvent>,
) -> Result<Hosted> {
    let options = EngineOptions {
        slots: slots(args),
        chunk_tokens: args.machine.chunk_tokens as usize,
    };
    let (model, text, numerics) = match source {
        Source::Stub => {
            let token_time = Duration::from_micros(args.stub_token_us);
            let (model, text) = stub::load(&StubOptions {
                slots: slots(args),
                token_time,
                kv_blocks: None,
            });
            (model, text, STUB_NUMERICS.to_owned())
        }
        Source::Files(resolved) => {
            let loaded = load(resolved, args, talk)?;
            let text = TextFace {
                tokenizer: loaded.tokenizer,
                template: loaded.template,
            };
            (loaded.model, text, loaded.numerics)
        }
    };
    let engine = Engine::start(model, text, options, events)?;
    Ok(Hosted { engine, numerics })
}

fn load(resolved: &ResolvedModel, args: &EngineArgs, talk: &Talk) -> Result<LoadedModel> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let options = LoadOptions {
        threads: args.machine.threads.map_or(cores, usize::from),
        slots: slots(args),
        memory: args.machine.memory,
        kv: args.kv.into(),
        context: None,
        kernel: args.machine.kernel,
    };
    let loaded = model::load(resolved, &options)
        .with_context(|| format!("the model {} cannot be loaded", resolved.requested))?;
    let name = &resolved.requested;
    talk.note(&format!(
        "{name} ({}): {}",
        loaded.architecture, loaded.memory
    ));
    if loaded.sequential {
        talk.note(&format!(
            "{name} runs one sequence at a time: its architecture has no batched path"
        ));
    }
    if !loaded.reproducible {
        talk.warn(&format!("{name} may give other bytes on another machine"));
    }
    Ok(loaded)
}

/// The digest that says which machines give the same bytes as this one.
pub fn numerics(args: &EngineArgs) -> String {
    match args.engine {
        EngineKind::Stub => STUB_NUMERICS.to_owned(),
        EngineKind::Model => numerics::digest(
            args.machine.kernel.unwrap_or_else(Kernel::detect),
            args.kv.into(),
        ),
    }
}

/// Sequences computed at the same time.
pub fn slots(args: &EngineArgs) -> usize {
    args.machine.slots.map_or(DEFAULT_SLOTS, usize::from)
}
