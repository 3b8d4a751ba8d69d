//! Doing what placement decides: queued jobs get an attempt in the store, then lie in an inbox.
//!
//! Owns the order of those writes. One group of jobs is read and placed while the one before is
//! pushed.

use crate::placement::{Decision, NodeSnapshot};
use futures_util::future;
use rbee_queue::batches::work_of;
use rbee_queue::queue::{Held, QueueError, Work};
use rbee_queue::record::{JobError, JobStats, Outcome, RECORD_VERSION, ResultRecord};
use rbee_queue::store::{Finish, Place, PlaceOutcome, QueuedQuery, ReleaseCause};
use rbee_queue::trace::{self, Part, Span};
use rbee_queue::{Attempt, Batch, BatchNo, Batches, JobRef, ModelNo, NodeInstance, StoreError};

/// Jobs that are placed in one transaction: bounds its length and the memory of their lines.
const JOBS_A_GROUP: usize = 1_024;
/// Jobs that are failed in one transaction.
const FAILED_AT_ONCE: usize = 1_000;

/// Places, pushes and fails jobs.
#[derive(Clone)]
pub(crate) struct Placer {
    batches: Batches,
    /// Under this name jobs fail that no node can run.
    name: NodeInstance,
}

/// Jobs that a node got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Given {
    pub node: NodeInstance,
    pub batch: BatchNo,
    pub no: ModelNo,
    pub jobs: Vec<Held>,
}

/// Jobs of one model of one batch, for one or more nodes. In input order each node gets a run of
/// neighbours: those are the likeliest to share a prompt's beginning.
struct Group<'a> {
    batch: &'a Batch,
    no: ModelNo,
    shares: Vec<(&'a NodeSnapshot, usize)>,
}

/// Placed jobs on their way to an inbox.
struct Push {
    batch: BatchNo,
    no: ModelNo,
    node: NodeInstance,
    work: Vec<Work>,
}

impl Push {
    /// Tells whoever collects traces of the places that these jobs got.
    fn told(&self, batch: &Batch, began_us: i64) {
        let Some(first) = self.work.first() else {
            return;
        };
        trace::tell(|| {
            Span::of_batch(
                &batch.id,
                Part::Place(first.job.index, first.attempt),
                began_us,
            )
            .with("rbee.node_instance", self.node.to_string())
            .with("rbee.jobs", self.work.len() as u64)
        });
    }
}

impl Placer {
    pub fn new(batches: Batches) -> Placer {
        Placer {
            batches,
            name: NodeInstance::generate(),
        }
    }

    /// True of the name under which jobs fail.
    pub fn is_name(&self, node: &NodeInstance) -> bool {
        self.name == *node
    }

    /// Carries out the placements of a plan. What was given before an error is returned with it.
    pub async fn carry_out(
        &self,
        decisions: &[Decision],
        batches: &[Batch],
        nodes: &[NodeSnapshot],
    ) -> (Vec<Given>, Result<(), StoreError>) {
        let mut given = Vec::new();
        let mut pending = Vec::new();
        for group in groups(decisions, batches, nodes) {
            let before = std::mem::take(&mut pending);
            let (pushed, placed) = tokio::join!(self.push(before), self.place(&group));
            match (pushed, placed) {
                (Ok(pushed), Ok(placed)) => {
                    given.extend(pushed);
                    pending = placed;
                }
                (Ok(pushed), Err(error)) => {
                    given.extend(pushed);
                    return (given, Err(error));
                }
                // What was placed just now is pushed when the store is compared with the inboxes.
                (Err(error), _) => return (given, Err(error)),
            }
        }
        match self.push(pending).await {
            Ok(pushed) => {
                given.extend(pushed);
                (given, Ok(()))
            }
            Err(error) => (given, Err(error)),
        }
    }

    /// Gives each job of a group an attempt.
    async fn place(&self, group: &Group<'_>) -> Result<Vec<Push>, StoreError> {
        let store = self.batches.store();
        let limit = group.shares.iter().map(|(_, jobs)| jobs).sum();
        let query = QueuedQuery {
            batch: group.batch.no,
            model: group.no,
            limit,
        };
        let jobs = store.job_queued(query).await?;
        let nodes: Vec<&NodeSnapshot> = (group.shares.iter())
            .flat_map(|(node, jobs)| std::iter::repeat_n(*node, *jobs))
            .collect();
        let places = jobs
            .iter()
            .zip(&nodes)
            .map(|(queued, node)| Place {
                job: queued.job,
                node: node.node.clone(),
                numerics: Some(node.numerics.clone()),
            })
            .collect();
        let began_us = trace::now_us();
        let outcomes = store.place_many(places).await?;
        let (mut pushes, mut refused) = (Vec::<Push>::new(), Vec::new());
        for ((queued, node), outcome) in jobs.iter().zip(nodes).zip(outcomes) {
            let PlaceOutcome::Placed(attempt) = outcome else {
                continue;
            };
            let work = match work_of(group.batch, queued, attempt) {
                Ok(work) => work,
                Err(error) => {
                    refused.push(failure(queued.job, attempt, error));
                    continue;
                }
            };
            match pushes.last_mut().filter(|push| push.node == node.node) {
                Some(push) => push.work.push(work),
                None => pushes.push(Push {
                    batch: group.batch.no,
                    no: group.no,
                    node: node.node.clone(),
                    work: vec![work],
                }),
            }
        }
        for push in &pushes {
            push.told(group.batch, began_us);
        }
        if !refused.is_empty() {
            self.batches.finish(&self.name, refused).await?;
        }
        Ok(pushes)
    }

    async fn push(&self, pushes: Vec<Push>) -> Result<Vec<Given>, StoreError> {
        let pushed = future::join_all(pushes.into_iter().map(|push| self.push_one(push))).await;
        let given: Result<Vec<Option<Given>>, StoreError> = pushed.into_iter().collect();
        Ok(given?.into_iter().flatten().collect())
    }

    async fn push_one(&self, push: Push) -> Result<Option<Given>, StoreError> {
        let jobs: Vec<Held> = push.work.iter().map(Work::held).collect();
        let given = Given {
            node: push.node,
            batch: push.batch,
            no: push.no,
            jobs,
        };
        match self.batches.queue().push(&given.node, push.work).await {
            Ok(()) => Ok(Some(given)),
            Err(error @ (QueueError::NoSuchNode { .. } | QueueError::Full { .. })) => {
                tracing::debug!(%error, "the inbox takes no more, the jobs are queued again");
                let cause = ReleaseCause::Returned;
                self.batches
                    .release(&given.node, &given.jobs, cause)
                    .await?;
                Ok(None)
            }
            Err(error) => {
                // They may have arrived. They are the node's, and reconciling brings them there.
                tracing::warn!(%error, "placed jobs wait for the queue");
                Ok(Some(given))
            }
        }
    }

    /// Fails queued jobs of a model, a bounded number. Returns how many.
    pub async fn fail(
        &self,
        batch: &Batch,
        no: ModelNo,
        error: &JobError,
    ) -> Result<usize, StoreError> {
        let store = self.batches.store();
        let query = QueuedQuery {
            batch: batch.no,
            model: no,
            limit: FAILED_AT_ONCE,
        };
        let jobs = store.job_queued(query).await?;
        let places = jobs
            .iter()
            .map(|queued| Place {
                job: queued.job,
                node: self.name.clone(),
                numerics: None,
            })
            .collect();
        let outcomes = store.place_many(places).await?;
        let finishes: Vec<Finish> = jobs
            .iter()
            .zip(outcomes)
            .filter_map(|(queued, outcome)| match outcome {
                PlaceOutcome::Placed(attempt) => Some(failure(queued.job, attempt, error.clone())),
                _ => None,
            })
            .collect();
        let failed = finishes.len();
        self.batches.finish(&self.name, finishes).await?;
        Ok(failed)
    }
}

/// Placements of one model of one batch together, cut where a transaction would become too long.
fn groups<'a>(
    decisions: &[Decision],
    batches: &'a [Batch],
    nodes: &'a [NodeSnapshot],
) -> Vec<Group<'a>> {
    let mut groups: Vec<Group<'a>> = Vec::new();
    for decision in decisions {
        let Decision::Place {
            node,
            batch,
            no,
            jobs,
        } = decision
        else {
            continue;
        };
        let batch = (batches.iter())
            .find(|known| known.no == *batch)
            .expect("placement decides about the batches it was given");
        let node = (nodes.iter())
            .find(|known| known.node == *node)
            .expect("placement decides about the nodes it was given");
        let mut left = *jobs;
        while left > 0 {
            let same = |group: &&mut Group<'_>| group.batch.no == batch.no && group.no == *no;
            let open = groups
                .last_mut()
                .filter(same)
                .filter(|group| group.room() > 0);
            let group = match open {
                Some(group) => group,
                None => {
                    groups.push(Group {
                        batch,
                        no: *no,
                        shares: Vec::new(),
                    });
                    groups.last_mut().expect("one was just pushed")
                }
            };
            let share = left.min(group.room());
            group.shares.push((node, share));
            left -= share;
        }
    }
    groups
}

impl Group<'_> {
    fn room(&self) -> usize {
        let taken: usize = self.shares.iter().map(|(_, jobs)| jobs).sum();
        JOBS_A_GROUP.saturating_sub(taken)
    }
}

fn failure(job: JobRef, attempt: Attempt, error: JobError) -> Finish {
    Finish {
        job,
        attempt,
        record: ResultRecord {
            version: RECORD_VERSION,
            outcome: Outcome::Failed(error),
        },
        stats: JobStats::default(),
    }
}
