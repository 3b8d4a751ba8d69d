//! Runs that begin: those whose tick was fired just now, those that waited, and those that a dead leader left in the middle.

use super::super::Shared;
use super::load::{Loading, load, tells};
use super::settings::ScheduleSettings;
use crate::http::OWNER;
use crate::schedule::Zone;
use rbee_queue::batches::Reserved;
use rbee_queue::owner::BatchLock;
use rbee_queue::schedule::{Overlap, RunNo, RunState, Schedule, ScheduleNo, ScheduleRun};
use rbee_queue::store::{NewBatch, RunChange};
use rbee_queue::{BatchId, StoreError};
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};

/// Inputs that are read at once: each has a file and a thread.
const MAX_LOADS: usize = 4;

/// The runs whose prompts this process reads.
pub(super) struct Beginnings {
    shared: Arc<Shared>,
    settings: ScheduleSettings,
    turns: Arc<Semaphore>,
    /// Dropped with the lead, wherever they are.
    tasks: JoinSet<RunNo>,
    loading: HashMap<RunNo, AbortHandle>,
}

/// The batch of a tick, hidden and empty, and its models unknown.
pub(super) fn new_batch(schedule: &Schedule, tick_us: i64, id: BatchId) -> NewBatch {
    let plan = &schedule.plan;
    let zone = Zone::named(&plan.tz).unwrap_or(Zone::UTC);
    NewBatch {
        id,
        owner: OWNER.to_owned(),
        name: Some(format!("{} {}", schedule.name, zone.local(tick_us))),
        idempotency_key: Some(format!("schedule:{}:{tick_us}", schedule.id)),
        priority: plan.priority,
        pinned_node: plan.node.clone(),
        // The schedule tells, when the results are written too.
        on_done: None,
        spec: plan.spec.clone(),
        models: Vec::new(),
        asked: None,
    }
}

impl Beginnings {
    pub fn new(shared: Arc<Shared>, settings: ScheduleSettings) -> Beginnings {
        Beginnings {
            shared,
            settings,
            turns: Arc::new(Semaphore::new(MAX_LOADS)),
            tasks: JoinSet::new(),
            loading: HashMap::new(),
        }
    }

    /// A run was made; if it loads, its prompts are read from now on.
    pub fn begun(&mut self, schedule: Schedule, run: ScheduleRun, lock: Option<BatchLock>) {
        let Some(no) = run.batch_no().filter(|_| run.state == RunState::Loading) else {
            return;
        };
        let number = run.no;
        let loading = Loading {
            schedule,
            run,
            reserved: Reserved { no, lock },
        };
        let (shared, settings) = (Arc::clone(&self.shared), self.settings.clone());
        let turns = Arc::clone(&self.turns);
        let task = self.tasks.spawn(async move {
            let _turn = turns.acquire_owned().await;
            load(&shared, &settings, loading).await;
            number
        });
        self.loading.insert(number, task);
    }

    /// Waits for the end of a load.
    pub async fn one_loaded(&mut self) {
        match self.tasks.join_next().await {
            None => std::future::pending().await,
            Some(Ok(run)) => {
                self.loading.remove(&run);
            }
            Some(Err(error)) => {
                if error.is_panic() {
                    tracing::error!(%error, "the load of a run ended by an error inside rbee");
                }
                self.loading.retain(|_, task| !task.is_finished());
            }
        }
    }

    /// Puts right what is not as the schedules want it: takes up what another leader left, has waiting runs begin, and
    /// cancels what is to be replaced.
    pub async fn tidy(&mut self) -> Result<(), StoreError> {
        let store = Arc::clone(self.shared.batches.store());
        let open = store.run_open().await?;
        self.forget_removed(&open);
        if open.is_empty() {
            return Ok(());
        }
        let schedules = store.schedule_list().await?;
        let mut by_schedule: HashMap<ScheduleNo, Vec<ScheduleRun>> = HashMap::new();
        for run in open {
            by_schedule.entry(run.schedule).or_default().push(run);
        }
        for schedule in schedules {
            let runs = by_schedule.remove(&schedule.no).unwrap_or_default();
            self.tidy_one(&schedule, runs).await?;
        }
        Ok(())
    }

    async fn tidy_one(
        &mut self,
        schedule: &Schedule,
        runs: Vec<ScheduleRun>,
    ) -> Result<(), StoreError> {
        let newest = runs.last().map(|run| run.no);
        let mut under_way = 0;
        for run in runs {
            let replaced = schedule.plan.overlap == Overlap::CancelRunning;
            if replaced && Some(run.no) != newest {
                self.cancel(schedule, &run).await?;
                continue;
            }
            let taken_up = match run.state {
                RunState::Loading if !self.loading.contains_key(&run.no) => {
                    self.take_up(schedule, &run).await?
                }
                RunState::Waiting if under_way == 0 || schedule.plan.overlap == Overlap::Allow => {
                    self.begin(schedule, &run).await?
                }
                _ => true,
            };
            under_way += usize::from(taken_up);
        }
        Ok(())
    }

    /// A run that waited begins. False: it could not, for now.
    async fn begin(&mut self, schedule: &Schedule, run: &ScheduleRun) -> Result<bool, StoreError> {
        let batches = &self.shared.batches;
        let (id, lock) = match batches.reserve() {
            Ok(reserved) => reserved,
            Err(error) => {
                tracing::warn!(%error, schedule = %schedule.name, "a run waits");
                return Ok(true);
            }
        };
        let batch = new_batch(schedule, run.tick_us, id.clone());
        let begun = batches.store().run_begin(run.no, run.batch_no(), batch);
        let Some(no) = begun.await? else {
            return Ok(false);
        };
        let run = ScheduleRun {
            state: RunState::Loading,
            batch: Some((id, no)),
            ..run.clone()
        };
        self.begun(schedule.clone(), run, lock);
        Ok(true)
    }

    /// A run that another leader was loading: its batch is shown already, or it is loaded anew.
    async fn take_up(
        &mut self,
        schedule: &Schedule,
        run: &ScheduleRun,
    ) -> Result<bool, StoreError> {
        let store = Arc::clone(self.shared.batches.store());
        let Some((id, no)) = &run.batch else {
            return self.begin(schedule, run).await;
        };
        if store.batch_get(id).await?.is_some() {
            let change = RunChange {
                state: Some(RunState::Running),
                ..RunChange::default()
            };
            store.run_note(run.no, Some(*no), change).await?;
            return Ok(true);
        }
        // Its lock's file goes with it. Who holds it is alive, and loads.
        let Ok(_lock) = self.shared.batches.take(id) else {
            return Ok(true);
        };
        tracing::info!(schedule = %schedule.name, run = run.no.0, "a run that was cut off while it was read is read again");
        // Who still loads it finds it gone.
        store.batch_delete(*no).await?;
        self.begin(schedule, run).await
    }

    /// Cancels a run in favour of a later one.
    async fn cancel(&mut self, schedule: &Schedule, run: &ScheduleRun) -> Result<(), StoreError> {
        let store = self.shared.batches.store();
        if let Some(task) = self.loading.remove(&run.no) {
            task.abort();
        }
        let shown = match &run.batch {
            Some((id, _)) => store.batch_get(id).await?,
            None => None,
        };
        let reason = Some("a later tick had come".to_owned());
        let change = match shown {
            // It has ended by itself.
            Some(batch) if batch.status.is_terminal() => return Ok(()),
            Some(batch) => {
                store.batch_cancel(batch.no).await?;
                self.shared.woken.notify_one();
                RunChange {
                    state: Some(RunState::Running),
                    reason,
                    ..RunChange::default()
                }
            }
            None => {
                if let Some(no) = run.batch_no() {
                    store.batch_delete(no).await?;
                }
                RunChange {
                    state: Some(RunState::Cancelled),
                    reason,
                    tell: tells(schedule),
                    ..RunChange::default()
                }
            }
        };
        store.run_note(run.no, run.batch_no(), change).await?;
        Ok(())
    }

    /// Loads of schedules that were removed end. The sweeper takes what they had loaded.
    fn forget_removed(&mut self, open: &[ScheduleRun]) {
        self.loading.retain(|run, task| {
            let wanted = open
                .iter()
                .any(|one| one.no == *run && one.state == RunState::Loading);
            if !wanted {
                task.abort();
            }
            wanted
        });
    }
}
