//! Computing what a batch lacks, on this machine: a node, a dispatcher that feeds it, and somebody to watch both.
//!
//! Owns the wiring and the waiting. Which job runs when is the dispatcher's to decide; running it and storing its result
//! is the node's.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::anyhow;
use async_trait::async_trait;
use rbee_queue::queue::LoadWish;
use rbee_queue::{Batch, Batches, JobError, ModelSha};
use rbee_scheduler::placement::{Loading, MAX_INBOX, Resident};
use rbee_scheduler::{Dispatched, Dispatcher, Load, NodeSnapshot};
use rbee_worker::engine::EngineEvent;
use rbee_worker::node::{
    Hosted, ModelShelf, Node, NodeError, NodeHandle, NodeOptions, NodeParts, NodeStatus, Share,
};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinError;

use super::watch::{Computed, Watch};
use crate::commands::Context;
use crate::crash_journal::{CrashJournal, Journalled};
use crate::engine_args::EngineArgs;
use crate::engine_host::{self, Room, Source};
use crate::failure::Failure;
use crate::living::LivingArgs;
use crate::talk::Talk;

/// Wishes to load a model that may wait for the node.
const LOADS_WAITING: usize = 4;
/// The name of this machine's node in results' stats.
const NODE_NAME: &str = "local";

/// What computing takes.
pub struct Compute<'a> {
    pub context: &'a Context,
    pub args: &'a EngineArgs,
    pub living: &'a LivingArgs,
    pub batches: &'a Batches,
    pub sources: HashMap<ModelSha, Source>,
    /// What an interrupt keeps, in words.
    pub kept: &'static str,
}

impl Compute<'_> {
    /// Runs until every job of the batch has its result. The caller holds the batch's lock.
    pub async fn run(self, batch: &Batch, journal: CrashJournal) -> Result<Computed, Failure> {
        let slots = engine_host::slots(self.args);
        let options = NodeOptions {
            name: NODE_NAME.to_owned(),
            slots,
            inbox: MAX_INBOX,
            numerics: engine_host::numerics(self.args),
            ..NodeOptions::default()
        };
        let parts = NodeParts {
            batches: self.batches.clone(),
            shelf: Arc::new(RunShelf {
                sources: self.sources,
                args: self.args.clone(),
                talk: self.context.talk.clone(),
            }),
            running: Box::new(Journalled(journal)),
            logs: None,
        };
        let (node, handle) = Node::new(parts, options);
        let living = self.living.watch(handle.clone(), &self.context.talk)?;
        let mut node = tokio::spawn(node.run());
        let mut watch = Watch::new(&self.context.talk, self.batches, batch, &handle);
        let outcome = tokio::select! {
            done = dispatch(self.batches, batch, &handle) => done,
            failed = watch.until_failure() => Err(failed),
            ended = &mut node => return Err(node_failure(ended)),
            () = self.context.interrupt.wait() => Err(Failure::Interrupted(self.kept.to_owned())),
        };
        if let Some(living) = living {
            living.abort();
        }
        handle.stop().await;
        let left = node.await;
        outcome?;
        left.map_err(anyhow::Error::from)??;
        watch.computed().await
    }
}

fn node_failure(ended: Result<Result<(), NodeError>, JoinError>) -> Failure {
    match ended {
        Ok(Err(error)) => Failure::Program(error.into()),
        Ok(Ok(())) => Failure::Program(anyhow!(
            "the node left before all was done: run the same command again"
        )),
        Err(panic) => Failure::Program(
            anyhow::Error::new(panic).context("the node ended by an error inside rbee"),
        ),
    }
}

/// The models of this run, which were resolved before it began.
struct RunShelf {
    sources: HashMap<ModelSha, Source>,
    args: EngineArgs,
    talk: Talk,
}

#[async_trait]
impl ModelShelf for RunShelf {
    async fn fetch(&self, _wish: &LoadWish, _share: &Share) -> Result<(), JobError> {
        Ok(())
    }

    fn load(
        &self,
        wish: &LoadWish,
        _memory: Option<u64>,
        events: mpsc::Sender<EngineEvent>,
    ) -> Result<Hosted, JobError> {
        let model = &wish.model;
        let source = self.sources.get(model).ok_or_else(|| {
            JobError::new(
                "model_not_found",
                format!("the model {model} is not among those of this run"),
            )
        })?;
        let room = Room::Alone(self.args.machine.memory);
        engine_host::host(source, &self.args, room, &self.talk, events)
    }
}

/// Feeds the node until the batch is done.
async fn dispatch(batches: &Batches, batch: &Batch, node: &NodeHandle) -> Result<(), Failure> {
    let (snapshots, seen) = watch::channel(vec![snapshot(&node.status().borrow())]);
    let (loads, mut wishes) = mpsc::channel::<Load>(LOADS_WAITING);
    let mut status = node.status();
    let passing_on = async {
        loop {
            tokio::select! {
                changed = status.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    snapshots.send_replace(vec![snapshot(&status.borrow_and_update())]);
                }
                Some(wish) = wishes.recv() => node.load(wish.model).await,
            }
        }
    };
    let dispatcher = Dispatcher::new(batches.clone());
    tokio::select! {
        done = dispatcher.run(&batch.id, seen, loads) => match done? {
            Dispatched::Done => Ok(()),
            Dispatched::Stopped => Err(anyhow!("the node left before all was done: run the same command again").into()),
        },
        () = passing_on => Err(anyhow!("the node left before all was done: run the same command again").into()),
    }
}

fn snapshot(status: &NodeStatus) -> NodeSnapshot {
    NodeSnapshot {
        numerics: status.numerics.clone(),
        resident: status.resident.iter().copied().map(Resident::new).collect(),
        loading: status
            .loading
            .iter()
            .map(|model| Loading {
                model: *model,
                share: 0.0,
            })
            .collect(),
        slots: status.slots,
        jobs_per_s: status.jobs_per_s,
        draining: status.draining,
        ..NodeSnapshot::new(status.node.clone(), NODE_NAME)
    }
}
