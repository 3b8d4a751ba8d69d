//! The lease of a node instance: joined, renewed with each heartbeat, and watched by a clock of the node's own.
//!
//! The store judges leases by its clock. The node counts from before it sent its last successful renewal, so its own
//! deadline never lies behind the store's, and stops a margin before it: what it commits is its own for certain.

use super::backoff::Backoff;
use super::clock::Moment;
use rbee_queue::{Batches, NodeInstance, NodeReport, Renewal, StoreError};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

/// Part of a lease that is left unused at its end.
const MARGIN: u32 = 10;
/// Part of a lease after which a renewal that is not answered is sent again, on another connection.
const PATIENCE: u32 = 3;
/// The longest look ahead: a machine that slept notices within this time that its lease is over.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The settings of a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseOptions {
    /// How long a renewal holds.
    pub lease: Duration,
    /// How often it is renewed.
    pub heartbeat: Duration,
    /// How long running jobs may go on when the node drains.
    pub grace: Duration,
}

impl Default for LeaseOptions {
    fn default() -> Self {
        LeaseOptions {
            lease: Duration::from_secs(15),
            heartbeat: Duration::from_secs(2),
            grace: Duration::from_secs(30),
        }
    }
}

/// Says whether the node may still write. A node without a lease always may.
#[derive(Debug, Clone, Default)]
pub struct Fence(Option<Arc<Deadline>>);

#[derive(Debug)]
struct Deadline {
    nanos: AtomicU64,
    cut: AtomicBool,
}

impl Fence {
    fn new(at: Moment) -> Fence {
        Fence(Some(Arc::new(Deadline {
            nanos: AtomicU64::new(at.as_nanos()),
            cut: AtomicBool::new(false),
        })))
    }

    /// Whether the lease goes on for certain.
    pub fn holds(&self) -> bool {
        self.0
            .as_ref()
            .is_none_or(|deadline| !deadline.cut.load(Ordering::Acquire) && !self.left().is_zero())
    }

    /// What is left of the lease.
    fn left(&self) -> Duration {
        self.0.as_ref().map_or(Duration::MAX, |deadline| {
            Moment::from_nanos(deadline.nanos.load(Ordering::Acquire)).left()
        })
    }

    fn extend(&self, to: Moment) {
        if let Some(deadline) = &self.0 {
            deadline.nanos.store(to.as_nanos(), Ordering::Release);
        }
    }

    fn cut(&self) {
        if let Some(deadline) = &self.0 {
            deadline.cut.store(true, Ordering::Release);
        }
    }
}

/// How a lease stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaseState {
    /// The node may work.
    Held {
        /// The store wishes that it takes no new jobs.
        drain: bool,
    },
    /// It may not write any more; the reason is for the log.
    Lost(String),
}

/// A lease that is renewed by tasks of its own until it is dropped.
pub struct Lease {
    fence: Fence,
    state: watch::Receiver<LeaseState>,
    prod: Arc<Notify>,
    tasks: Vec<JoinHandle<()>>,
}

/// What a lease is for.
#[derive(Clone)]
pub struct Tenant {
    /// Store and queue.
    pub batches: Batches,
    /// The instance.
    pub instance: NodeInstance,
    /// What it says of itself, as it changes.
    pub report: watch::Receiver<NodeReport>,
    /// How many jobs its inbox may hold.
    pub inbox: usize,
}

impl Tenant {
    /// Gives the instance a lease, and an inbox if the queue can be reached: if not, that is tried with each heartbeat.
    ///
    /// # Errors
    /// When the store does not take the node, or not within the lease.
    pub async fn join(self, options: &LeaseOptions) -> Result<Lease, StoreError> {
        let sent = Moment::now();
        let report = self.report.borrow().clone();
        let store = self.batches.store();
        store
            .node_join(&self.instance, &report, options.lease)
            .await?;
        let fence = Fence::new(sent.after(usable(options.lease)));
        let (tell, state) = watch::channel(LeaseState::Held { drain: false });
        let prod = Arc::new(Notify::new());
        let inbox = tokio::spawn(self.clone().keep_inbox(options.heartbeat));
        let renewing = Renewing {
            tenant: self,
            options: options.clone(),
            fence: fence.clone(),
            tell,
            prod: Arc::clone(&prod),
        };
        // The first renewal brings the store's wishes.
        prod.notify_one();
        Ok(Lease {
            fence,
            state,
            prod,
            tasks: vec![inbox, tokio::spawn(renewing.run())],
        })
    }

    /// The inbox is joined again with each heartbeat: a queue may lose everything at any moment.
    async fn keep_inbox(self, heartbeat: Duration) {
        let queue = self.batches.queue();
        let mut failures = Backoff::up_to(heartbeat);
        loop {
            let joined = queue.join(&self.instance, self.inbox);
            match tokio::time::timeout(heartbeat, joined).await {
                Ok(Ok(())) => {
                    failures.reset();
                    tokio::time::sleep(heartbeat).await;
                }
                other => {
                    if failures.is_fresh() {
                        let error = match other {
                            Ok(Err(error)) => error.to_string(),
                            _ => "it does not answer".to_owned(),
                        };
                        tracing::warn!(
                            node = %self.instance, error,
                            "the queue cannot be reached: no new work until it can"
                        );
                    }
                    failures.wait().await;
                }
            }
        }
    }
}

/// The part of a lease that the node uses.
fn usable(lease: Duration) -> Duration {
    lease - lease / MARGIN
}

impl Lease {
    /// Whether the node may still write.
    pub fn fence(&self) -> &Fence {
        &self.fence
    }

    /// The state after it has changed.
    pub async fn changed(&mut self) -> LeaseState {
        match self.state.changed().await {
            Ok(()) => self.state.borrow_and_update().clone(),
            Err(_) => LeaseState::Lost("its renewal has ended".to_owned()),
        }
    }

    /// Sends the next heartbeat now.
    pub fn prod(&self) {
        self.prod.notify_one();
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.fence.cut();
        for task in &self.tasks {
            task.abort();
        }
    }
}

struct Renewing {
    tenant: Tenant,
    options: LeaseOptions,
    fence: Fence,
    tell: watch::Sender<LeaseState>,
    prod: Arc<Notify>,
}

impl Renewing {
    async fn run(self) {
        let reason = tokio::select! {
            reason = self.renew() => reason,
            () = self.deadline() => "it could not be renewed in time".to_owned(),
        };
        self.fence.cut();
        self.tell.send_replace(LeaseState::Lost(reason));
    }

    /// Returns when the lease is over by the node's own clock.
    async fn deadline(&self) {
        loop {
            match self.fence.left() {
                Duration::ZERO => return,
                left => tokio::time::sleep(left.min(LOOK_EVERY)).await,
            }
        }
    }

    /// Renews until the store says that the lease is lost.
    async fn renew(&self) -> String {
        let mut failures = Backoff::up_to(self.options.heartbeat);
        loop {
            tokio::select! {
                () = tokio::time::sleep(self.options.heartbeat) => {}
                () = self.prod.notified() => {}
            }
            loop {
                let failure = match self.renew_once().await {
                    Ok(Some(lost)) => return lost,
                    Ok(None) => break,
                    Err(failure) => failure,
                };
                if failures.is_fresh() {
                    tracing::warn!(node = %self.tenant.instance, error = failure, "the lease was not renewed, trying again");
                }
                failures.wait().await;
            }
            failures.reset();
        }
    }

    /// Sends one renewal. Gives why the lease is lost, if it is; an error is what kept the store from saying.
    async fn renew_once(&self) -> Result<Option<String>, String> {
        let lease = self.options.lease;
        let sent = Moment::now();
        let report = self.tenant.report.borrow().clone();
        let store = self.tenant.batches.store();
        let renewal = store.node_renew(&self.tenant.instance, &report, lease);
        let renewal = tokio::time::timeout(lease / PATIENCE, renewal).await;
        match renewal.map_err(|_| "the store does not answer".to_owned())? {
            Err(error) => Err(error.to_string()),
            Ok(Renewal::Lost) => Ok(Some("the store has judged it to be over".to_owned())),
            // A renewal that took longer than the lease does not bring a fenced node back.
            Ok(_) if !self.fence.holds() => Ok(Some("it was not renewed in time".to_owned())),
            Ok(Renewal::Renewed { drain }) => {
                self.fence.extend(sent.after(usable(lease)));
                let held = LeaseState::Held { drain };
                self.tell
                    .send_if_modified(|state| *state != held && replace(state, held));
                Ok(None)
            }
        }
    }
}

fn replace(state: &mut LeaseState, by: LeaseState) -> bool {
    *state = by;
    true
}
