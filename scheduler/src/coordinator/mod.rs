//! The coordinator: of all processes that could, one leads. It gives waiting jobs to nodes, brings
//! models to where they are needed, and puts right what was cut off.
//!
//! Owns the lead and its loops. Which node gets what is decided in `placement`; every write about a
//! job is fenced by the store, so that two leaders at once would cost time, never a result.

mod cancel;
mod claims;
mod expire;
mod feed;
mod ledger;
mod reconcile;
mod rescue;
mod retention;
mod schedules;
mod sight;
mod status;
mod sweep;
mod tell;
#[cfg(test)]
mod tests;
mod trouble;
mod validate;

pub use retention::Retention;
pub(crate) use schedules::uploaded_file;
pub use schedules::{PLACEHOLDERS, RunPlace, ScheduleSettings, expand};
pub use status::CoordinatorStatus;
pub(crate) use validate::MAX_ANNOUNCED;
pub use validate::ValidationSettings;

use crate::placer::Placer;
use crate::webhook::Webhooks;
use claims::Claims;
use feed::Feed;
use ledger::Ledger;
use rbee_queue::trace::{self, Span};
use rbee_queue::{BatchId, Batches, NodeInstance, StoreError};
use sight::Sight;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use sweep::Sweep;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use trouble::Trouble;

/// Looks a lease at the least: who looks more seldom cannot tell a node's silence from its own absence.
const SWEEPS_A_LEASE: u32 = 5;

/// Settings of a coordinator.
#[derive(Clone, Debug)]
pub struct CoordinatorOptions {
    /// Who leads: an id of this process.
    pub holder: String,
    /// The lease of nodes.
    pub lease: Duration,
    /// How often lost nodes are looked for, and the store is compared with the inboxes; at least some times a lease.
    pub sweep: Duration,
    /// The lease of the lead.
    pub leader_lease: Duration,
    /// Batches of this owner are not run.
    pub skip_owner: Option<String>,
    /// How receivers are told of finished batches; `None`: they are not.
    pub webhooks: Option<Webhooks>,
    /// The wait before a receiver that did not hear is told again for the first time.
    pub tell_again: Duration,
    /// Which finished batches are deleted, and when.
    pub retention: Vec<Retention>,
    /// What schedules may use; `None`: none are run.
    pub schedules: Option<ScheduleSettings>,
    /// What reading the files of announced batches takes; `None`: none are read.
    pub validation: Option<ValidationSettings>,
}

impl Default for CoordinatorOptions {
    fn default() -> CoordinatorOptions {
        CoordinatorOptions {
            holder: NodeInstance::generate().to_string(),
            lease: Duration::from_secs(15),
            sweep: Duration::from_secs(2),
            leader_lease: Duration::from_millis(2500),
            skip_owner: None,
            webhooks: None,
            tell_again: Duration::from_secs(2),
            retention: Vec::new(),
            schedules: None,
            validation: None,
        }
    }
}

/// The way to tell and ask a running coordinator.
#[derive(Clone, Debug)]
pub struct CoordinatorHandle {
    woken: Arc<Notify>,
    status: watch::Receiver<CoordinatorStatus>,
    schedules_woken: Arc<Notify>,
    announced: Arc<Notify>,
    skip_owner: Option<String>,
    webhooks: Option<Webhooks>,
    schedules: Option<ScheduleSettings>,
}

impl CoordinatorHandle {
    /// What schedules may use; `None`: none are run.
    pub fn schedules(&self) -> Option<&ScheduleSettings> {
        self.schedules.as_ref()
    }

    /// A batch was announced, or one that was is cancelled: look now.
    pub fn wake_announced(&self) {
        self.announced.notify_one();
    }

    /// A schedule was made, changed or wanted: look now.
    pub fn wake_schedules(&self) {
        self.schedules_woken.notify_one();
    }

    /// Whether batches of an owner are left to whoever made them.
    pub fn leaves_alone(&self, owner: &str) -> bool {
        self.skip_owner.as_deref() == Some(owner)
    }

    /// How receivers are told of finished batches; `None`: they are not.
    pub fn webhooks(&self) -> Option<&Webhooks> {
        self.webhooks.as_ref()
    }

    /// Something was submitted, cancelled, paused, resumed or retried: look now.
    pub fn wake(&self) {
        self.woken.notify_one();
    }

    /// What the coordinator does, as it changes.
    pub fn status(&self) -> watch::Receiver<CoordinatorStatus> {
        self.status.clone()
    }
}

/// What the loops of a coordinator share.
struct Shared {
    batches: Batches,
    options: CoordinatorOptions,
    placer: Placer,
    ledger: Mutex<Ledger>,
    sight: Mutex<Sight>,
    status: watch::Sender<CoordinatorStatus>,
    woken: Arc<Notify>,
    /// Schedules are to be looked at.
    schedules_woken: Arc<Notify>,
    /// Announced batches are to be looked at.
    announced: Arc<Notify>,
    /// Runs are to be looked at.
    runs_changed: Notify,
}

impl Shared {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        // Books that a panic left half written are put right by the next comparison.
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sight(&self) -> MutexGuard<'_, Sight> {
        self.sight.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A coordinator that is ready to [`run`](Coordinator::run).
pub struct Coordinator {
    shared: Arc<Shared>,
}

/// Why a coordinator leads no more.
enum Ended {
    Stopped,
    LeadLost,
    Failed(StoreError),
}

impl Coordinator {
    /// A coordinator over store and queue, and the handle by which it is told and asked.
    pub fn new(
        batches: Batches,
        mut options: CoordinatorOptions,
    ) -> (Coordinator, CoordinatorHandle) {
        options.sweep = options.sweep.min(options.lease / SWEEPS_A_LEASE);
        let (status, seen) = watch::channel(CoordinatorStatus::default());
        let woken = Arc::new(Notify::new());
        let schedules_woken = Arc::new(Notify::new());
        let announced = Arc::new(Notify::new());
        let handle = CoordinatorHandle {
            schedules_woken: Arc::clone(&schedules_woken),
            announced: Arc::clone(&announced),
            schedules: options.schedules.clone(),
            woken: Arc::clone(&woken),
            status: seen,
            skip_owner: options.skip_owner.clone(),
            webhooks: options.webhooks.clone(),
        };
        let shared = Shared {
            placer: Placer::new(batches.clone()),
            batches,
            ledger: Mutex::new(Ledger::default()),
            sight: Mutex::new(Sight::new(options.lease)),
            options,
            status,
            woken,
            schedules_woken,
            announced,
            runs_changed: Notify::new(),
        };
        let coordinator = Coordinator {
            shared: Arc::new(shared),
        };
        (coordinator, handle)
    }

    /// Leads whenever nobody else does, until it is told to stop.
    ///
    /// # Errors
    /// Where the store says what no patience changes: it was made by a newer rbee.
    pub async fn run(self, stop: CancellationToken) -> Result<(), StoreError> {
        let shared = &self.shared;
        let store = shared.batches.store();
        let mut trouble = Trouble::new("the lead cannot be asked for");
        loop {
            let asked_at = Instant::now();
            let led = tokio::select! {
                led = store.lead(&shared.options.holder, shared.options.leader_lease) => led,
                () = stop.cancelled() => return Ok(()),
            };
            match led {
                Ok(term) => {
                    trouble.over();
                    shared.sight().seen(Instant::now());
                    if let Some(term) = term {
                        let until = asked_at + shared.options.leader_lease;
                        match lead(shared, term, until, &stop).await {
                            Ended::Failed(error) => return Err(error),
                            Ended::Stopped => {
                                self.give_back().await;
                                return Ok(());
                            }
                            Ended::LeadLost => {}
                        }
                    }
                }
                Err(error @ StoreError::NewerSchema { .. }) => return Err(error),
                Err(error) => trouble.note(&error),
            }
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(shared.options.leader_lease / 5) => {}
            }
        }
    }

    /// So that the next one leads at once.
    async fn give_back(&self) {
        let options = &self.shared.options;
        let given = self.shared.batches.store().lead_end(&options.holder);
        match tokio::time::timeout(options.leader_lease, given).await {
            Ok(Ok(())) => {}
            // It ends by itself.
            Ok(Err(error)) => tracing::debug!(%error, "the lead was not given back"),
            Err(_) => tracing::debug!("the lead was not given back in time"),
        }
    }
}

/// Tells whoever collects traces of a batch that has ended, other than by a node's last result.
pub(crate) async fn told_of_end(batches: &Batches, id: &BatchId) {
    if trace::is_on()
        && let Ok(Some(batch)) = batches.store().batch_get(id).await
        && batch.status.is_terminal()
    {
        trace::tell(|| Span::of_ended(&batch));
    }
}

/// Leads until the lead is lost: the loops are dropped at that moment, wherever they are.
async fn lead(shared: &Arc<Shared>, term: u64, until: Instant, stop: &CancellationToken) -> Ended {
    tracing::info!(term, "this process leads");
    *shared.ledger() = Ledger::default();
    shared.status.send_modify(|status| {
        status.leading = true;
        status.term = term;
    });
    let mut feed = Feed::new(Arc::clone(shared), Claims::new(shared));
    let mut sweep = Sweep::new(Arc::clone(shared));
    let ended = tokio::select! {
        biased;
        () = stop.cancelled() => Ended::Stopped,
        () = lost(shared, until) => Ended::LeadLost,
        error = feed.run() => Ended::Failed(error),
        error = sweep.run() => Ended::Failed(error),
        error = tell::tell(shared) => Ended::Failed(error),
        error = retention::retain(shared) => Ended::Failed(error),
        error = schedules::run(shared) => Ended::Failed(error),
        error = validate::run(shared) => Ended::Failed(error),
    };
    shared.status.send_modify(|status| {
        *status = CoordinatorStatus {
            leading: false,
            waiting: 0,
            holds: Vec::new(),
            ..status.clone()
        };
    });
    tracing::info!(term, "this process leads no more");
    ended
}

/// Renews the lead; returns when it is lost or may be.
async fn lost(shared: &Shared, mut until: Instant) {
    let options = &shared.options;
    let mut trouble = Trouble::new("the lead cannot be renewed");
    loop {
        tokio::time::sleep(options.leader_lease / 4).await;
        let asked_at = Instant::now();
        let renewed = shared
            .batches
            .store()
            .lead(&options.holder, options.leader_lease);
        match tokio::time::timeout_at(until, renewed).await {
            Ok(Ok(Some(_))) => {
                trouble.over();
                shared.sight().seen(Instant::now());
                until = asked_at + options.leader_lease;
            }
            Ok(Ok(None)) | Err(_) => return,
            Ok(Err(error)) => trouble.note(&error),
        }
        if Instant::now() >= until {
            return;
        }
    }
}
