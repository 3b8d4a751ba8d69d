//! A simulated node: slots, an inbox, models in memory, one load at a time.
//!
//! Owns how it runs and loads. It checks what the coordinator promises: nothing is evicted that has
//! jobs, no memory is used twice, no job comes whose model is not there.

use super::scenario::{Machine, Model};
use crate::placement::{Loading, NodeSnapshot, Resident};
use rbee_queue::ModelSha;
use std::collections::VecDeque;
use std::time::Duration;

/// Weight of the newest second in a measured speed, as real nodes weigh it.
const NEWEST: f64 = 0.3;

/// A job on a node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Job {
    pub entry: u32,
    pub model: u16,
    pub urgent: bool,
    /// It has begun before.
    pub begun: bool,
    /// Seconds of a slot of speed 1 that it takes.
    pub whole: f64,
    /// Those that are left.
    pub left: f64,
    pub submitted_s: f64,
}

struct Held {
    model: usize,
    bytes: u64,
    since_s: f64,
    used_s: f64,
}

struct Load {
    model: usize,
    began_s: f64,
    ends_s: f64,
}

#[derive(Clone, Copy, Default)]
struct Measured {
    jobs_per_s: f64,
    ended: u32,
}

/// What a node did up to now.
#[derive(Default)]
pub(super) struct Done {
    pub ended: Vec<Job>,
    /// Jobs that began for the first time.
    pub begun: Vec<Job>,
}

/// A node.
pub(super) struct Node {
    machine: Machine,
    on_demand: bool,
    pub alive: bool,
    now_s: f64,
    running: Vec<Job>,
    inbox: VecDeque<Job>,
    urgent: VecDeque<Job>,
    held: Vec<Held>,
    load: Option<Load>,
    pub loads: u64,
    /// By model: jobs here, and speeds.
    jobs: Vec<u32>,
    speeds: Vec<Measured>,
    measured_s: f64,
    /// Counts changes, so that an event that was foreseen before one is known to be void.
    pub version: u32,
}

impl Node {
    pub fn new(place: usize, machine: &Machine, models: &[Model], on_demand: bool) -> Node {
        let there = models.iter().enumerate();
        let there = there.filter(|(_, model)| model.resident.contains(&place));
        Node {
            held: there
                .map(|(at, model)| Held {
                    model: at,
                    bytes: model.bytes(),
                    since_s: 0.0,
                    used_s: 0.0,
                })
                .collect(),
            machine: machine.clone(),
            on_demand,
            alive: true,
            now_s: 0.0,
            running: Vec::new(),
            inbox: VecDeque::new(),
            urgent: VecDeque::new(),
            load: None,
            loads: 0,
            jobs: vec![0; models.len()],
            speeds: vec![Measured::default(); models.len()],
            measured_s: 0.0,
            version: 0,
        }
    }

    /// Jobs here.
    pub fn depth(&self) -> usize {
        self.running.len() + self.inbox.len() + self.urgent.len()
    }

    /// Takes placed jobs.
    pub fn push(&mut self, job: Job) {
        let there = self
            .held
            .iter()
            .any(|held| held.model == job.model as usize);
        assert!(
            there || self.on_demand,
            "a job came whose model is not there"
        );
        self.jobs[job.model as usize] += 1;
        match job.urgent {
            true => self.urgent.push_back(job),
            false => self.inbox.push_back(job),
        }
    }

    /// Begins to load; `evict` leaves at once.
    pub fn wish(&mut self, model: usize, evict: &[usize], models: &[Model]) {
        assert!(self.load.is_none(), "two loads at once");
        for gone in evict {
            assert!(self.jobs[*gone] == 0, "a model with jobs was evicted");
            self.held.retain(|held| held.model != *gone);
        }
        let used: u64 = self.held.iter().map(|held| held.bytes).sum();
        let fits = used + models[model].bytes() <= self.machine.memory;
        assert!(fits, "a model was loaded that does not fit");
        let load_s = models[model].file as f64 / self.machine.load_bytes_per_s;
        self.loads += 1;
        self.load = Some(Load {
            model,
            began_s: self.now_s,
            ends_s: self.now_s + load_s,
        });
    }

    /// When something happens here next.
    pub fn next_s(&self) -> Option<f64> {
        if !self.alive {
            return None;
        }
        if let Some(load) = &self.load {
            return Some(load.ends_s);
        }
        let left = self.running.iter().map(|job| job.left);
        let soonest = left.fold(f64::INFINITY, f64::min);
        soonest
            .is_finite()
            .then(|| self.now_s + soonest / self.machine.speed)
    }

    /// Lets time pass, and begins what can begin.
    pub fn advance(&mut self, now_s: f64, models: &[Model], done: &mut Done) {
        self.version += 1;
        let passed_s = now_s - self.now_s;
        self.now_s = now_s;
        if self.load.is_none() {
            for job in &mut self.running {
                job.left -= passed_s * self.machine.speed;
            }
            let (jobs, speeds) = (&mut self.jobs, &mut self.speeds);
            self.running.retain(|job| {
                let runs = job.left > 1e-9;
                if !runs {
                    jobs[job.model as usize] -= 1;
                    speeds[job.model as usize].ended += 1;
                    done.ended.push(*job);
                }
                runs
            });
        }
        if self
            .load
            .as_ref()
            .is_some_and(|load| load.ends_s <= now_s + 1e-9)
        {
            let load = self.load.take().expect("it was just seen");
            self.held.push(Held {
                model: load.model,
                bytes: models[load.model].bytes(),
                since_s: now_s,
                used_s: now_s,
            });
        }
        self.begin(models, done);
    }

    fn begin(&mut self, models: &[Model], done: &mut Done) {
        self.preempt();
        while self.load.is_none() && self.running.len() < self.machine.slots {
            let Some(job) = self.urgent.front().or(self.inbox.front()).copied() else {
                return;
            };
            let model = job.model as usize;
            if let Some(held) = self.held.iter_mut().find(|held| held.model == model) {
                held.used_s = self.now_s;
            } else {
                self.load_on_demand(model, models);
                return;
            }
            match self.urgent.is_empty() {
                false => self.urgent.pop_front(),
                true => self.inbox.pop_front(),
            };
            if !job.begun {
                done.begun.push(job);
            }
            self.running.push(Job { begun: true, ..job });
        }
    }

    /// Somebody waits: batch jobs make room and go on later.
    fn preempt(&mut self) {
        let free = self.machine.slots - self.running.len();
        for _ in free..self.urgent.len() {
            let batch = self
                .running
                .iter()
                .enumerate()
                .filter(|(_, job)| !job.urgent);
            let longest = batch.max_by(|a, b| a.1.left.total_cmp(&b.1.left));
            let Some((place, _)) = longest else {
                return;
            };
            let job = self.running.swap_remove(place);
            self.inbox.push_front(job);
        }
    }

    /// What nodes of the policies do that know nothing of models: those make room that have not been
    /// used longest, once they run nothing.
    fn load_on_demand(&mut self, model: usize, models: &[Model]) {
        let running = |model: usize| self.running.iter().any(|job| job.model as usize == model);
        let mut order: Vec<&Held> = self
            .held
            .iter()
            .filter(|held| !running(held.model))
            .collect();
        order.sort_by(|a, b| a.used_s.total_cmp(&b.used_s));
        let used: u64 = self.held.iter().map(|held| held.bytes).sum();
        let mut free = self.machine.memory - used;
        let mut evict = Vec::new();
        for held in order {
            if free >= models[model].bytes() {
                break;
            }
            free += held.bytes;
            evict.push(held.model);
        }
        if free < models[model].bytes() {
            return;
        }
        self.held.retain(|held| !evict.contains(&held.model));
        self.wish(model, &[], models);
    }

    /// Dies. Its jobs are given back.
    pub fn die(&mut self) -> Vec<Job> {
        self.alive = false;
        self.load = None;
        let running = std::mem::take(&mut self.running);
        let waiting = self.urgent.drain(..).chain(self.inbox.drain(..));
        running.into_iter().chain(waiting).collect()
    }

    /// Measures speeds over the last second or more, as nodes do.
    pub fn measure(&mut self) {
        let passed_s = self.now_s - self.measured_s;
        if passed_s < 1.0 {
            return;
        }
        self.measured_s = self.now_s;
        for held in &self.held {
            let measured = &mut self.speeds[held.model];
            let newest = f64::from(std::mem::take(&mut measured.ended)) / passed_s;
            if self.jobs[held.model] > 0 {
                measured.jobs_per_s = match measured.jobs_per_s {
                    0.0 => newest,
                    before => before + (newest - before) * NEWEST,
                };
            }
        }
    }

    /// What the coordinator sees of it.
    pub fn show(&self, names: &[ModelSha], snapshot: &mut NodeSnapshot) {
        snapshot.held = self.depth();
        snapshot.resident.clear();
        let resident = self.held.iter().map(|held| Resident {
            bytes: held.bytes,
            busy: self.jobs[held.model] > 0,
            idle: Duration::from_secs_f64((self.now_s - held.used_s).max(0.0)),
            here: Duration::from_secs_f64((self.now_s - held.since_s).max(0.0)),
            jobs_per_s: self.speeds[held.model].jobs_per_s,
            ..Resident::new(names[held.model])
        });
        snapshot.resident.extend(resident);
        let speeds = snapshot.resident.iter().map(|there| there.jobs_per_s);
        snapshot.jobs_per_s = speeds.sum();
        snapshot.loading.clear();
        snapshot
            .loading
            .extend(self.load.iter().map(|load| Loading {
                model: names[load.model],
                share: (self.now_s - load.began_s) / (load.ends_s - load.began_s),
            }));
    }
}
