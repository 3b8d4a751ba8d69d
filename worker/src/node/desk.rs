//! The jobs that a node has: those it has taken, those with an engine, and the results that wait for the store.

use super::ask::{Ask, Asks};
use super::commit::Group;
use super::host::Host;
use super::intake::Taken;
use super::recent::Recent;
use super::traced::Attempts;
use super::watching::Interest;
use super::{Figures, Finish, MAX_UNCOMMITTED, NodeOptions, RunningJobs};
use crate::engine::{EngineEvent, EngineJob, Priority};
use rbee_queue::queue::{Held, TextEvent, Work};
use rbee_queue::record::RECORD_VERSION;
use rbee_queue::{JobError, JobRef, JobStats, ModelSha, Outcome, ResultRecord};
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::Semaphore;

/// Batch jobs that an engine gets beside two for each slot, so that it never waits for the desk.
const AHEAD: usize = 16;
/// Models whose jobs may be on the desk at full strength, engine and waiting ones together.
const MODELS_ABREAST: usize = 4;

struct RunningJob {
    held: Held,
    model: ModelSha,
    alone: bool,
    /// The node has given the job back, or lost it: what comes of it is nobody's business.
    disowned: bool,
}

/// What one model has done and does.
#[derive(Debug, Clone, Copy)]
pub struct ModelWork {
    /// Its jobs that are with the engine.
    pub running: usize,
    /// Its jobs that wait for the engine.
    pub pending: usize,
    /// Jobs that ended since the node began.
    pub ended: u64,
    /// Since when it has no job.
    pub idle_since: Instant,
}

/// Keeps the jobs of a node from inbox to store.
pub struct Desk {
    name: String,
    stream: bool,
    slots: usize,
    /// Batch jobs that an engine gets at most.
    most_running: usize,
    running_jobs: Box<dyn RunningJobs>,
    figures: Figures,
    /// A permit for each job that may still be taken.
    room: Arc<Semaphore>,
    /// All that is here under these attempts: pending, running or waiting for the store.
    known: HashSet<Held>,
    /// What was done with lately: a queue that lost its memory may bring it again.
    past: Recent,
    /// Cancels that came before their jobs.
    early_cancels: Recent,
    /// Taken, not with an engine yet.
    pending: VecDeque<Work>,
    /// With an engine, by the engine's id.
    running: HashMap<u64, RunningJob>,
    /// How many of them are disowned.
    disowned: usize,
    models: HashMap<ModelSha, ModelWork>,
    interest: Interest,
    asks: Asks,
    group: Group,
    attempts: Attempts,
    /// The next id for an engine.
    next_id: u64,
}

impl Desk {
    /// An empty desk.
    pub fn new(
        options: &NodeOptions,
        running_jobs: Box<dyn RunningJobs>,
        figures: Figures,
    ) -> Desk {
        let most_running = options.slots * 2 + AHEAD;
        Desk {
            name: options.name.clone(),
            stream: options.stream,
            slots: options.slots,
            most_running,
            running_jobs,
            figures,
            room: Arc::new(Semaphore::new(most_running * MODELS_ABREAST)),
            known: HashSet::new(),
            past: Recent::default(),
            early_cancels: Recent::default(),
            pending: VecDeque::new(),
            running: HashMap::new(),
            disowned: 0,
            models: HashMap::new(),
            interest: Interest::default(),
            asks: Asks::default(),
            group: Group::default(),
            attempts: Attempts::default(),
            next_id: 0,
        }
    }

    /// Permits for jobs that may be taken.
    pub fn room(&self) -> Arc<Semaphore> {
        Arc::clone(&self.room)
    }

    /// Puts taken work on the desk; what is here already under the same attempt is passed over.
    pub fn take_in(&mut self, taken: Taken) {
        for work in taken.work {
            let held = work.held();
            if !self.known.insert(held) {
                tracing::debug!(job = %held.job, "a job came twice");
                self.room.add_permits(1);
            } else if self.past.contains(&held) {
                // The store has its end; giving it back makes the inbox forget it.
                self.give_back(held);
            } else if self.early_cancels.contains(&held) {
                self.end(held, JobError::cancelled());
            } else {
                self.attempts.taken(held);
                self.model(work.model).pending += 1;
                let place = match work.priority {
                    rbee_queue::Priority::Interactive => self.first_batch_job(),
                    rbee_queue::Priority::Batch => self.pending.len(),
                };
                self.pending.insert(place, work);
            }
        }
        for (held, error) in taken.refused {
            if self.known.insert(held) {
                self.end(held, error);
            } else {
                self.room.add_permits(1);
            }
        }
        for held in taken.gone {
            if self.known.insert(held) {
                self.give_back(held);
            } else {
                self.room.add_permits(1);
            }
        }
    }

    fn first_batch_job(&self) -> usize {
        let batch = |work: &Work| work.priority == rbee_queue::Priority::Batch;
        let first = self.pending.iter().position(batch);
        first.unwrap_or(self.pending.len())
    }

    fn model(&mut self, model: ModelSha) -> &mut ModelWork {
        self.models.entry(model).or_insert_with(|| ModelWork {
            running: 0,
            pending: 0,
            ended: 0,
            idle_since: Instant::now(),
        })
    }

    /// Gives the engines what they may have. A job that runs alone waits until all engines are empty, and all others
    /// wait for its end.
    pub fn feed(&mut self, host: &Host) {
        self.asks.sweep(host);
        let mut place = 0;
        while let Some(work) = self.pending.get(place) {
            if self.running.len() == 1 && self.running.values().any(|job| job.alone) {
                return;
            }
            if !host.serves(&work.model) || !self.may_run(work) {
                place += 1;
            } else if work.alone && !self.running.is_empty() {
                return;
            } else if let Some(work) = self.pending.remove(place) {
                self.submit(work, host);
            }
        }
    }

    fn may_run(&self, work: &Work) -> bool {
        let running = self
            .models
            .get(&work.model)
            .map_or(0, |model| model.running);
        let full = running >= self.most_running && work.priority == rbee_queue::Priority::Batch;
        // A job that was given back and has come again waits until its former self has left the engine.
        let twice = || self.running.values().any(|job| job.held.job == work.job);
        !(full || self.disowned > 0 && twice())
    }

    fn submit(&mut self, work: Work, host: &Host) {
        let Some(engine) = host.engine(&work.model) else {
            return;
        };
        let id = self.next_id;
        self.next_id += 1;
        let held = work.held();
        self.running_jobs.begin(held);
        self.attempts.given(&held);
        let model = self.model(work.model);
        model.pending -= 1;
        model.running += 1;
        self.running.insert(
            id,
            RunningJob {
                held,
                model: work.model,
                alone: work.alone,
                disowned: false,
            },
        );
        let submitted = engine.submit(EngineJob {
            id,
            request: work
                .request
                .expect("intake reads missing requests from the store"),
            job_key: work.key,
            batch_seed: work.seed,
            template_date: work.template_date,
            priority: match work.priority {
                rbee_queue::Priority::Interactive => Priority::Interactive,
                rbee_queue::Priority::Batch => Priority::Batch,
            },
            stream: self.stream || self.interest.has(held.job, Instant::now()),
        });
        if let Err(error) = submitted {
            // An engine that has ended says so by its events; the job is given back when the node leaves.
            tracing::warn!(%error, "the engine did not take a job");
        }
    }

    /// Takes engines' events. Returns the text to be published.
    pub fn hear(&mut self, events: Vec<EngineEvent>) -> Vec<TextEvent> {
        let mut texts = Vec::new();
        let now = Instant::now();
        for event in events {
            let Some(event) = self.asks.hear(event) else {
                continue;
            };
            match event {
                EngineEvent::Started { .. } => {}
                EngineEvent::Text {
                    id,
                    choice,
                    first_token,
                    tokens,
                    text,
                } => {
                    let job = self.running.get(&id).filter(|job| !job.disowned);
                    if let Some(job) = job
                        && (self.stream || self.interest.has(job.held.job, now))
                    {
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
                EngineEvent::Finished { id, record, stats } => self.finished(id, record, stats),
            }
        }
        texts
    }

    fn finished(&mut self, id: u64, record: ResultRecord, stats: JobStats) {
        let Some(job) = self.running.remove(&id) else {
            return;
        };
        self.running_jobs.end(job.held);
        let model = self.model(job.model);
        model.running -= 1;
        model.idle_since = Instant::now();
        if job.disowned {
            self.disowned -= 1;
            return;
        }
        model.ended += 1;
        self.figures.note(&record, &stats);
        self.finish(job.held, record, stats);
    }

    fn finish(&mut self, held: Held, record: ResultRecord, stats: JobStats) {
        self.room.add_permits(1);
        let times = self.attempts.ended(&held);
        self.group.times.extend(times.map(|times| (held, times)));
        self.group.finishes.push(Finish {
            job: held.job,
            attempt: held.attempt,
            record,
            stats: JobStats {
                node: self.name.clone(),
                ..stats
            },
        });
    }

    /// Ends a job that no engine has seen with an error.
    fn end(&mut self, held: Held, error: JobError) {
        let record = ResultRecord {
            version: RECORD_VERSION,
            outcome: Outcome::Failed(error),
        };
        self.finish(held, record, JobStats::default());
    }

    fn give_back(&mut self, held: Held) {
        self.room.add_permits(1);
        self.attempts.ended(&held);
        self.group.returns.push(held);
    }

    /// Cancels jobs: those that have not begun end at once, those that have not come will.
    pub fn cancel(&mut self, jobs: &[Held], host: &Host) {
        for held in jobs {
            if !self.known.contains(held) {
                self.early_cancels.note(*held);
                continue;
            }
            let running = self.running.iter().find(|(_, job)| job.held == *held);
            if let Some((id, _)) = running {
                host.engines().for_each(|engine| engine.cancel(*id));
            }
            let pending = self.pending.iter().position(|work| work.held() == *held);
            if let Some(work) = pending.and_then(|place| self.pending.remove(place)) {
                self.model(work.model).pending -= 1;
                self.end(*held, JobError::cancelled());
            }
        }
    }

    /// Somebody asks something beside the inbox.
    pub fn ask(&mut self, ask: Box<Ask>, host: &Host) {
        let id = self.next_id;
        self.next_id += 1;
        self.asks.begin(id, ask, host, self.slots);
    }

    /// Somebody watches jobs: the text so far of those that run is told again, and from then on what is added.
    pub fn watch(&mut self, jobs: &[JobRef], host: &Host) {
        let now = Instant::now();
        for job in jobs {
            self.interest.note(*job, now);
            let running = (self.running.iter())
                .find(|(_, running)| running.held.job == *job && !running.disowned);
            if let Some((id, _)) = running {
                host.engines().for_each(|engine| engine.watch(*id));
            }
        }
    }

    /// Gives back what this node will not run: all that has not begun when it drains, else jobs of models that are
    /// neither here nor on their way.
    pub fn return_unwanted(&mut self, host: &Host, draining: bool) {
        let wanted =
            |work: &Work| !draining && (host.serves(&work.model) || host.is_coming(&work.model));
        if self.pending.iter().all(wanted) {
            return;
        }
        let (kept, unwanted): (VecDeque<Work>, VecDeque<Work>) = std::mem::take(&mut self.pending)
            .into_iter()
            .partition(wanted);
        self.pending = kept;
        for work in unwanted {
            self.model(work.model).pending -= 1;
            self.give_back(work.held());
        }
    }

    /// Gives back all jobs that are with engines, and stops them.
    pub fn return_running(&mut self, host: &Host) {
        for held in self.disown(host) {
            self.give_back(held);
        }
    }

    /// Stops all jobs that are with engines; nothing that comes of them counts. Returns them.
    fn disown(&mut self, host: &Host) -> Vec<Held> {
        let mut disowned = Vec::new();
        for (id, job) in &mut self.running {
            if !job.disowned {
                job.disowned = true;
                disowned.push(job.held);
                host.engines().for_each(|engine| engine.cancel(*id));
            }
        }
        self.disowned += disowned.len();
        disowned
    }

    /// The lease is lost: whatever is here is others' now. Engines stop their jobs within two steps.
    pub fn abandon(&mut self, host: &Host) {
        self.disown(host);
        for work in std::mem::take(&mut self.pending) {
            self.model(work.model).pending -= 1;
        }
        // What was taken and never came here took permits with it.
        self.room = Arc::new(Semaphore::new(self.most_running * MODELS_ABREAST));
        self.group = Group::default();
        self.attempts = Attempts::default();
        self.known.clear();
        self.past.clear();
        self.early_cancels.clear();
        self.interest.clear();
    }

    /// The store is done with these.
    pub fn forget(&mut self, jobs: &[Held]) {
        for held in jobs {
            self.known.remove(held);
            self.past.note(*held);
        }
    }

    /// Whether more results may come.
    pub fn has_room(&self) -> bool {
        self.group.finishes.len() < MAX_UNCOMMITTED
    }

    /// Whether something waits for the store.
    pub fn has_group(&self) -> bool {
        !self.group.is_empty()
    }

    /// Takes what waits for the store.
    pub fn take_group(&mut self) -> Group {
        std::mem::take(&mut self.group)
    }

    /// What each model has done and does.
    pub fn models(&self) -> &HashMap<ModelSha, ModelWork> {
        &self.models
    }

    /// Jobs that are taken and not finished.
    pub fn jobs(&self) -> usize {
        self.pending.len() + self.running.len()
    }

    /// Jobs that are with engines.
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// Whether a model has no job here.
    pub fn is_idle_of(&self, model: &ModelSha) -> bool {
        let running = self.models.get(model).map_or(0, |model| model.running);
        running + self.asks.of(model) == 0
    }

    /// No job is here, begun or not, and nothing waits for the store.
    pub fn is_empty(&self) -> bool {
        self.jobs() == 0 && self.group.is_empty()
    }
}
