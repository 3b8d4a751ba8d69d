//! The node in this process: the wiring of engine, models, lease and crash journal, for `worker` and for `serve`.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rbee_queue::{Batches, Store};
use rbee_worker::face::{self, Access, Face};
use rbee_worker::model::memory::KvType;
use rbee_worker::node::{
    LeaseOptions, LogTail, Node, NodeHandle, NodeOptions, NodeParts, RunningJobs, watch_for_stalls,
};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::engine_args::{EngineArgs, MachineArgs};
use crate::engine_host;
use crate::failure::Failure;
use crate::living::LivingArgs;
use crate::models_home;
use crate::moment;
use crate::node_shelf::NodeShelf;
use crate::paths::DataDir;
use crate::talk::Talk;

/// Jobs that a node's inbox may hold, taken ones included.
const INBOX: usize = 4_096;

/// How long whoever wants to hear of the node's start is waited for.
const CALLBACK_PATIENCE: Duration = Duration::from_secs(10);

/// A node's HTTP face.
pub struct FaceSetup {
    pub listener: TcpListener,
    /// What requests must show.
    pub token: Option<String>,
    /// The base URL by which others reach it.
    pub address: Option<String>,
    /// Is told once that the face accepts requests.
    pub callback: Option<String>,
}

impl FaceSetup {
    fn access(&self, store: &Arc<dyn Store>) -> Result<(SocketAddr, Access), Failure> {
        let address = self.listener.local_addr()?;
        let access = Access::new(address, self.token.as_deref())
            .map_err(|error| Failure::usage(error.to_string()))?;
        Ok((address, access.with_tokens_of(Arc::clone(store))))
    }
}

/// What a node is made of.
pub struct NodeSetup {
    /// Its name in listings, stats and logs.
    pub name: String,
    pub batches: Batches,
    pub engine: EngineArgs,
    /// When it may compute.
    pub living: LivingArgs,
    pub lease: LeaseOptions,
    /// Where its models lie.
    pub data: DataDir,
    /// The server's URL, for model files that no node has.
    pub server: Option<String>,
    /// Models that it loads at once, by reference.
    pub preload: Vec<String>,
    /// Is told which jobs run.
    pub running: Box<dyn RunningJobs>,
    /// Gives the end of the log.
    pub logs: Option<LogTail>,
    pub face: Option<FaceSetup>,
    /// How long jobs may run without a step before the process ends itself, with evidence against them.
    pub stall_timeout: Option<Duration>,
    pub talk: Talk,
    /// Gets the node's handle, for whoever asks it beside its face.
    pub shown_to: Option<Arc<OnceLock<NodeHandle>>>,
}

/// Runs a node until `stop` is cancelled: then it drains and leaves.
pub async fn run_node(setup: NodeSetup, stop: CancellationToken) -> Result<(), Failure> {
    let models = models_home::open(&setup.data)?;
    let shelf = Arc::new(NodeShelf::new(
        setup.engine.clone(),
        setup.talk.clone(),
        models,
        Arc::clone(setup.batches.store()),
        setup.server,
    )?);
    let address = setup.face.as_ref().and_then(|face| face.address.clone());
    let MachineArgs { device, memory, .. } = setup.engine.machine;
    let memory = memory.map_or_else(|| device.budget(), Ok);
    let memory = memory.map_err(|problem| Failure::Program(anyhow::Error::msg(problem)))?;
    let options = NodeOptions {
        name: setup.name.clone(),
        slots: engine_host::slots(&setup.engine),
        inbox: INBOX,
        numerics: engine_host::numerics(&setup.engine),
        kv: KvType::from(setup.engine.kv).to_string(),
        device: setup.engine.machine.device,
        memory: Some(memory),
        address,
        lease: Some(setup.lease),
        ..NodeOptions::default()
    };
    let store = Arc::clone(setup.batches.store());
    let parts = NodeParts {
        batches: setup.batches,
        shelf: shelf.clone(),
        running: setup.running,
        logs: setup.logs,
    };
    let (node, handle) = Node::new(parts, options);
    if let Some(slot) = setup.shown_to {
        // A slot is for one node; a second one would find it taken.
        let _ = slot.set(handle.clone());
    }
    let living = setup.living.watch(handle.clone(), &setup.talk)?;
    if let Some(patience) = setup.stall_timeout {
        end_stalls(handle.clone(), patience)?;
    }
    let face = setup
        .face
        .map(|face| show(face, &setup.name, &handle, &shelf, &store));
    let face = face.transpose()?;
    let preloading = tokio::spawn(preload(shelf, handle.clone(), setup.preload, setup.talk));
    let mut running = tokio::spawn(node.run());
    let ended = tokio::select! {
        ended = &mut running => ended,
        () = stop.cancelled() => {
            handle.drain().await;
            running.await
        }
    };
    preloading.abort();
    if let Some(living) = living {
        living.abort();
    }
    if let Some(face) = face {
        face.abort();
    }
    Ok(ended.map_err(anyhow::Error::from)??)
}

/// Serves the node's face until the task is ended.
fn show(
    setup: FaceSetup,
    name: &str,
    node: &NodeHandle,
    shelf: &Arc<NodeShelf>,
    store: &Arc<dyn Store>,
) -> Result<JoinHandle<()>, Failure> {
    let (address, access) = setup.access(store)?;
    let base = setup
        .address
        .clone()
        .unwrap_or_else(|| format!("http://{address}"));
    let told = json!({"name": name, "uri": base, "version": env!("CARGO_PKG_VERSION")});
    let face = Face {
        node: node.clone(),
        shelf: shelf.clone(),
        access,
        today: moment::today,
    };
    Ok(tokio::spawn(async move {
        if let Some(url) = setup.callback {
            // The port is bound: whoever is told can connect already.
            tokio::spawn(call_back(url, told));
        }
        if let Err(error) = face::serve(setup.listener, face).await {
            tracing::error!(%error, "the node's HTTP face has ended");
        }
    }))
}

/// Tells once that the node's face accepts requests.
async fn call_back(url: String, told: serde_json::Value) {
    let told = async {
        let client = reqwest::Client::builder()
            .timeout(CALLBACK_PATIENCE)
            .build()?;
        let answer = client.post(&url).json(&told).send().await?;
        answer.error_for_status().map(drop)
    };
    if let Err(error) = told.await {
        // The URL may hold a secret.
        let error = error.without_url();
        tracing::warn!(%error, "nobody heard that the node has started");
    }
}

/// Loads models that the node shall have from the start. One that cannot be had is told, and the node goes on.
async fn preload(shelf: Arc<NodeShelf>, node: NodeHandle, references: Vec<String>, talk: Talk) {
    for reference in references {
        match shelf.resolve(&reference).await {
            Ok(wish) => node.load_beside(wish).await,
            Err(error) => talk.warn(&format!("{reference} is not loaded: {}", error.message)),
        }
    }
}

/// A step that hangs cannot be ended but with its process. The thread is none of the runtime's, which may hang too.
fn end_stalls(node: NodeHandle, patience: Duration) -> Result<(), Failure> {
    let watching = move || {
        watch_for_stalls(&node, patience, || {
            tracing::error!(
                patience_ms = patience.as_millis() as u64,
                "no step while jobs were running: the process ends itself, and they run alone next"
            );
            std::process::abort();
        });
    };
    std::thread::Builder::new()
        .name("stall-watch".to_owned())
        .spawn(watching)?;
    Ok(())
}
