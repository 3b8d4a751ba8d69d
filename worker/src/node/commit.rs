//! Committing results and giving jobs back: group after group, patient when the store is full, locked or away.

use super::backoff::Backoff;
use super::lease::Fence;
use super::traced::{AttemptTimes, Teller};
use rbee_queue::queue::Held;
use rbee_queue::store::{Finish, FinishOutcome, ReleaseCause};
use rbee_queue::{Batches, NodeInstance, StoreError, trace};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

/// The longest wait before a store that takes nothing now is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Groups between the node and the store.
const GROUPS_WAITING: usize = 1;
/// Groups that are done and whose end the node has not heard of yet.
const ENDS_WAITING: usize = 4;

/// What goes to the store in one go.
#[derive(Debug, Default)]
pub struct Group {
    /// Results.
    pub finishes: Vec<Finish>,
    /// Jobs that the node gives back.
    pub returns: Vec<Held>,
    /// When the results' attempts were where, while somebody collects traces.
    pub times: HashMap<Held, AttemptTimes>,
}

impl Group {
    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.finishes.is_empty() && self.returns.is_empty()
    }

    fn jobs(&self) -> Vec<Held> {
        let finished = self.finishes.iter().map(|finish| Held {
            job: finish.job,
            attempt: finish.attempt,
        });
        finished.chain(self.returns.iter().copied()).collect()
    }
}

/// The task that commits.
pub struct Committer {
    groups: mpsc::Sender<Group>,
    task: JoinHandle<Result<(), StoreError>>,
    ending: Arc<AtomicBool>,
}

/// What the task works with.
pub struct Ledger {
    /// Store and queue.
    pub batches: Batches,
    /// Whose jobs they are.
    pub node: NodeInstance,
    /// Nothing is committed once it does not hold.
    pub fence: Fence,
    /// While the store takes nothing, it holds its sentence.
    pub blocked: watch::Sender<Option<String>>,
}

impl Committer {
    /// Starts the task. The receiver hears of the jobs that are done with.
    pub fn start(ledger: Ledger) -> (Committer, mpsc::Receiver<Vec<Held>>) {
        let (groups, mut waiting) = mpsc::channel::<Group>(GROUPS_WAITING);
        let (tell, ended) = mpsc::channel(ENDS_WAITING);
        let ending = Arc::new(AtomicBool::new(false));
        let impatient = Arc::clone(&ending);
        let task = tokio::spawn(async move {
            let mut teller = Teller::default();
            while let Some(group) = waiting.recv().await {
                let jobs = group.jobs();
                let began_us = trace::now_us();
                let Some(outcomes) = ledger.settle(&group, &impatient).await? else {
                    return Ok(());
                };
                if trace::is_on() {
                    let told = teller.stored(&ledger.batches, &group, &outcomes, began_us);
                    told.await;
                }
                // A node that leaves does not listen any more.
                let _ = tell.send(jobs).await;
            }
            Ok(())
        });
        let committer = Committer {
            groups,
            task,
            ending,
        };
        (committer, ended)
    }

    /// Room for one group; `None` if the task has ended.
    pub fn ready(&self) -> impl Future<Output = Option<mpsc::OwnedPermit<Group>>> + use<> {
        let groups = self.groups.clone();
        async move { groups.reserve_owned().await.ok() }
    }

    /// Commits the last group and ends. It is not patient any more: a result that is not stored is computed again.
    pub async fn finish(self, last: Group) -> Result<(), StoreError> {
        self.ending.store(true, Ordering::Release);
        if !last.is_empty() {
            // A task that has failed meanwhile says so below.
            let _ = self.groups.send(last).await;
        }
        drop(self.groups);
        self.task.await.expect("the committing task does not panic")
    }

    /// Ends at once: what is not committed never will be.
    pub fn abandon(self) {
        self.task.abort();
    }
}

impl Ledger {
    /// Brings a group into the store, and says what became of its results. `None` once the lease does not hold any more.
    async fn settle(
        &self,
        group: &Group,
        impatient: &AtomicBool,
    ) -> Result<Option<Vec<FinishOutcome>>, StoreError> {
        let mut retry = Backoff::up_to(RETRY_AFTER);
        let outcomes = loop {
            if !self.fence.holds() {
                return Ok(None);
            }
            match self.write(group).await {
                Ok(outcomes) => break outcomes,
                Err(error) if error.is_temporary() && !impatient.load(Ordering::Acquire) => {
                    if self.blocked.send_replace(Some(error.to_string())).is_none() {
                        tracing::warn!(%error, node = %self.node, "results wait for the store");
                    }
                    retry.wait().await;
                }
                Err(error) => return Err(error),
            }
        };
        self.blocked
            .send_if_modified(|reason| reason.take().is_some());
        Ok(Some(outcomes))
    }

    async fn write(&self, group: &Group) -> Result<Vec<FinishOutcome>, StoreError> {
        let outcomes = match group.finishes.is_empty() {
            true => Vec::new(),
            false => {
                let finishes = group.finishes.clone();
                self.batches.finish(&self.node, finishes).await?
            }
        };
        if !group.returns.is_empty() {
            let cause = ReleaseCause::Returned;
            self.batches
                .release(&self.node, &group.returns, cause)
                .await?;
        }
        Ok(outcomes)
    }
}
