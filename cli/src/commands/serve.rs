//! `rbee serve`: the server that takes batches and has them computed.
//!
//! Owns the wiring: store, queue, coordinator, HTTP API and, outside a cluster, a node in this process.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use clap::Args;
use rbee_queue::batch::INTERACTIVE_OWNER;
use rbee_scheduler::http::{self, ApiParts, Auth, Models, NodeFigures};
use rbee_scheduler::webhook::Webhooks;
use rbee_scheduler::{Coordinator, CoordinatorOptions, Retention, ValidationSettings};
use rbee_worker::face::register_metrics;
use rbee_worker::model_files::DEFAULT_ALIAS;
use rbee_worker::node::{LeaseOptions, NodeHandle};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::age;
use crate::batches_home;
use crate::blame::blame;
use crate::client::TOKEN_VARIABLE;
use crate::commands::Context;
use crate::crash_journal::{CrashJournal, Journalled};
use crate::descriptors;
use crate::engine_args::EngineArgs;
use crate::exit_code::ExitCode;
use crate::failure::{Failure, Outcome};
use crate::home::{self, Home, HomeArgs, Shape};
use crate::living::LivingArgs;
use crate::logging;
use crate::moment;
use crate::node_host::{NodeSetup, run_node};
use crate::schedule_settings::ScheduleSettingsArgs;
use crate::seconds;
use crate::secrets;
use crate::server_lock;
use crate::server_models::ServerModels;
use crate::server_token;
use crate::supervisor::{self, Child, Supervised};
use crate::talk::Talk;
use crate::traces_args::TracesArgs;

/// The name of the node in a server's own process.
const NODE_NAME: &str = "local";
/// How often a server's own node renews its lease before it would end.
const HEARTBEATS_A_LEASE: u32 = 8;
/// How long finished batches of an embedded store are kept, if nothing else is said.
const KEPT_EMBEDDED: Duration = Duration::from_secs(30 * 86_400);
/// How long single requests are kept after their answer.
const REQUESTS_KEPT: Duration = Duration::from_secs(600);

/// Take batches and have them computed
///
/// Without any setting it is a whole installation in one process: results in a SQLite file, and a node that computes here.
/// With RBEE_DATABASE_URL and RBEE_REDIS_URL it is the coordinator of a cluster, whose nodes are `rbee worker`s.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Examples:
  rbee serve                                       then, elsewhere: rbee submit prompts.jsonl --watch
  rbee serve --engine stub                         made-up answers, to try it out
  RBEE_DATABASE_URL=postgres://rbee@db/rbee RBEE_REDIS_URL=redis://cache rbee serve --listen 0.0.0.0:7835

Clients need the token of RBEE_API_TOKEN, or the one that it makes and prints the place of; those of the same user on this
machine find that one by themselves.

Whoever `submit --on-done URL` names gets a POST when the batch has ended: the batch as JSON, signed as Standard Webhooks
has it. webhook-signature is `v1,` and the base64 of HMAC-SHA256 over \"webhook-id.webhook-timestamp.body\"; the secret is
RBEE_WEBHOOK_SECRET, or one made at the first start in webhook-secret in the data directory. Servers of one cluster must
have the same. It is sent again with growing waits for a day, and one end of a batch keeps its webhook-id.

It speaks plain HTTP: for TLS put a proxy before it, as deploy/nginx/rbee.conf does, and say its name with --allow-host.

SIGTERM or Ctrl-C ends it after what runs has been given back; a second one ends it at once.")]
pub struct ServeArgs {
    /// The address to listen on; port 0 takes a free one
    #[arg(
        long,
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:7835",
        env = "RBEE_LISTEN"
    )]
    pub listen: String,

    /// Ask for no token; on loopback only
    #[arg(long)]
    pub no_auth: bool,

    /// The name of a proxy on this machine, which browsers and clients use; may be given several times
    #[arg(
        long,
        value_name = "NAME",
        env = "RBEE_ALLOW_HOST",
        value_delimiter = ','
    )]
    pub allow_host: Vec<String>,

    /// Milliseconds without a heartbeat after which a node counts as lost, the same as the nodes have
    #[arg(long, value_name = "MS", default_value_t = 15_000, value_parser = clap::value_parser!(u64).range(100..))]
    pub lease_ms: u64,

    /// Milliseconds between two looks for lost nodes and lost messages
    #[arg(long, value_name = "MS", default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(10..))]
    pub sweep_ms: u64,

    /// Seconds that running jobs of this process's own node may go on when the server is stopped
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds::parse)]
    pub grace: Duration,

    /// Seconds without a step of the engine after which its jobs are blamed and the process is started again
    #[arg(long, value_name = "SECONDS", default_value = "300", value_parser = seconds::parse)]
    pub stall_timeout: Duration,

    /// How long finished batches are kept: 12h, 30d, 2w or `forever` [default: 30d in a SQLite file, forever in PostgreSQL]
    #[arg(long, value_name = "TIME", value_parser = Keep::parse)]
    pub keep: Option<Keep>,

    /// Jobs that may wait or run at once: a client that brings more is told to come back later
    #[arg(long, value_name = "N", default_value_t = 20_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub max_jobs: u64,

    /// Let `submit --on-done` name receivers on this machine and in private networks
    #[arg(long, env = "RBEE_WEBHOOK_ALLOW_PRIVATE", value_parser = clap::builder::BoolishValueParser::new())]
    pub webhook_allow_private: bool,

    #[command(flatten)]
    pub schedules: ScheduleSettingsArgs,

    #[command(flatten)]
    pub home: HomeArgs,

    #[command(flatten)]
    pub engine: EngineArgs,

    #[command(flatten)]
    pub traces: TracesArgs,
}

/// How long finished batches are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    Forever,
    For(Duration),
}

impl Keep {
    fn parse(text: &str) -> Result<Keep, String> {
        match text {
            "forever" => Ok(Keep::Forever),
            text => age::parse(text).map(Keep::For),
        }
    }
}

/// The parent's part. A server that computes in its own process is started again when a job brings it down; one of a
/// cluster computes nothing, and needs no parent.
pub async fn supervise(args: &ServeArgs, talk: &Talk) -> Result<Option<ExitCode>, Failure> {
    match args.home.shape()?.is_cluster() {
        true => Ok(None),
        false => supervisor::supervise(talk, Supervised::server())
            .await
            .map(Some),
    }
}

/// Serves until a signal. With a `child`, a node computes in this process.
pub async fn run(context: &Context, args: ServeArgs, child: Option<Child>) -> Outcome {
    descriptors::take_all();
    let shape = args.home.shape()?;
    let data = context.data()?;
    let database = context.database()?;
    // Before the port: whoever held the one a moment ago had the other too.
    let only_server = match shape {
        Shape::Embedded => Some(server_lock::hold(&database, context.process()).await?),
        _ => None,
    };
    let listener = listen(&args.listen).await?;
    let address = listener.local_addr()?;
    let token = token(context, &args)?;
    let auth = Auth::new(address, token.as_deref())
        .map_err(|error| Failure::usage(error.to_string()))?
        .known_as(args.allow_host.clone());
    let home = home::open_batches(shape, database, context.process()).await?;
    if only_server.is_some() {
        home.end_leases().await?;
    }
    tell(context, &args, &home, address, &auth)?;
    let models: Arc<dyn Models> = Arc::new(ServerModels::open(
        args.engine.engine,
        &data,
        &context.talk,
    )?);
    let spool = data.spool()?;
    let schedules = (args.schedules).settings(Arc::clone(&models), spool.clone(), address)?;
    let options = CoordinatorOptions {
        schedules: Some(schedules),
        validation: Some(ValidationSettings {
            models: Arc::clone(&models),
            spool: spool.clone(),
            max_jobs: args.max_jobs,
        }),
        ..coordinator_options(context, &args, &home.shape)?
    };
    let (coordinator, handle) = Coordinator::new(home.batches.clone(), options);
    let shown_to = Arc::new(OnceLock::new());
    let parts = ApiParts {
        batches: home.batches.clone(),
        models,
        auth,
        spool,
        coordinator: handle,
        usual_model: DEFAULT_ALIAS.to_owned(),
        today: moment::today,
        logs: logging::tail(),
        max_jobs: args.max_jobs,
        own_node: child.as_ref().map(|_| figures_of(&shown_to)),
    };
    let (requests, working, leading) = (
        CancellationToken::new(),
        CancellationToken::new(),
        CancellationToken::new(),
    );
    let mut computing = match child {
        Some(child) => {
            let node = own_node(context, &args, &home, child, shown_to).await?;
            tokio::spawn(run_node(node, working.clone()))
        }
        None => tokio::spawn(std::future::pending()),
    };
    let mut serving = tokio::spawn(http::serve(listener, parts, requests.clone()));
    let mut coordinating = tokio::spawn(coordinator.run(leading.clone()));
    tokio::select! {
        ended = &mut serving => ended?,
        ended = &mut coordinating => {
            ended??;
            return Err(anyhow!("the coordinator ended by itself: start `rbee serve` again").into());
        }
        ended = &mut computing => {
            ended??;
            return Err(anyhow!("the node ended by itself: start `rbee serve` again").into());
        }
        () = context.interrupt.wait() => {
            // Requests first: nothing new comes in while what runs finishes or is given back.
            requests.cancel();
            serving.await?;
            if home.shape.is_cluster() {
                computing.abort();
            } else {
                working.cancel();
                computing.await??;
            }
            leading.cancel();
            coordinating.await??;
        }
    }
    home.close().await;
    Ok(ExitCode::Success)
}

/// Tells the figures of the node in this process, once it is there.
fn figures_of(node: &Arc<OnceLock<NodeHandle>>) -> NodeFigures {
    let node = Arc::clone(node);
    Arc::new(move |registry| {
        if let Some(node) = node.get() {
            register_metrics(node, registry);
        }
    })
}

/// The node of a server that is no cluster's.
async fn own_node(
    context: &Context,
    args: &ServeArgs,
    home: &Home,
    child: Child,
    shown_to: Arc<OnceLock<NodeHandle>>,
) -> Result<NodeSetup, Failure> {
    let (journal, running_at_crash) = CrashJournal::open(child.journal)?;
    blame(&home.batches, &running_at_crash, &context.talk).await?;
    let lease = Duration::from_millis(args.lease_ms);
    Ok(NodeSetup {
        name: NODE_NAME.to_owned(),
        batches: home.batches.clone(),
        engine: args.engine.clone(),
        living: LivingArgs::default(),
        lease: LeaseOptions {
            lease,
            heartbeat: lease / HEARTBEATS_A_LEASE,
            grace: args.grace,
        },
        data: context.data()?,
        server: None,
        preload: Vec::new(),
        running: Box::new(Journalled(journal)),
        logs: Some(logging::tail()),
        face: None,
        stall_timeout: Some(args.stall_timeout),
        talk: context.talk.clone(),
        shown_to: Some(shown_to),
    })
}

fn coordinator_options(
    context: &Context,
    args: &ServeArgs,
    shape: &Shape,
) -> Result<CoordinatorOptions, Failure> {
    let retention = match (args.keep, shape) {
        (Some(Keep::For(keep)), _) => Some(keep),
        (None, Shape::Embedded) => Some(KEPT_EMBEDDED),
        (Some(Keep::Forever), _) | (None, _) => None,
    };
    Ok(CoordinatorOptions {
        lease: Duration::from_millis(args.lease_ms),
        sweep: Duration::from_millis(args.sweep_ms),
        // Those are run by the `rbee run` that made them.
        skip_owner: Some(batches_home::OWNER.to_owned()),
        webhooks: Some(Webhooks::new(
            server_token::webhook_secret(&context.data()?)?,
            args.webhook_allow_private,
        )),
        retention: (retention.map(|keep| Retention { owner: None, keep }))
            .into_iter()
            .chain([Retention {
                owner: Some(INTERACTIVE_OWNER.to_owned()),
                keep: REQUESTS_KEPT,
            }])
            .collect(),
        ..CoordinatorOptions::default()
    })
}

async fn listen(address: &str) -> Result<TcpListener, Failure> {
    let found: Vec<SocketAddr> = tokio::net::lookup_host(address)
        .await
        .map_err(|error| {
            Failure::usage(format!(
                "--listen {address}: {error}; write it as 127.0.0.1:7835"
            ))
        })?
        .collect();
    let bound = TcpListener::bind(found.as_slice()).await;
    Ok(bound.with_context(|| format!("cannot listen on {address}"))?)
}

/// The token that clients must show; `None`: none.
fn token(context: &Context, args: &ServeArgs) -> Result<Option<String>, Failure> {
    if args.no_auth {
        return Ok(None);
    }
    match secrets::read(TOKEN_VARIABLE)? {
        Some(token) => Ok(Some(token)),
        None => {
            let path = server_token::token_path(&context.data()?);
            Ok(Some(server_token::read_or_make(&path)?))
        }
    }
}

/// Says what it uses and how to reach it.
fn tell(
    context: &Context,
    args: &ServeArgs,
    home: &Home,
    address: SocketAddr,
    auth: &Auth,
) -> Result<(), Failure> {
    let talk = &context.talk;
    talk.note(&format!("store   {}", home.store));
    talk.note(&format!("queue   {}", home.queue));
    let nodes = match home.shape.is_cluster() {
        true => "of their own: `rbee worker` on each machine that computes",
        false => "one, in this process",
    };
    talk.note(&format!("nodes   {nodes}"));
    let token = match (args.no_auth, secrets::source(TOKEN_VARIABLE)) {
        (true, _) => "none is asked for".to_owned(),
        (false, Some(secrets::Source::Variable)) => format!("the one of {TOKEN_VARIABLE}"),
        (false, Some(secrets::Source::File(path))) => format!("in {}", path.display()),
        (false, None) => {
            let path = server_token::token_path(&context.data()?);
            format!("in {}", path.display())
        }
    };
    talk.note(&format!("token   {token}"));
    if let Some(link) = auth.link().context("cannot make a one-time link")? {
        talk.note(&format!(
            "browser http://{address}{link} (good once; `rbee token link` makes another)"
        ));
    }
    // The last line, and said even with --quiet: whoever started it waits for this.
    talk.line(&format!("listening on http://{address}"));
    Ok(())
}
