//! A node: takes placed jobs from its inbox, runs them on its engines, tells their text, and commits their results.
//!
//! It owns the engines of the models in memory, the way of a job from [`Work`](rbee_queue::queue::Work) to [`Finish`],
//! and its lease. It does not decide which jobs it gets or which models it holds (the coordinator does), nor how a model
//! is fetched and loaded ([`ModelShelf`] does).
//!
//! A node lives one or more lives. In each it is another instance with a lease of its own: one that loses its lease
//! stops its jobs, commits nothing more, and begins anew. Models stay in memory from one life to the next.

mod ask;
mod backoff;
mod clock;
mod commit;
mod desk;
mod disk;
mod figures;
mod host;
mod intake;
mod lease;
mod life;
mod rates;
mod recent;
mod shelf;
mod stall;
mod status;
mod traced;
mod watching;

pub use ask::{Answer, Ask, PIECES_WAITING};
pub use figures::Figures;
pub use lease::LeaseOptions;
pub use shelf::{Hosted, ModelShelf, Share};
pub use stall::watch_for_stalls;
pub use status::{LoadFailure, NodeHandle, NodeStatus};

use crate::model::device::ComputeDevice;
use backoff::Backoff;
use desk::Desk;
use disk::Disk;
use host::Host;
use lease::{Lease, Tenant};
use life::{End, Life};
use rbee_queue::queue::{Held, LoadWish};
use rbee_queue::store::Finish;
use rbee_queue::{Batches, JobError, ModelSha, NodeInstance, StoreError};
use status::{Command, StatusBoard};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// How often the status is brought up to date.
const STATUS_EVERY: Duration = Duration::from_millis(250);
/// Results that wait for the store; with more the engine waits too. Also the size of the largest group.
const MAX_UNCOMMITTED: usize = 1024;
/// How long a node that leaves waits for the queue and for a store that is away. Its lease ends by itself.
const LEAVE_PATIENCE: Duration = Duration::from_secs(5);
/// How long running jobs may go on when the node has to rest: with what two steps take that is less than two seconds.
const REST_GRACE: Duration = Duration::from_secs(1);
/// A node that rests for longer than this puts its models away, so that others have the memory.
const PUT_AWAY_AFTER: Duration = Duration::from_secs(60);
/// Former lives whose jobs are still to be given up.
const FORMER_MAX: usize = 16;

/// Settings of a node.
#[derive(Debug, Clone, Default)]
pub struct NodeOptions {
    /// Its name in results' stats and logs.
    pub name: String,
    /// Sequences that an engine runs at once.
    pub slots: usize,
    /// Jobs that its inbox holds, taken ones included.
    pub inbox: usize,
    /// The digest that says which nodes compute the same bytes, announced until a model is loaded.
    pub numerics: String,
    /// The type of keys and values in its caches, as a batch's settings name it.
    pub kv: String,
    /// Whether the text of every job is published as it comes, watched or not.
    pub stream: bool,
    /// Where its models are computed.
    pub device: ComputeDevice,
    /// What all its models together may take, in bytes; `None` leaves that to each load.
    pub memory: Option<u64>,
    /// The base URL of its HTTP face, if others can reach it.
    pub address: Option<String>,
    /// Its lease; `None` where store and queue are this process's own.
    pub lease: Option<LeaseOptions>,
}

/// Why a node ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// A result could not be stored.
    #[error("results cannot be stored: {0}")]
    Store(#[from] StoreError),
    /// Its inbox could not be made.
    #[error("the node cannot have an inbox: {0}")]
    Inbox(#[from] rbee_queue::queue::QueueError),
    /// The engine's threads are gone.
    #[error(
        "the engine ended by itself while jobs were running: see the log for its panic, and start the node again"
    )]
    EngineEnded,
}

/// Is told which jobs are with the engine, so that a crash of the process can be blamed.
pub trait RunningJobs: Send {
    /// The engine is about to get the job. Returns after this is written down.
    fn begin(&mut self, job: Held);
    /// The engine does not have it any more.
    fn end(&mut self, job: Held);
}

/// Writes nothing down.
pub struct Unrecorded;

impl RunningJobs for Unrecorded {
    fn begin(&mut self, _job: Held) {}
    fn end(&mut self, _job: Held) {}
}

/// Gives the last lines of this process's log, at most so many.
pub type LogTail = Arc<dyn Fn(usize) -> String + Send + Sync>;

/// What a node needs of its surroundings.
pub struct NodeParts {
    /// Store and queue.
    pub batches: Batches,
    /// Fetches and loads models.
    pub shelf: Arc<dyn ModelShelf>,
    /// Is told which jobs run.
    pub running: Box<dyn RunningJobs>,
    /// What it answers when it is asked for its log.
    pub logs: Option<LogTail>,
}

/// A node that is ready to [`run`](Node::run).
pub struct Node {
    instance: NodeInstance,
    options: NodeOptions,
    batches: Batches,
    logs: Option<LogTail>,
    host: Host,
    desk: Desk,
    disk: Disk,
    commands: mpsc::Receiver<Command>,
    board: StatusBoard,
    /// Instances of lost leases whose jobs it has not given up in the store yet.
    former: Vec<NodeInstance>,
    /// It was told to leave once its jobs are done.
    leaving: bool,
    /// Since when it rests.
    resting_since: Option<Instant>,
}

/// Why a question is not answered now.
fn away() -> JobError {
    JobError::new("backend_unavailable", "The node takes no jobs now.")
}

/// Whether the loop goes on.
enum Turn {
    On,
    Over,
}

impl Node {
    /// A node with a new instance id, and the handle by which it is asked and told. It wants a running runtime.
    pub fn new(parts: NodeParts, options: NodeOptions) -> (Node, NodeHandle) {
        let instance = NodeInstance::generate();
        let (board, commands, handle) = StatusBoard::new(&instance, &options);
        let node = Node {
            instance,
            batches: parts.batches,
            logs: parts.logs,
            host: Host::new(Arc::clone(&parts.shelf), options.memory),
            desk: Desk::new(&options, parts.running, handle.figures().clone()),
            disk: Disk::watch(parts.shelf),
            options,
            commands,
            board,
            former: Vec::new(),
            leaving: false,
            resting_since: None,
        };
        (node, handle)
    }

    /// Joins, works until it is told to stop, and leaves: what it has not finished is queued again.
    ///
    /// # Errors
    /// When the store fails for good or an engine ends by itself. Unfinished jobs are queued again then too, if the
    /// store still takes that.
    pub async fn run(mut self) -> Result<(), NodeError> {
        let ended = self.live().await;
        self.host.stop().await;
        ended
    }

    /// One life after another, until one ends by itself.
    async fn live(&mut self) -> Result<(), NodeError> {
        loop {
            let Some(lease) = self.join().await? else {
                return Ok(());
            };
            self.board.reborn(&self.instance);
            let mut life = Life::begin(self, lease);
            let worked = self.work(&mut life).await;
            if let Ok(End::Fenced(reason)) = &worked {
                tracing::warn!(
                    node = %self.instance, name = self.options.name, reason,
                    "lease_lost: nothing more is committed, the node begins anew"
                );
                life.abandon();
                self.give_up().await?;
                if self.leaving {
                    return Ok(());
                }
                continue;
            }
            let committed = life.end(self.desk.take_group()).await;
            let left = self.leave().await;
            worked?;
            committed?;
            return left;
        }
    }

    /// Gets a lease, if the node has leases, and an inbox. `None`: it was told to leave before that.
    async fn join(&mut self) -> Result<Option<Option<Lease>>, NodeError> {
        let Some(options) = self.options.lease.clone() else {
            let queue = self.batches.queue();
            queue.join(&self.instance, self.options.inbox).await?;
            return Ok(Some(None));
        };
        let mut failures = Backoff::new();
        loop {
            let tenant = Tenant {
                batches: self.batches.clone(),
                instance: self.instance.clone(),
                report: self.board.report(),
                inbox: self.options.inbox,
            };
            let joining = tokio::time::timeout(options.lease, tenant.join(&options));
            let why = tokio::select! {
                joined = joining => match joined {
                    Ok(Ok(lease)) => return Ok(Some(Some(lease))),
                    Ok(Err(error)) if !error.is_temporary() => return Err(error.into()),
                    Ok(Err(error)) => error.to_string(),
                    Err(_) => "the store does not answer".to_owned(),
                },
                () = self.told_to_leave() => return Ok(None),
            };
            if failures.is_fresh() {
                tracing::warn!(
                    name = self.options.name,
                    error = why,
                    "the node waits for the store"
                );
            }
            tokio::select! {
                () = failures.wait() => {}
                () = self.told_to_leave() => return Ok(None),
            }
            // The store may have taken the instance without saying so.
            self.retire();
        }
    }

    /// Returns when it was told to leave. Wishes for models are kept.
    async fn told_to_leave(&mut self) {
        if self.leaving {
            return;
        }
        loop {
            match self.commands.recv().await {
                Some(Command::Load(wish)) => self.host.want(wish),
                Some(Command::Replace(model)) => self.replace(model),
                Some(Command::Ask(ask)) => ask::refuse(&ask.answer, away()),
                Some(Command::Rest(reason)) => self.rest(reason),
                Some(Command::Drain | Command::Stop) | None => return,
            }
        }
    }

    /// The instance is none of this process any more.
    fn retire(&mut self) {
        let former = std::mem::replace(&mut self.instance, NodeInstance::generate());
        self.former.push(former);
        let excess = self.former.len().saturating_sub(FORMER_MAX);
        self.former.drain(..excess);
    }

    /// After a lost lease: waits until the engines have stopped its jobs, whose ends are nobody's business any more.
    async fn give_up(&mut self) -> Result<(), NodeError> {
        self.desk.abandon(&self.host);
        while self.desk.running() > 0 {
            match self.host.next(true).await {
                host::HostEvent::Told(events) => drop(self.desk.hear(events)),
                host::HostEvent::Moved(loaded) => self.moved(loaded),
                host::HostEvent::Ended => return Err(NodeError::EngineEnded),
            }
        }
        self.retire();
        Ok(())
    }

    fn moved(&mut self, loaded: Option<host::Loaded>) {
        if let Some(loaded) = loaded {
            self.board.loaded(loaded);
            self.disk.prod();
        }
    }

    /// Rests for a reason, or works again.
    fn rest(&mut self, reason: Option<String>) {
        match reason {
            Some(_) => {
                self.resting_since.get_or_insert_with(Instant::now);
            }
            None => self.resting_since = None,
        }
        self.board.rest(reason);
    }

    fn replace(&mut self, model: ModelSha) {
        let evict = self.host.residents().map(|resident| resident.model);
        self.host.want(LoadWish {
            model,
            reference: String::new(),
            revision: None,
            evict: evict.collect(),
        });
    }

    /// Queues unfinished jobs again, and takes inbox and lease away.
    async fn leave(&mut self) -> Result<(), NodeError> {
        if self.options.lease.is_none() {
            self.batches.leave(&self.instance).await?;
            return Ok(());
        }
        let leaving = async {
            self.batches.leave(&self.instance).await?;
            self.batches.store().node_leave(&self.instance).await
        };
        match tokio::time::timeout(LEAVE_PATIENCE, leaving).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, node = %self.instance, "the node left without a word: its lease ends by itself");
            }
            Err(_) => {
                tracing::warn!(node = %self.instance, "the node left without a word: its lease ends by itself");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod bench;
#[cfg(test)]
mod cut_store;
#[cfg(test)]
mod lease_tests;
#[cfg(test)]
mod tests;
