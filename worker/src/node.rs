//! A node: takes placed jobs from its inbox, runs them on its engine, tells their text, and commits their results.
//!
//! It owns one engine at a time, the way of a job from [`Work`] to [`Finish`], and the residency of models. It does not
//! decide which jobs it gets (the dispatcher does), nor how a model is loaded ([`LoadModel`] does).

mod commit;
mod desk;
mod host;
mod intake;
mod status;

pub use host::{Hosted, LoadModel};
pub use status::{LoadFailure, NodeHandle, NodeStatus};

use commit::Committer;
use desk::Desk;
use host::{Host, HostEvent};
use intake::Intake;
use rbee_queue::queue::Control;
use rbee_queue::store::{Finish, ReleaseCause};
use rbee_queue::{Batches, JobRef, NodeInstance, StoreError};
use status::{Command, StatusBoard};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

/// How often the status is brought up to date.
const STATUS_EVERY: Duration = Duration::from_millis(250);
/// Results that wait for the store; with more the engine waits too. Also the size of the largest group.
const MAX_UNCOMMITTED: usize = 1024;
/// Control messages that wait for the node.
const CONTROLS_WAITING: usize = 64;

/// Settings of a node.
#[derive(Debug, Clone)]
pub struct NodeOptions {
    /// Its name in results' stats and logs.
    pub name: String,
    /// Sequences that its engine runs at once.
    pub slots: usize,
    /// Jobs that its inbox holds, taken ones included.
    pub inbox: usize,
    /// The digest that says which nodes compute the same bytes, announced until a model is loaded.
    pub numerics: String,
    /// Whether the text of every job is published as it comes.
    pub stream: bool,
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
    fn begin(&mut self, job: JobRef);
    /// The engine does not have it any more.
    fn end(&mut self, job: JobRef);
}

/// Writes nothing down.
pub struct Unrecorded;

impl RunningJobs for Unrecorded {
    fn begin(&mut self, _job: JobRef) {}
    fn end(&mut self, _job: JobRef) {}
}

/// What a node needs of its surroundings.
pub struct NodeParts {
    /// Store and queue.
    pub batches: Batches,
    /// Loads models.
    pub load: LoadModel,
    /// Is told which jobs run.
    pub running: Box<dyn RunningJobs>,
}

/// A node that is ready to [`run`](Node::run).
pub struct Node {
    instance: NodeInstance,
    options: NodeOptions,
    batches: Batches,
    host: Host,
    desk: Desk,
    commands: mpsc::Receiver<Command>,
    board: StatusBoard,
    draining: bool,
}

/// Whether the loop goes on.
enum Turn {
    On,
    Over,
}

impl Node {
    /// A node with a new instance id, and the handle by which it is asked and told.
    pub fn new(parts: NodeParts, options: NodeOptions) -> (Node, NodeHandle) {
        let instance = NodeInstance::generate();
        let (board, commands, handle) = StatusBoard::new(&instance, &options);
        let node = Node {
            instance,
            batches: parts.batches,
            host: Host::new(parts.load),
            desk: Desk::new(&options, parts.running),
            options,
            commands,
            board,
            draining: false,
        };
        (node, handle)
    }

    /// Joins the queue, works until it is told to stop, and leaves: what it has not finished is queued again.
    ///
    /// # Errors
    /// When the store fails for good or the engine ends by itself. Unfinished jobs are queued again then too, if the
    /// store still takes that.
    pub async fn run(mut self) -> Result<(), NodeError> {
        let queue = self.batches.queue().clone();
        queue.join(&self.instance, self.options.inbox).await?;
        let mut intake = Intake::start(queue.clone(), self.instance.clone(), self.desk.room());
        let (controls_in, mut controls) = mpsc::channel(CONTROLS_WAITING);
        let instance = self.instance.clone();
        let listening = tokio::spawn(async move {
            while let Ok(control) = queue.next_control(&instance).await {
                if controls_in.send(control).await.is_err() {
                    break;
                }
            }
        });
        let committer = Committer::start(
            self.batches.clone(),
            self.instance.clone(),
            self.board.blocked(),
        );
        let worked = self.work(&mut intake, &mut controls, &committer).await;
        intake.stop();
        listening.abort();
        self.host.stop().await;
        let committed = committer.finish(self.desk.take_finishes()).await;
        let left = self.batches.leave(&self.instance).await;
        worked?;
        committed?;
        left?;
        Ok(())
    }

    async fn work(
        &mut self,
        intake: &mut Intake,
        controls: &mut mpsc::Receiver<Control>,
        committer: &Committer,
    ) -> Result<(), NodeError> {
        let mut tick = tokio::time::interval(STATUS_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.give_back().await?;
            self.desk.feed(&self.host);
            if self.draining && self.desk.is_empty() {
                return Ok(());
            }
            tokio::select! {
                work = intake.next() => self.desk.take_in(work),
                event = self.host.next(self.desk.has_room()) => self.hear(event).await?,
                ready = committer.ready(), if self.desk.has_finishes() => match ready {
                    Some(permit) => permit.send(self.desk.take_finishes()),
                    // Its task has failed; the end of `run` tells why.
                    None => return Ok(()),
                },
                Some(control) = controls.recv() => self.control(control, intake),
                command = self.commands.recv() => {
                    // A handle that was dropped cannot ask for more: finish and leave.
                    if let Turn::Over = self.command(command.unwrap_or(Command::Drain), intake) {
                        return Ok(());
                    }
                }
                _ = tick.tick() => {}
            }
            if self.desk.is_idle() {
                self.host.load_wanted();
            }
            self.board.update(&self.host, &mut self.desk, self.draining);
        }
    }

    /// Gives back what this node will not run: other models' jobs, and what it has not begun when it drains.
    async fn give_back(&mut self) -> Result<(), NodeError> {
        let held = self.desk.unwanted(self.host.resident(), self.draining);
        if !held.is_empty() {
            let cause = ReleaseCause::Returned;
            self.batches.release(&self.instance, &held, cause).await?;
        }
        Ok(())
    }

    async fn hear(&mut self, event: HostEvent) -> Result<(), NodeError> {
        match event {
            HostEvent::Loaded(loaded) => self.board.loaded(loaded),
            HostEvent::Ended => return Err(NodeError::EngineEnded),
            HostEvent::Told(events) => {
                let texts = self.desk.hear(events);
                if !texts.is_empty() {
                    self.batches.queue().publish(texts).await;
                }
            }
        }
        Ok(())
    }

    fn control(&mut self, control: Control, intake: &mut Intake) {
        match control {
            Control::Cancel(jobs) => self.desk.cancel(&jobs, &self.host),
            Control::Drain => self.drain(intake),
            Control::Load(wish) => self.host.want(wish.model),
            Control::Watch(_) | Control::Logs { .. } => {}
        }
    }

    fn command(&mut self, command: Command, intake: &mut Intake) -> Turn {
        match command {
            Command::Load(model) => self.host.want(model),
            Command::Drain => self.drain(intake),
            Command::Stop => return Turn::Over,
        }
        Turn::On
    }

    fn drain(&mut self, intake: &mut Intake) {
        self.draining = true;
        intake.stop();
    }
}

#[cfg(test)]
#[path = "node/tests.rs"]
mod tests;
