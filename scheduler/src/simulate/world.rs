//! What happens when: submissions, looks, ends of jobs and loads, deaths.
//!
//! Owns time. Nothing happens between two events, so hours pass in seconds.

use super::measure::{Measures, Outcome};
use super::node::{Done, Job, Node};
use super::policy::{Decider, Policy};
use super::scenario::{Scenario, cost_s};
use crate::placement::{DISPATCH_INTERVAL, Decision, NodeSnapshot, Numerics, WaitingModel};
use rbee_queue::node::DiskModel;
use rbee_queue::{BatchNo, ModelNo, ModelSha, NodeInstance, Priority};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::Duration;

/// Seconds between two looks, where nothing wakes the coordinator earlier.
pub const LOOK_S: f64 = DISPATCH_INTERVAL.as_millis() as f64 / 1e3;
/// Seconds until a dead node's jobs are queued again: the default lease.
const LEASE_S: f64 = 15.0;
/// A policy that needs so many times the lower bound is not played to its end.
const GIVE_UP_TIMES_BOUND: f64 = 20.0;

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Submitted { request: usize },
    Died { node: usize },
    Judged { node: usize },
    Node { node: usize, version: u32 },
    Look,
}

/// Jobs of a request that wait.
struct Waiting {
    /// The next one that has not been placed yet.
    next: u64,
    /// Those that died with a node.
    back: Vec<Job>,
    submitted: bool,
    placed: u64,
    left: u64,
    since_s: f64,
}

struct World<'a> {
    scenario: &'a Scenario,
    names: Vec<ModelSha>,
    nodes: Vec<Node>,
    shown: Vec<NodeSnapshot>,
    waiting: Vec<Waiting>,
    dead: HashMap<usize, Vec<Job>>,
    events: BinaryHeap<Reverse<(u64, Event)>>,
    decider: Decider,
    measures: Measures<'a>,
    now_s: f64,
}

/// Plays a scenario to its end.
pub fn play(scenario: &Scenario, policy: Policy) -> Outcome {
    let bound_s = super::lower_bound_s(scenario);
    let mut world = World::new(scenario, policy);
    let most_s = bound_s * GIVE_UP_TIMES_BOUND;
    while world.measures.unfinished() > 0 && world.now_s < most_s {
        world.step();
    }
    let loads = world.nodes.iter().map(|node| node.loads).sum();
    let ended = world.measures.unfinished() == 0;
    let end_s = world.now_s;
    world
        .measures
        .outcome(policy, bound_s, loads, ended.then_some(end_s))
}

fn micros(seconds: f64) -> u64 {
    // Upwards: an event never comes before what it waits for. A simulated day fits many times.
    (seconds * 1e6).ceil() as u64
}

impl<'a> World<'a> {
    fn new(scenario: &'a Scenario, policy: Policy) -> World<'a> {
        let decider = Decider::new(policy);
        let names: Vec<ModelSha> = (0..scenario.models.len()).map(sha).collect();
        let nodes = scenario
            .machines
            .iter()
            .enumerate()
            .map(|(place, machine)| {
                Node::new(place, machine, &scenario.models, decider.loads_on_demand())
            });
        let disk: Vec<DiskModel> = names
            .iter()
            .zip(&scenario.models)
            .map(|(model, file)| DiskModel {
                model: *model,
                bytes: file.file,
            })
            .collect();
        let shown = scenario
            .machines
            .iter()
            .enumerate()
            .map(|(place, machine)| NodeSnapshot {
                numerics: "x".into(),
                memory_bytes: machine.memory,
                on_disk: disk.clone(),
                load_bytes_per_s: machine.load_bytes_per_s,
                slots: machine.slots,
                ..NodeSnapshot::new(NodeInstance::generate(), format!("n{place}"))
            });
        let waiting = scenario.requests.iter().map(|request| Waiting {
            next: 0,
            back: Vec::new(),
            submitted: false,
            placed: 0,
            left: request.jobs,
            since_s: request.at_s,
        });
        let mut world = World {
            nodes: nodes.collect(),
            shown: shown.collect(),
            waiting: waiting.collect(),
            dead: HashMap::new(),
            events: BinaryHeap::new(),
            measures: Measures::new(scenario),
            names,
            decider,
            scenario,
            now_s: 0.0,
        };
        for (request, of) in scenario.requests.iter().enumerate() {
            world.at(of.at_s, Event::Submitted { request });
        }
        for (node, machine) in scenario.machines.iter().enumerate() {
            if let Some(lost_at_s) = machine.lost_at_s {
                world.at(lost_at_s, Event::Died { node });
            }
        }
        world.at(0.0, Event::Look);
        world
    }

    fn at(&mut self, seconds: f64, event: Event) {
        self.events.push(Reverse((micros(seconds), event)));
    }

    fn step(&mut self) {
        let Reverse((at_us, event)) = self.events.pop().expect("there is always a next look");
        self.now_s = at_us as f64 / 1e6;
        match event {
            Event::Submitted { request } => {
                self.waiting[request].submitted = true;
                if self.scenario.requests[request].priority == Priority::Interactive {
                    // The submission wakes the coordinator.
                    self.look();
                }
            }
            Event::Died { node } => {
                let jobs = self.nodes[node].die();
                self.dead.insert(node, jobs);
                self.at(self.now_s + LEASE_S, Event::Judged { node });
            }
            Event::Judged { node } => {
                self.shown[node].draining = true;
                for job in self.dead.remove(&node).unwrap_or_default() {
                    let waiting = &mut self.waiting[job.entry as usize];
                    waiting.placed -= 1;
                    if waiting.left == 0 {
                        waiting.since_s = self.now_s;
                    }
                    waiting.left += 1;
                    waiting.back.push(job);
                }
            }
            Event::Node { node, version } => {
                if self.nodes[node].version == version {
                    self.advance(node);
                }
            }
            Event::Look => {
                self.look();
                self.at(self.now_s + LOOK_S, Event::Look);
            }
        }
    }

    /// Lets a node catch up, and foresees its next event.
    fn advance(&mut self, node: usize) {
        let mut done = Done::default();
        let at = &mut self.nodes[node];
        at.advance(self.now_s, &self.scenario.models, &mut done);
        let (next_s, version) = (at.next_s(), at.version);
        for job in done.ended {
            self.waiting[job.entry as usize].placed -= 1;
            self.measures.ended(job.entry as usize, self.now_s);
        }
        for job in done.begun {
            self.measures.begun(&job, self.now_s);
        }
        if let Some(next_s) = next_s {
            self.at(next_s, Event::Node { node, version });
        }
    }

    fn look(&mut self) {
        let waiting = self.waiting_models();
        for node in 0..self.nodes.len() {
            if self.nodes[node].alive {
                self.advance(node);
                self.nodes[node].measure();
                self.nodes[node].show(&self.names, &mut self.shown[node]);
            }
        }
        if waiting.is_empty() {
            return;
        }
        let plan = self.decider.decide(&self.shown, &waiting);
        let places: HashMap<&NodeInstance, usize> = self
            .shown
            .iter()
            .zip(0..)
            .map(|(node, at)| (&node.node, at))
            .collect();
        let mut touched = vec![false; self.nodes.len()];
        let mut doings: Vec<(usize, Decision)> = Vec::new();
        for decision in plan.decisions {
            let (Decision::Place { node, .. } | Decision::Load { node, .. }) = &decision;
            let node = places[node];
            touched[node] = true;
            doings.push((node, decision));
        }
        for (node, decision) in doings {
            match decision {
                Decision::Place { no, jobs, .. } => self.give(no.0 as usize, node, jobs),
                Decision::Load { model, evict, .. } if self.nodes[node].alive => {
                    let evict: Vec<usize> = evict.iter().map(place_of).collect();
                    self.nodes[node].wish(place_of(&model), &evict, &self.scenario.models);
                }
                Decision::Load { .. } => {}
            }
        }
        for node in (0..touched.len()).filter(|node| touched[*node]) {
            if self.nodes[node].alive {
                self.advance(node);
            }
        }
    }

    fn waiting_models(&self) -> Vec<WaitingModel> {
        let waiting = self.waiting.iter().zip(&self.scenario.requests).zip(0..);
        let open = waiting.filter(|((waiting, _), _)| waiting.submitted && waiting.left > 0);
        open.map(|((waiting, request), no)| WaitingModel {
            batch: BatchNo(request.batch as i64),
            no: ModelNo(no),
            model: self.names[request.model],
            queued: waiting.left,
            placed: waiting.placed,
            waited: Duration::from_secs_f64(self.now_s - waiting.since_s),
            numerics: Numerics::Pinned("x".into()),
            kv: String::new(),
            pinned: None,
            priority: request.priority,
        })
        .collect()
    }

    fn give(&mut self, entry: usize, node: usize, jobs: usize) {
        let request = &self.scenario.requests[entry];
        self.measures
            .placed(entry, self.now_s - self.waiting[entry].since_s);
        for _ in 0..jobs {
            let waiting = &mut self.waiting[entry];
            let again = waiting.back.pop();
            // What died with a node is done again from the start.
            let whole = match again {
                Some(job) => job.whole,
                None => {
                    waiting.next += 1;
                    cost_s(self.scenario, entry, waiting.next - 1)
                }
            };
            waiting.left -= 1;
            waiting.placed += 1;
            waiting.since_s = self.now_s;
            let job = Job {
                entry: u32::try_from(entry).expect("requests are few"),
                model: u16::try_from(request.model).expect("models are few"),
                urgent: request.priority == Priority::Interactive,
                begun: again.is_some_and(|job| job.begun),
                whole,
                left: whole,
                submitted_s: request.at_s,
            };
            match self.nodes[node].alive {
                true => self.nodes[node].push(job),
                // Nobody knows yet that it is dead.
                false => self.dead.entry(node).or_default().push(job),
            }
        }
    }
}

fn sha(model: usize) -> ModelSha {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&(model as u64).to_be_bytes());
    ModelSha(bytes)
}

fn place_of(model: &ModelSha) -> usize {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&model.0[..8]);
    u64::from_be_bytes(bytes) as usize
}
