//! The jobs that a node has: those it has taken, those with the engine, and the results that wait for the store.

use super::host::Host;
use super::{Finish, MAX_UNCOMMITTED, NodeOptions, RunningJobs};
use crate::engine::{EngineEvent, EngineJob, Priority};
use rbee_queue::queue::{Held, TextEvent, Work};
use rbee_queue::record::RECORD_VERSION;
use rbee_queue::{JobError, JobStats, ModelSha, Outcome, ResultRecord};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Jobs that are taken beside two for each slot, so that the engine never waits for the inbox.
const AHEAD: usize = 16;

struct RunningJob {
    held: Held,
    alone: bool,
}

/// Keeps the jobs of a node from inbox to store.
pub struct Desk {
    name: String,
    stream: bool,
    running_jobs: Box<dyn RunningJobs>,
    /// A permit for each job that may still be taken.
    room: Arc<Semaphore>,
    /// Taken, not with the engine yet.
    pending: VecDeque<Work>,
    /// With the engine, by the engine's id.
    running: HashMap<u64, RunningJob>,
    finishes: Vec<Finish>,
    /// The next id for the engine.
    next_id: u64,
    /// Jobs that ended since [`take_ended`](Desk::take_ended).
    ended: u64,
}

impl Desk {
    /// An empty desk.
    pub fn new(options: &NodeOptions, running_jobs: Box<dyn RunningJobs>) -> Desk {
        Desk {
            name: options.name.clone(),
            stream: options.stream,
            running_jobs,
            room: Arc::new(Semaphore::new(options.slots * 2 + AHEAD)),
            pending: VecDeque::new(),
            running: HashMap::new(),
            finishes: Vec::new(),
            next_id: 0,
            ended: 0,
        }
    }

    /// Permits for jobs that may be taken.
    pub fn room(&self) -> Arc<Semaphore> {
        Arc::clone(&self.room)
    }

    /// Puts taken work on the desk.
    pub fn take_in(&mut self, work: Vec<Work>) {
        self.pending.extend(work);
    }

    /// Gives the engine what it may have. A job that runs alone waits until the engine is empty, and all others wait for
    /// its end.
    pub fn feed(&mut self, host: &Host) {
        let Some(engine) = host.engine() else {
            return;
        };
        while let Some(work) = self.pending.front() {
            let alone = work.alone || self.running.values().any(|job| job.alone);
            if alone && !self.running.is_empty() {
                return;
            }
            let work = self.pending.pop_front().expect("it was just seen");
            let id = self.next_id;
            self.next_id += 1;
            let job = RunningJob {
                held: work.held(),
                alone: work.alone,
            };
            self.running_jobs.begin(work.job);
            self.running.insert(id, job);
            let submitted = engine.submit(EngineJob {
                id,
                request: work.request.expect("small work carries its request"),
                job_key: work.key,
                batch_seed: work.seed,
                template_date: work.template_date,
                priority: Priority::Batch,
                stream: self.stream,
            });
            if let Err(error) = submitted {
                // An engine that has ended says so by its events; the job is given back when the node leaves.
                tracing::warn!(%error, "the engine did not take a job");
                return;
            }
        }
    }

    /// Takes the engine's events. Returns the text to be published.
    pub fn hear(&mut self, events: Vec<EngineEvent>) -> Vec<TextEvent> {
        let mut texts = Vec::new();
        for event in events {
            match event {
                EngineEvent::Started { .. } => {}
                EngineEvent::Text {
                    id,
                    choice,
                    first_token,
                    tokens,
                    text,
                    ..
                } => {
                    if let Some(job) = self.running.get(&id) {
                        texts.push(TextEvent {
                            job: job.held.job,
                            attempt: job.held.attempt,
                            choice,
                            first_token,
                            tokens,
                            text,
                        });
                    }
                }
                EngineEvent::Finished { id, record, stats } => {
                    if let Some(job) = self.running.remove(&id) {
                        self.running_jobs.end(job.held.job);
                        self.finish(job.held, record, stats);
                    }
                }
            }
        }
        texts
    }

    fn finish(&mut self, held: Held, record: ResultRecord, stats: JobStats) {
        self.room.add_permits(1);
        self.ended += 1;
        self.finishes.push(Finish {
            job: held.job,
            attempt: held.attempt,
            record,
            stats: JobStats {
                node: self.name.clone(),
                ..stats
            },
        });
    }

    /// Cancels jobs: those that have not begun end at once.
    pub fn cancel(&mut self, jobs: &[Held], host: &Host) {
        for cancelled in jobs {
            let running = self.running.iter().find(|(_, job)| job.held == *cancelled);
            if let (Some((id, _)), Some(engine)) = (running, host.engine()) {
                engine.cancel(*id);
            }
            if let Some(place) = self
                .pending
                .iter()
                .position(|work| work.held() == *cancelled)
            {
                self.pending.remove(place);
                let error = JobError::new("cancelled", "The job was cancelled before it began.");
                let record = ResultRecord {
                    version: RECORD_VERSION,
                    outcome: Outcome::Failed(error),
                };
                self.finish(*cancelled, record, JobStats::default());
            }
        }
    }

    /// Takes the jobs away that this node will not run: all that have not begun when it drains, else those of models
    /// that are not there.
    pub fn unwanted(&mut self, resident: Option<ModelSha>, draining: bool) -> Vec<Held> {
        let wanted = |work: &Work| !draining && Some(work.model) == resident;
        let unwanted: Vec<Held> = self
            .pending
            .iter()
            .filter(|work| !wanted(work))
            .map(Work::held)
            .collect();
        self.pending.retain(wanted);
        self.room.add_permits(unwanted.len());
        unwanted
    }

    /// Whether more results may come.
    pub fn has_room(&self) -> bool {
        self.finishes.len() < MAX_UNCOMMITTED
    }

    /// Whether results wait for the store.
    pub fn has_finishes(&self) -> bool {
        !self.finishes.is_empty()
    }

    /// Takes the results that wait for the store.
    pub fn take_finishes(&mut self) -> Vec<Finish> {
        std::mem::take(&mut self.finishes)
    }

    /// Jobs that ended since the last call.
    pub fn take_ended(&mut self) -> u64 {
        std::mem::take(&mut self.ended)
    }

    /// No job is here, begun or not.
    pub fn is_idle(&self) -> bool {
        self.pending.is_empty() && self.running.is_empty()
    }

    /// No job is here, and no result waits for the store.
    pub fn is_empty(&self) -> bool {
        self.is_idle() && self.finishes.is_empty()
    }
}
