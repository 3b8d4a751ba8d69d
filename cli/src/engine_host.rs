//! The engine in this process: which model it gets, loading it, starting it, ending it.

use std::thread;
use std::time::Duration;

use anyhow::Result;
use rbee_queue::{JobError, ModelSha};
use rbee_worker::engine::options::DEFAULT_SLOTS;
use rbee_worker::engine::stub::{self, StubOptions};
use rbee_worker::engine::{Engine, EngineEvent, EngineOptions, TextFace};
use rbee_worker::kernels::Kernel;
use rbee_worker::model::device::ComputeDevice;
use rbee_worker::model::embedding;
use rbee_worker::model::memory::MemoryPlan;
use rbee_worker::model::outline::Outline;
use rbee_worker::model::{self, LoadError, LoadOptions, LoadedModel, numerics};
use rbee_worker::model_files::ResolvedModel;
use rbee_worker::node::Hosted;
use sha2::{Digest, Sha256};
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

/// The stub engine's model of a name: as many as there are names.
pub fn stub_model(name: &str) -> ModelSha {
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
    /// The stub engine, under this name.
    Stub(String),
    Files(ResolvedModel),
}

impl Source {
    /// What the model is, whatever it is called.
    pub fn identity(&self) -> ModelSha {
        match self {
            Source::Stub(name) => stub_model(name),
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
            return Ok(Source::Stub(reference.to_owned()));
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
        let room = Room::Alone(args.machine.memory);
        let hosting = move || host(&source, &args, room, &talk, events);
        let hosted = tokio::task::spawn_blocking(hosting)
            .await?
            .map_err(|error| anyhow::anyhow!(error.message))?;
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

/// How much memory a model may take.
#[derive(Debug, Clone, Copy)]
pub enum Room {
    /// It is the only one: the budget that the user set, or what is free.
    Alone(Option<u64>),
    /// Others are in memory or will be: at most so many bytes, and no more than it needs.
    Beside(u64),
}

impl Room {
    /// The budget, and whether others have their share of it too.
    fn parts(self) -> (Option<u64>, bool) {
        match self {
            Room::Alone(memory) => (memory, false),
            Room::Beside(memory) => (Some(memory), true),
        }
    }
}

/// Loads a model and starts an engine that tells its events to `events`. Blocks while it loads.
pub fn host(
    source: &Source,
    args: &EngineArgs,
    room: Room,
    talk: &Talk,
    events: mpsc::Sender<EngineEvent>,
) -> Result<Hosted, JobError> {
    let options = EngineOptions {
        slots: slots(args),
        chunk_tokens: args.machine.chunk_tokens as usize,
        share_prefixes: !args.machine.no_prefix_sharing,
    };
    if let Source::Files(resolved) = source
        && embedding::gives_vectors(resolved)
    {
        return host_vectors(resolved, args, room, talk, events);
    }
    let loaded = load(source, args, room, talk)?;
    #[cfg(feature = "failpoints")]
    let loaded = LoadedModel {
        model: Box::new(crate::failpoints::FailModel(loaded.model)),
        ..loaded
    };
    let text = TextFace {
        tokenizer: loaded.tokenizer,
        template: loaded.template,
    };
    let engine = Engine::start(loaded.model, text, options, events).map_err(not_started)?;
    Ok(Hosted {
        engine,
        numerics: loaded.numerics,
        reproducible: loaded.reproducible,
        bytes: loaded.memory.total(),
    })
}

/// The same for a model that gives vectors.
fn host_vectors(
    resolved: &ResolvedModel,
    args: &EngineArgs,
    room: Room,
    talk: &Talk,
    events: mpsc::Sender<EngineEvent>,
) -> Result<Hosted, JobError> {
    let (memory, beside_others) = room.parts();
    let options = load_options(args, memory, beside_others);
    let name = &resolved.requested;
    let loaded = embedding::load(resolved, &options).map_err(|error| load_error(name, &error))?;
    talk.note(&format!("{name} (embeddings): {}", loaded.memory));
    let engine = Engine::start_vectors(Box::new(loaded.model), events).map_err(not_started)?;
    Ok(Hosted {
        engine,
        numerics: loaded.numerics,
        reproducible: true,
        bytes: loaded.memory.total(),
    })
}

fn not_started(error: std::io::Error) -> JobError {
    let message = format!("The engine cannot be started: {error}.");
    JobError::new("model_load_failed", message)
}

/// Loads a model. Blocks meanwhile.
pub fn load(
    source: &Source,
    args: &EngineArgs,
    room: Room,
    talk: &Talk,
) -> Result<LoadedModel, JobError> {
    match source {
        Source::Stub(name) => load_stub(name, args, room),
        Source::Files(resolved) => load_files(resolved, args, room, talk),
    }
}

/// The stub engine has no weights, and its KV is small; both are planned like any other's.
fn load_stub(name: &str, args: &EngineArgs, room: Room) -> Result<LoadedModel, JobError> {
    let (model, text) = stub::load(&StubOptions {
        slots: slots(args),
        token_time: Duration::from_micros(args.stub_token_us),
        kv_blocks: None,
    });
    let kv_blocks = model.kv_blocks();
    let kv = kv_blocks as u64 * stub::BLOCK_BYTES;
    let budget = match room {
        Room::Alone(budget) => budget.unwrap_or(kv),
        Room::Beside(budget) => budget,
    };
    if kv > budget {
        let message = format!("The model {name} needs {kv} bytes and {budget} may be used.");
        return Err(JobError::new("out_of_memory", message));
    }
    Ok(LoadedModel {
        model,
        tokenizer: text.tokenizer,
        template: text.template,
        memory: MemoryPlan {
            weights: 0,
            kv,
            scratch: 0,
            budget,
            kv_blocks,
        },
        architecture: "stub".to_owned(),
        sequential: false,
        numerics: STUB_NUMERICS.to_owned(),
        reproducible: true,
    })
}

fn load_files(
    resolved: &ResolvedModel,
    args: &EngineArgs,
    room: Room,
    talk: &Talk,
) -> Result<LoadedModel, JobError> {
    let (memory, beside_others) = room.parts();
    let options = load_options(args, memory, beside_others);
    let name = &resolved.requested;
    let loaded = model::load(resolved, &options).map_err(|error| load_error(name, &error))?;
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

fn load_error(name: &str, error: &LoadError) -> JobError {
    let code = match error {
        LoadError::TooLarge { .. } => "out_of_memory",
        _ => "model_load_failed",
    };
    JobError::new(code, format!("the model {name} cannot be loaded: {error}"))
}

/// How models are loaded here.
pub fn load_options(args: &EngineArgs, memory: Option<u64>, beside_others: bool) -> LoadOptions {
    LoadOptions {
        device: args.machine.device,
        over_tensors: false,
        threads: threads(args),
        slots: slots(args),
        memory,
        beside_others,
        kv: args.kv.into(),
        context: None,
        kernel: args.machine.kernel,
    }
}

/// What is known of a model without its weights. Blocks while its files are read.
pub fn outline(source: &Source, args: &EngineArgs) -> Result<Outline, JobError> {
    let memory = args.machine.memory;
    match source {
        Source::Stub(name) => load_stub(name, args, Room::Alone(memory)).map(Outline::of_loaded),
        Source::Files(resolved) => {
            let options = load_options(args, memory, false);
            let outline = Outline::read(resolved, &options);
            outline.map_err(|error| load_error(&resolved.requested, &error))
        }
    }
}

/// The digest that says which machines give the same bytes as this one.
pub fn numerics(args: &EngineArgs) -> String {
    match args.engine {
        EngineKind::Stub => STUB_NUMERICS.to_owned(),
        EngineKind::Model => match args.machine.device {
            ComputeDevice::Cpu => numerics::digest(
                args.machine.kernel.unwrap_or_else(Kernel::detect),
                args.kv.into(),
            ),
            // Each model has its own, which its node announces once it is loaded.
            device => device.to_string(),
        },
    }
}

/// Threads that compute.
pub fn threads(args: &EngineArgs) -> usize {
    let cores = || thread::available_parallelism().map_or(1, usize::from);
    args.machine.threads.map_or_else(cores, usize::from)
}

/// Sequences computed at the same time.
pub fn slots(args: &EngineArgs) -> usize {
    args.machine.slots.map_or(DEFAULT_SLOTS, usize::from)
}
