//! Comparing the store with the inboxes.
//!
//! The store is right. What it says a node has and the inbox lacks is pushed again under the same
//! attempt (a node that runs it already passes it over); what the inbox has and the store does not
//! is removed. Both are read one after the other while jobs move, so only what is seen twice in a
//! row counts.
//!
//! A node that keeps its lease and says that it has nothing to do, while jobs are placed on it, is cut
//! off from the queue. Its inbox is taken away and its jobs go to others; it gets new ones once it has
//! joined again.

use super::Shared;
use rbee_queue::batches::work_of;
use rbee_queue::queue::{Held, QueueError};
use rbee_queue::store::{MAX_JOBS_A_CALL, PlacedQuery, QueuedJob, ReleaseCause, StoredJob};
use rbee_queue::{Batch, JobRef, JobState, NodeInstance, StoreError, StoredNode};
use std::collections::{HashMap, HashSet};
use std::time::Duration;
use tokio::time::Instant;

/// Jobs that are pushed again in one go.
const PUSHED_AT_ONCE: usize = 512;

/// What the last comparisons found, by node.
#[derive(Default)]
pub(super) struct Suspicions {
    nodes: HashMap<NodeInstance, Suspicion>,
}

/// Differences that one comparison found.
#[derive(Default)]
struct Suspicion {
    missing: HashSet<Held>,
    /// With the number of times that each was seen.
    stale: HashMap<Held, u32>,
    /// Jobs that it has while it says that it has none, with since when.
    unheard: HashMap<Held, Instant>,
}

/// Differences that are sure.
#[derive(Debug, Default, PartialEq, Eq)]
struct Findings {
    /// To be pushed again.
    missing: Vec<Held>,
    /// To be removed.
    stale: Vec<Held>,
    /// To be forgotten: the node was told to stop them and has said nothing since.
    dead: Vec<Held>,
}

impl Suspicion {
    fn compare(&mut self, store: &HashSet<Held>, inbox: &HashSet<Held>) -> Findings {
        let missing: HashSet<Held> = store.difference(inbox).copied().collect();
        let stale: HashMap<Held, u32> = inbox
            .difference(store)
            .map(|held| (*held, self.stale.get(held).copied().unwrap_or(0) + 1))
            .collect();
        let mut findings = Findings {
            missing: missing.intersection(&self.missing).copied().collect(),
            ..Findings::default()
        };
        for (held, seen) in &stale {
            match seen {
                0 | 1 => {}
                2 => findings.stale.push(*held),
                _ => findings.dead.push(*held),
            }
        }
        findings.missing.sort_unstable_by_key(|held| held.job);
        (self.missing, self.stale) = (missing, stale);
        findings
    }

    /// How long the node has had a job of which it has not heard: at none of the looks had it anything to do.
    fn unheard(&mut self, store: &HashSet<Held>, idle: bool, now: Instant) -> Duration {
        if !idle {
            self.unheard.clear();
            return Duration::ZERO;
        }
        self.unheard.retain(|held, _| store.contains(held));
        for held in store {
            self.unheard.entry(*held).or_insert(now);
        }
        let first = self.unheard.values().min();
        first.map_or(Duration::ZERO, |first| now - *first)
    }
}

impl Suspicions {
    /// Compares one node.
    pub async fn reconcile(
        &mut self,
        shared: &Shared,
        stored: &StoredNode,
        batches: &[Batch],
    ) -> Result<(), StoreError> {
        let node = &stored.instance;
        let placed = shared
            .batches
            .store()
            .job_placed(&PlacedQuery::Node(node.clone()))
            .await?;
        let at = Instant::now();
        let held = match shared.batches.queue().held(node).await {
            Ok(held) => held,
            // Its next heartbeat makes one.
            Err(QueueError::NoSuchNode { .. }) => return Ok(()),
            Err(error) => {
                tracing::debug!(%error, %node, "the inbox cannot be read");
                return Ok(());
            }
        };
        shared.ledger().compare(node, (at, &held), batches);
        let whole = placed.len() < MAX_JOBS_A_CALL;
        let store: HashSet<Held> = placed.into_iter().map(|placed| placed.held).collect();
        let inbox: HashSet<Held> = held.into_iter().collect();
        let suspicion = self.nodes.entry(node.clone()).or_default();
        let findings = suspicion.compare(&store, &inbox);
        push_again(shared, node, &findings.missing, batches).await?;
        if whole {
            remove(shared, node, &findings).await;
        }
        // A node whose results wait for the store has done its jobs.
        let idle = stored.report.running == 0 && stored.report.blocked.is_none();
        if suspicion.unheard(&store, idle, Instant::now()) >= shared.options.lease {
            self.nodes.remove(node);
            take_back(shared, node).await?;
        }
        Ok(())
    }

    /// Forgets nodes that are gone.
    pub fn retain(&mut self, nodes: &[StoredNode]) {
        let there = |node: &NodeInstance| nodes.iter().any(|stored| stored.instance == *node);
        self.nodes.retain(|node, _| there(node));
    }
}

async fn push_again(
    shared: &Shared,
    node: &NodeInstance,
    missing: &[Held],
    batches: &[Batch],
) -> Result<(), StoreError> {
    for chunk in missing.chunks(PUSHED_AT_ONCE) {
        let jobs: Vec<JobRef> = chunk.iter().map(|held| held.job).collect();
        let stored = shared.batches.store().job_get(&jobs).await?;
        let still = chunk
            .iter()
            .zip(stored)
            .filter_map(|(held, stored)| Some((*held, stored?)))
            .filter(|(held, stored)| {
                stored.state == JobState::Placed
                    && stored.attempt == held.attempt
                    && stored.node.as_ref() == Some(node)
            });
        let work: Vec<_> = still
            .filter_map(|(held, stored)| {
                let batch = batches.iter().find(|batch| batch.no == held.job.batch)?;
                // A line that another version reads differently fails when it is placed again.
                work_of(batch, &queued(held, stored)?, held.attempt).ok()
            })
            .collect();
        let count = work.len();
        match shared.batches.queue().push(node, work).await {
            Ok(()) if count > 0 => {
                tracing::info!(%node, count, "the inbox had lost jobs, they are pushed again");
                shared
                    .status
                    .send_modify(|status| status.restored += count as u64);
            }
            Ok(()) => {}
            // The next comparison finds them again.
            Err(error) => tracing::debug!(%error, %node, "lost jobs were not pushed again"),
        }
    }
    Ok(())
}

/// Gives the jobs of a node to others that does not take them.
async fn take_back(shared: &Shared, node: &NodeInstance) -> Result<(), StoreError> {
    // The inbox first: what is not in it cannot be taken while it is released.
    if let Err(error) = shared.batches.queue().leave(node).await {
        tracing::debug!(%error, %node, "the inbox of a node that takes nothing stays for now");
        return Ok(());
    }
    let cause = ReleaseCause::Returned;
    let released = shared.batches.release_all_of(node, cause).await?;
    tracing::warn!(%node, released, "a node does not hear of its jobs, they are queued again");
    shared.woken.notify_one();
    Ok(())
}

fn queued(held: Held, stored: StoredJob) -> Option<QueuedJob> {
    Some(QueuedJob {
        job: held.job,
        line: stored.line,
        key: stored.key,
        model: stored.model?,
        alone: stored.alone,
    })
}

async fn remove(shared: &Shared, node: &NodeInstance, findings: &Findings) {
    let queue = shared.batches.queue();
    let mut failed = None;
    if !findings.stale.is_empty() {
        tracing::info!(%node, count = findings.stale.len(), "the inbox has jobs that are not the node's");
        failed = queue.cancel(node, &findings.stale).await.err();
    }
    if !findings.dead.is_empty() {
        failed = queue.done(node, &findings.dead).await.err().or(failed);
    }
    if let Some(error) = failed {
        tracing::debug!(%error, %node, "stale jobs stay in the inbox until the next comparison");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rbee_queue::{Attempt, BatchNo, JobIndex};

    fn held(index: u64, attempt: u64) -> Held {
        Held {
            job: JobRef {
                batch: BatchNo(1),
                index: JobIndex(index),
            },
            attempt: Attempt(attempt),
        }
    }

    #[test]
    fn only_what_is_seen_twice_in_a_row_counts() {
        let mut suspicion = Suspicion::default();
        let store = HashSet::from([held(0, 1), held(1, 1)]);
        let inbox = HashSet::from([held(1, 1), held(2, 1)]);
        assert_eq!(suspicion.compare(&store, &inbox), Findings::default());
        let found = suspicion.compare(&store, &inbox);
        assert_eq!(found.missing, [held(0, 1)]);
        assert_eq!(found.stale, [held(2, 1)]);
        let found = suspicion.compare(&store, &inbox);
        assert_eq!(found.dead, [held(2, 1)]);
        // In between it was there: the count begins anew.
        suspicion.compare(&inbox, &inbox);
        assert_eq!(suspicion.compare(&store, &inbox), Findings::default());
    }

    #[test]
    fn jobs_are_unheard_of_only_while_the_node_is_idle_at_every_look() {
        let mut suspicion = Suspicion::default();
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let seconds = Duration::from_secs;
        let (old, new) = (HashSet::from([held(0, 1)]), HashSet::from([held(1, 1)]));
        assert_eq!(suspicion.unheard(&old, true, at(0)), seconds(0));
        assert_eq!(suspicion.unheard(&old, true, at(9)), seconds(9));
        // Others came in their place: work flows.
        assert_eq!(suspicion.unheard(&new, true, at(10)), seconds(0));
        assert_eq!(suspicion.unheard(&new, false, at(15)), seconds(0));
        assert_eq!(suspicion.unheard(&new, true, at(16)), seconds(0));
        assert_eq!(suspicion.unheard(&new, true, at(20)), seconds(4));
        assert_eq!(suspicion.unheard(&HashSet::new(), true, at(30)), seconds(0));
    }

    #[test]
    fn another_attempt_is_another_job() {
        let mut suspicion = Suspicion::default();
        let (store, inbox) = (HashSet::from([held(0, 2)]), HashSet::from([held(0, 1)]));
        suspicion.compare(&store, &inbox);
        let found = suspicion.compare(&store, &inbox);
        assert_eq!(
            (found.missing, found.stale),
            (vec![held(0, 2)], vec![held(0, 1)])
        );
    }
}
