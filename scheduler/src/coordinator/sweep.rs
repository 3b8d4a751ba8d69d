//! The slow loop: lost nodes, differences between store and inboxes, orphans, files whose time is over.

use super::Shared;
use super::reconcile::Suspicions;
use super::rescue::{release_strays, rescue};
use super::trouble::Trouble;
use rbee_queue::{NodeInstance, StoreError, StoredNode};
use std::collections::HashSet;
use std::sync::Arc;
use tokio::time::{Instant, MissedTickBehavior};

/// Every so many sweeps inboxes are compared even where no batch is open.
const IDLE_SWEEPS: u64 = 15;
/// Every so many sweeps jobs of nodes that left are looked for.
const STRAY_SWEEPS: u64 = 5;
/// Every so many sweeps hidden batches of dead processes and files to be deleted are looked for.
const ORPHAN_SWEEPS: u64 = 30;

/// The loop that puts right what was cut off.
pub(super) struct Sweep {
    shared: Arc<Shared>,
    suspicions: Suspicions,
    /// Lost nodes whose inboxes are gone.
    buried: HashSet<NodeInstance>,
    sweeps: u64,
}

impl Sweep {
    pub fn new(shared: Arc<Shared>) -> Sweep {
        Sweep {
            shared,
            suspicions: Suspicions::default(),
            buried: HashSet::new(),
            sweeps: 0,
        }
    }

    /// Sweeps until it is dropped. Returns only with an error that no patience changes.
    pub async fn run(&mut self) -> StoreError {
        let mut trouble = Trouble::new("nodes cannot be looked after");
        let mut ticks = tokio::time::interval(self.shared.options.sweep);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            match self.sweep().await {
                Ok(()) => {
                    self.shared.sight().seen(Instant::now());
                    trouble.over();
                }
                Err(error @ StoreError::NewerSchema { .. }) => return error,
                Err(error) => trouble.note(&error),
            }
            self.sweeps += 1;
        }
    }

    async fn sweep(&mut self) -> Result<(), StoreError> {
        let shared = Arc::clone(&self.shared);
        let store = shared.batches.store();
        rescue(&shared).await?;
        if self.sweeps.is_multiple_of(STRAY_SWEEPS) {
            release_strays(&shared).await?;
            self.bury(store.node_list().await?).await;
        }
        if self.sweeps.is_multiple_of(ORPHAN_SWEEPS) {
            shared.batches.sweep().await?;
            store.file_prune().await?;
        }
        let open = store.batch_open().await?;
        if open.is_empty() && !self.sweeps.is_multiple_of(IDLE_SWEEPS) {
            return Ok(());
        }
        let nodes: Vec<StoredNode> = (store.node_list().await?.into_iter())
            .filter(|node| !node.lost)
            .collect();
        self.suspicions.retain(&nodes);
        for node in &nodes {
            self.suspicions.reconcile(&shared, node, &open).await?;
        }
        Ok(())
    }

    /// Takes the inboxes of lost nodes away that a leader before this one did not come to.
    async fn bury(&mut self, nodes: Vec<StoredNode>) {
        let lost = nodes.into_iter().filter(|node| node.lost);
        let lost: HashSet<NodeInstance> = lost.map(|node| node.instance).collect();
        self.buried.retain(|node| lost.contains(node));
        for node in lost {
            if self.buried.contains(&node) {
                continue;
            }
            match self.shared.batches.queue().leave(&node).await {
                Ok(_) => drop(self.buried.insert(node)),
                Err(error) => {
                    tracing::debug!(%error, %node, "the lost node's inbox stays for now");
                    return;
                }
            }
        }
    }
}
