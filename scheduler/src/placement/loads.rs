//! Bringing models to nodes.
//!
//! Owns which model is loaded where: first those that no node has, then help for those whose work
//! would last long, and places for those that have waited too long.

use super::NodeSnapshot;
use super::costs::LOAD_PAYS;
use super::places::Placed;
use super::room::{Leaver, Leaving, Need, enough, is_idle, leaver, make_room, need};
use super::scene::{Group, Scene};
use rbee_queue::{BatchNo, ModelSha};
use std::cmp::Reverse;
use std::time::Duration;

/// A model that no node has waits so long for an idle node, then it takes a place. Interactive jobs
/// do not wait.
pub const BATCH_PATIENCE: Duration = Duration::from_secs(30);
/// A model keeps its place for at least so many times what changing costs (the load, and slots that
/// run empty before): changing costs at most a tenth of the time, however many models wait.
pub const TENURE_SWITCHES: f64 = 10.0;
/// The same where somebody waits for the answer.
const TENURE_SWITCHES_INTERACTIVE: f64 = 2.0;

/// A load that begins now.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LoadAt {
    pub node: usize,
    pub model: usize,
    pub evict: Vec<ModelSha>,
}

/// What one look's loads are found with.
struct Loads<'s, 'a> {
    scene: &'s Scene<'a>,
    begun: Vec<LoadAt>,
    /// Nodes that load or make room for a load.
    taken: Vec<bool>,
    /// By node: resident models that are waited for.
    active: Vec<usize>,
}

/// Finds the loads that begin now. Places on nodes that make room for one are taken back.
pub(super) fn load(scene: &Scene<'_>, placed: &mut Placed) -> Vec<LoadAt> {
    if scene.groups.is_empty() {
        return Vec::new();
    }
    let active = |node: &NodeSnapshot| {
        let wanted = |there: &&super::Resident| scene.name(&there.model).is_some();
        node.resident.iter().filter(wanted).count()
    };
    let mut loads = Loads {
        scene,
        begun: Vec::new(),
        taken: (scene.nodes.iter())
            .map(|node| node.draining || !node.loading.is_empty())
            .collect(),
        active: scene.nodes.iter().map(active).collect(),
    };
    let mut unserved: Vec<&Group> = (scene.groups.iter())
        .filter(|group| loads.is_unserved(group))
        .collect();
    unserved.sort_by_key(|group| (Reverse(group.urgent), Reverse(group.waited)));
    for group in unserved {
        // Another group's load of the same model may serve this one too.
        if loads.is_unserved(group) && !loads.begin(placed, group) && is_overdue(group) {
            loads.displace(placed, group);
        }
    }
    loads.help(placed);
    loads.begun
}

fn is_overdue(group: &Group) -> bool {
    group.urgent || group.waited >= BATCH_PATIENCE
}

impl Loads<'_, '_> {
    /// True if no node that may run the group has its model or gets it.
    fn is_unserved(&self, group: &Group) -> bool {
        let comes = |node: usize| {
            let cell = self.scene.cell(group.model, node);
            cell.loading.is_some() || cell.resident
        };
        let begins = |load: &LoadAt| load.model == group.model && group.able.contains(&load.node);
        !group.able.is_empty()
            && !group.able.iter().any(|node| comes(*node))
            && !self.begun.iter().any(begins)
    }

    /// Nodes of a group that could begin to load its model.
    fn open<'g>(&'g self, group: &'g Group) -> impl Iterator<Item = usize> + 'g {
        let able = group.able.iter().copied();
        able.filter(|node| !self.taken[*node] && self.scene.may_load(group.model, *node))
    }

    /// True if a node has slots that no waiting job of its own models fills.
    fn is_spare(&self, placed: &Placed, node: usize) -> bool {
        placed.held[node] < self.scene.nodes[node].slots.max(1)
    }

    /// Begins the first load of a model, where its work would be done first.
    fn begin(&mut self, placed: &Placed, group: &Group) -> bool {
        let scene = self.scene;
        let room = |node: usize| {
            let leaving = match self.is_spare(placed, node) {
                true => Leaving::Idle,
                false if is_overdue(group) => Leaving::Unwanted,
                false => return None,
            };
            make_room(scene, placed, (group.model, node), leaving)
        };
        let finish_s = |node: usize| {
            let shared = (1 + self.active[node]) as f64;
            let speed = scene.cell(group.model, node).speed;
            scene.load_s(group.model, node) + group.queued * shared / speed
        };
        let found = self
            .open(group)
            .filter_map(|node| Some((finish_s(node), node, room(node)?)));
        let best = found.min_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let Some((_, node, evict)) = best else {
            return false;
        };
        self.note(node, group.model, evict);
        true
    }

    fn note(&mut self, node: usize, model: usize, evict: Vec<ModelSha>) {
        self.taken[node] = true;
        self.begun.push(LoadAt { node, model, evict });
    }

    /// Makes a place for a model that has waited too long. Models that must leave for it get no
    /// more jobs on that node; once they have none, they leave.
    ///
    /// The choice holds from look to look: it depends on how long models have been where they are,
    /// and on how many nodes they are.
    fn displace(&mut self, placed: &mut Placed, group: &Group) {
        let scene = self.scene;
        let batches: Vec<BatchNo> = (group.entries.iter())
            .map(|entry| scene.waiting[*entry].batch)
            .collect();
        let found = self.open(group).filter_map(|node| {
            let victims = self.victims(placed, group, node, &batches)?;
            Some((self.loss(node, &victims), node, victims))
        });
        let Some((_, node, victims)) = found.min_by_key(|(loss, node, _)| (*loss, *node)) else {
            return;
        };
        for victim in victims.iter().filter_map(|victim| victim.wanted) {
            placed.take_back(scene, victim, node);
        }
        self.taken[node] = true;
        let there = |victim: &Leaver| {
            let mut resident = scene.nodes[node].resident.iter();
            resident.find(|there| there.model == victim.sha)
        };
        let idle = |victim: &Leaver| {
            let there = there(victim);
            there.is_none_or(|there| is_idle(scene, placed, there, node))
        };
        let alone = need(scene, group.model, &scene.nodes[node]) == Need::Alone;
        if victims.iter().all(idle) && (!alone || placed.held[node] == 0) {
            let evict = victims.iter().map(|victim| victim.sha).collect();
            self.note(node, group.model, evict);
        }
    }

    /// What is lost by it: models that no other node has, then how young the oldest victim is.
    fn loss(&self, node: usize, victims: &[Leaver]) -> (usize, Reverse<Duration>) {
        let hosts = |model: usize| {
            let nodes = 0..self.scene.nodes.len();
            nodes.filter(|node| self.scene.serves(model, *node)).count()
        };
        let wanted = victims.iter().filter_map(|victim| victim.wanted);
        let last = wanted.clone().filter(|model| hosts(*model) < 2).count();
        let here = wanted.map(|model| self.scene.cell(model, node).here);
        (last, Reverse(here.max().unwrap_or(Duration::MAX)))
    }

    /// The models that would have to leave a node: those that nobody waits for first, then those
    /// that have been there longest. `None`: they are protected, or not enough.
    fn victims(
        &self,
        placed: &Placed,
        group: &Group,
        node: usize,
        batches: &[BatchNo],
    ) -> Option<Vec<Leaver>> {
        let scene = self.scene;
        let snapshot = &scene.nodes[node];
        let slots = snapshot.slots.max(1) as f64;
        let switch_s = |model: usize| {
            let speed = scene.cell(model, node).speed;
            scene.load_s(group.model, node) + slots / speed
        };
        let switches = match group.urgent {
            true => TENURE_SWITCHES_INTERACTIVE,
            false => TENURE_SWITCHES,
        };
        let may_leave = |there: &&super::Resident| {
            let Some(model) = scene.name(&there.model) else {
                // Nobody waits for it: what it has in the inbox ends by itself.
                return is_idle(scene, placed, there, node);
            };
            let served = there.here.as_secs_f64() >= switches * switch_s(model);
            // A batch gains nothing when its models take each other's places.
            let others = || group.urgent || scene.is_wanted_by_others(model, batches);
            !there.leaving && served && others()
        };
        let mut order: Vec<&super::Resident> =
            (snapshot.resident.iter()).filter(may_leave).collect();
        order.sort_by_key(|there| {
            let wanted = scene.name(&there.model).is_some();
            (wanted, Reverse(there.here), there.model)
        });
        match need(scene, group.model, snapshot) {
            Need::Bytes { missing } => {
                let order = order.into_iter().map(|there| leaver(scene, there));
                enough(order, missing)
            }
            Need::Alone => (order.len() == snapshot.resident.len())
                .then(|| order.iter().map(|there| leaver(scene, there)).collect()),
        }
    }

    /// Lets nodes with idle slots help where the work would last longest, as long as it pays.
    fn help(&mut self, placed: &Placed) {
        let scene = self.scene;
        let spare: Vec<usize> = (0..scene.nodes.len())
            .filter(|node| !self.taken[*node] && self.is_spare(placed, *node))
            .collect();
        if spare.is_empty() {
            return;
        }
        let mut works: Vec<Work> = (scene.groups.iter())
            .map(|group| Work::new(self, placed, group))
            .collect();
        let fastest = |node: &usize| {
            let speeds = (0..scene.models.len()).map(|model| scene.cell(model, *node).speed);
            speeds.fold(0.0, f64::max)
        };
        let mut keyed: Vec<(f64, usize)> = spare.iter().map(|at| (fastest(at), *at)).collect();
        keyed.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        for (_, node) in keyed {
            let mut best: Option<(f64, usize)> = None;
            for (at, (group, work)) in scene.groups.iter().zip(&works).enumerate() {
                let able = group.able.binary_search(&node).is_ok();
                if !able
                    || work.left <= 0.0
                    || work.speed <= 0.0
                    || !scene.may_load(group.model, node)
                {
                    continue;
                }
                let load_s = scene.load_s(group.model, node);
                let speed = scene.cell(group.model, node).speed;
                let with_help_s = work.with(speed, load_s).end_s();
                let longest = best.is_none_or(|(end_s, _)| work.end_s() > end_s);
                if with_help_s > LOAD_PAYS * load_s && longest {
                    best = Some((work.end_s(), at));
                }
            }
            let Some((_, at)) = best else {
                continue;
            };
            let model = scene.groups[at].model;
            let place = (model, node);
            let Some(evict) = make_room(scene, placed, place, Leaving::Idle) else {
                continue;
            };
            works[at] = works[at].with(scene.cell(model, node).speed, scene.load_s(model, node));
            self.note(node, model, evict);
        }
    }
}

/// Waiting jobs and the speed at which they are done.
#[derive(Clone, Copy)]
struct Work {
    /// Jobs that no node has yet.
    left: f64,
    /// Those and the ones in inboxes, with those that helpers would do before they can begin.
    jobs: f64,
    /// Jobs a second of all that have the model or get it.
    speed: f64,
}

impl Work {
    fn new(loads: &Loads<'_, '_>, placed: &Placed, group: &Group) -> Work {
        let scene = loads.scene;
        let entries = group.entries.iter();
        let given: usize = entries
            .flat_map(|at| placed.of(*at))
            .map(|(_, jobs)| jobs)
            .sum();
        let left = group.queued - given as f64;
        let mut work = Work {
            left,
            jobs: left,
            speed: 0.0,
        };
        for node in group.able.iter().copied() {
            let cell = scene.cell(group.model, node);
            let begins = |load: &LoadAt| load.node == node && load.model == group.model;
            if scene.serves(group.model, node) {
                let models = loads.active[node].max(1) as f64;
                work.speed += cell.speed / models;
                work.jobs += placed.held[node] as f64 / models;
            } else if cell.loading.is_some() || loads.taken[node] && loads.begun.iter().any(begins)
            {
                work = work.with(cell.speed, scene.load_s(group.model, node));
            }
        }
        work
    }

    /// With one more node, which can begin after a while.
    fn with(self, speed: f64, begins_s: f64) -> Work {
        Work {
            jobs: self.jobs + speed * begins_s,
            speed: self.speed + speed,
            ..self
        }
    }

    /// Seconds until it is done.
    fn end_s(&self) -> f64 {
        self.jobs / self.speed
    }
}
