//! `rbee worker`: a node of a cluster.

use std::time::Duration;

use clap::Args;
use rbee_worker::node::LeaseOptions;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::blame::blame;
use crate::client::TOKEN_VARIABLE;
use crate::commands::Context;
use crate::crash_journal::{CrashJournal, Journalled};
use crate::engine_args::EngineArgs;
use crate::exit_code::ExitCode;
use crate::failure::{Failure, Outcome};
use crate::home::{self, HomeArgs, Shape};
use crate::living::LivingArgs;
use crate::logging;
use crate::node_host::{FaceSetup, NodeSetup, run_node};
use crate::seconds;
use crate::secrets;
use crate::supervisor::{self, Child, Supervised};
use crate::talk::Talk;
use crate::traces_args::TracesArgs;

/// Run jobs of a cluster on this machine
///
/// The node takes jobs from the server's queue, loads the models that the server wishes, and
/// commits results to the store. Stop it with Ctrl-C or SIGTERM: it takes no more jobs, finishes
/// what runs within the grace time, and gives the rest back.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Examples:
  RBEE_DATABASE_URL=postgres://rbee@db/rbee RBEE_REDIS_URL=redis://db rbee worker
  rbee worker --name desktop --memory 24G --model hf:Qwen/Qwen3-0.6B-GGUF
  rbee worker --hours 22:00-07:00 --nice 10       a machine that is somebody's by day

RBEE_API_TOKEN is the node's token: it is shown where models are fetched (RBEE_SERVER, other nodes), and wanted on the node's
own HTTP face, which takes those of `rbee token create` too. `rbee token create NAME --role node` makes one that is enough.")]
pub struct WorkerArgs {
    // What is flattened comes last: its heading holds for whatever stands behind it.
    /// The node's name, the same after a restart [default: this machine's name]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,

    /// Load this model at the start (repeatable)
    #[arg(short, long, value_name = "REF")]
    pub model: Vec<String>,

    /// Milliseconds after which a silent node has lost its jobs
    #[arg(long, value_name = "MS", default_value_t = 15_000, value_parser = clap::value_parser!(u64).range(200..))]
    pub lease_ms: u64,

    /// Milliseconds between two signs of life
    #[arg(long, value_name = "MS", default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(20..))]
    pub heartbeat_ms: u64,

    /// Seconds that running jobs may go on when the node is stopped
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds::parse)]
    pub grace: Duration,

    /// Seconds without a step of the engine after which its jobs are blamed and the process is started again
    #[arg(long, value_name = "SECONDS", default_value = "300", value_parser = seconds::parse)]
    pub stall_timeout: Duration,

    /// Where the node's own HTTP face listens: health, figures, questions, model files; port 0 takes a free one
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:0")]
    pub listen: String,

    /// The URL under which other nodes reach this face and get model files
    #[arg(long, value_name = "URL")]
    pub address: Option<String>,

    /// Is sent a POST once, as soon as the face accepts requests
    #[arg(long, value_name = "URL")]
    pub callback_url: Option<String>,

    #[command(flatten)]
    pub home: HomeArgs,

    #[command(flatten)]
    pub living: LivingArgs,

    #[command(flatten)]
    pub engine: EngineArgs,

    #[command(flatten)]
    pub traces: TracesArgs,
}

impl WorkerArgs {
    fn lease(&self) -> Result<LeaseOptions, Failure> {
        if self.heartbeat_ms * 2 > self.lease_ms {
            return Err(Failure::usage(
                "--heartbeat-ms must be at most half of --lease-ms: one lost heartbeat must not lose the lease",
            ));
        }
        Ok(LeaseOptions {
            lease: Duration::from_millis(self.lease_ms),
            heartbeat: Duration::from_millis(self.heartbeat_ms),
            grace: self.grace,
        })
    }
}

impl WorkerArgs {
    /// Binds the face's port. Others reach it under `--address`, or under this machine's name if it listens wider than
    /// loopback.
    async fn face(&self, name: &str) -> Result<FaceSetup, Failure> {
        let listener = TcpListener::bind(&self.listen).await;
        let listener = listener
            .map_err(|error| Failure::usage(format!("--listen {}: {error}", self.listen)))?;
        let bound = listener.local_addr()?;
        let ip = bound.ip();
        let address = match (&self.address, ip.is_loopback(), ip.is_unspecified()) {
            (Some(given), _, _) => Some(given.trim_end_matches('/').to_owned()),
            (None, true, _) => None,
            (None, false, true) => Some(format!("http://{}:{}", host_name(), bound.port())),
            (None, false, false) => Some(format!("http://{bound}")),
        };
        tracing::info!(name, ?address, %bound, "the node's HTTP face");
        Ok(FaceSetup {
            listener,
            token: secrets::read(TOKEN_VARIABLE)?,
            address,
            callback: self.callback_url.clone(),
        })
    }
}

/// The parent's part: checks the command and starts the child that works.
pub async fn supervise(args: &WorkerArgs, talk: &Talk) -> Outcome {
    args.lease()?;
    cluster(&args.home)?;
    args.living.check()?;
    args.living.be_nice()?;
    supervisor::supervise(talk, Supervised::node()).await
}

/// Where store and queue are; a node has both or is none.
fn cluster(args: &HomeArgs) -> Result<Shape, Failure> {
    match args.shape()? {
        shape @ Shape::Cluster { .. } => Ok(shape),
        Shape::Embedded | Shape::OneServer { .. } => Err(Failure::usage(
            "a node works for a cluster: set RBEE_DATABASE_URL and RBEE_REDIS_URL to its store and queue (on one machine \
             `rbee serve` or `rbee run` is all there is to start)",
        )),
    }
}

/// The child's part: works until it is told to stop.
pub async fn run(context: &Context, args: WorkerArgs, child: Child) -> Outcome {
    let lease = args.lease()?;
    let (journal, running_at_crash) = CrashJournal::open(child.journal)?;
    let stop = CancellationToken::new();
    let (stopping, interrupt) = (stop.clone(), context.interrupt.clone());
    tokio::spawn(async move {
        interrupt.wait().await;
        stopping.cancel();
    });
    let opening = home::open_batches(cluster(&args.home)?, context.database()?, context.process());
    let home = tokio::select! {
        opened = opening => opened?,
        () = stop.cancelled() => return Ok(ExitCode::Success),
    };
    blame(&home.batches, &running_at_crash, &context.talk).await?;
    let name = args.name.clone().unwrap_or_else(host_name);
    let face = args.face(&name).await?;
    let address = face.listener.local_addr()?;
    context.talk.note(&format!("node {name}, http://{address}"));
    let mut engine = args.engine;
    engine.machine.memory = args.living.memory(engine.machine.memory);
    let setup = NodeSetup {
        name,
        batches: home.batches.clone(),
        engine,
        living: args.living,
        lease,
        data: context.data()?,
        server: context.server().map(str::to_owned),
        preload: args.model,
        running: Box::new(Journalled(journal)),
        logs: Some(logging::tail()),
        face: Some(face),
        stall_timeout: Some(args.stall_timeout),
        talk: context.talk.clone(),
        shown_to: None,
    };
    run_node(setup, stop).await?;
    home.close().await;
    Ok(ExitCode::Success)
}

/// This machine's name, as the system has it.
fn host_name() -> String {
    let read = |path| std::fs::read_to_string(path).ok();
    let name = read("/proc/sys/kernel/hostname").or_else(|| read("/etc/hostname"));
    let name = name.or_else(|| std::env::var("HOSTNAME").ok());
    match name.as_deref().map(str::trim) {
        Some(name) if !name.is_empty() => name.to_owned(),
        _ => "node".to_owned(),
    }
}
