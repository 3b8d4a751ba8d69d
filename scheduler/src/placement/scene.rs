//! What one look sees: nodes, waiting jobs, and what follows from them.
//!
//! Owns the grouping: entries of one model that may run on the same nodes are one group, since they
//! compete for the same places and are helped by the same loads.

use super::costs::Costs;
use super::loads::LoadAt;
use super::names::Names;
use super::{Hold, NodeSnapshot, Numerics, WaitingModel, inbox_depth, interactive_depth};
use rbee_queue::{BatchNo, ModelSha, Priority};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

/// What a node has to do with a model.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Cell {
    pub resident: bool,
    pub leaving: bool,
    /// Jobs of it are there.
    pub busy: bool,
    /// It is on its way; so much of it is done.
    pub loading: Option<f64>,
    pub refused: bool,
    /// Jobs a second, expected.
    pub speed: f64,
    pub here: Duration,
}

/// Waiting entries of one model and one set of nodes.
pub(super) struct Group {
    pub model: usize,
    pub entries: Vec<usize>,
    /// Nodes that may run them and take work.
    pub able: Rc<[usize]>,
    /// Jobs that wait, over all entries.
    pub queued: f64,
    pub waited: Duration,
    pub urgent: bool,
    /// Why `able` is empty.
    none: Option<Hold>,
}

/// The numerics, the name and the type of caches that nodes must have.
type Bound<'b> = (Option<&'b str>, Option<&'b str>, &'b str);

/// What one look sees.
pub(super) struct Scene<'a> {
    pub nodes: &'a [NodeSnapshot],
    pub waiting: &'a [WaitingModel],
    /// The models that are waited for.
    pub models: Vec<ModelSha>,
    pub costs: Costs,
    pub groups: Vec<Group>,
    /// The group of each entry that waits.
    pub group_of: Vec<Option<usize>>,
    /// Batch jobs and interactive jobs that each inbox still takes.
    pub room: Vec<(usize, usize)>,
    cells: Vec<Cell>,
    names: Names,
}

impl<'a> Scene<'a> {
    pub fn new(nodes: &'a [NodeSnapshot], waiting: &'a [WaitingModel]) -> Scene<'a> {
        let mut names = Names::default();
        let mut models = Vec::new();
        for wait in waiting.iter().filter(|wait| wait.queued > 0) {
            names.entry(wait.model).or_insert_with(|| {
                models.push(wait.model);
                models.len() - 1
            });
        }
        let costs = Costs::new(nodes, &names);
        let mut scene = Scene {
            cells: cells(nodes, &names, &costs),
            room: nodes.iter().map(room).collect(),
            nodes,
            waiting,
            models,
            costs,
            groups: Vec::new(),
            group_of: vec![None; waiting.len()],
            names,
        };
        scene.group();
        scene
    }

    pub fn cell(&self, model: usize, node: usize) -> &Cell {
        &self.cells[node * self.models.len() + model]
    }

    /// The number of a model that is waited for.
    pub fn name(&self, model: &ModelSha) -> Option<usize> {
        self.names.get(model).copied()
    }

    /// True if the model is there and takes jobs.
    pub fn serves(&self, model: usize, node: usize) -> bool {
        let cell = self.cell(model, node);
        cell.resident && !cell.leaving
    }

    /// Seconds until a node would have a model.
    pub fn load_s(&self, model: usize, node: usize) -> f64 {
        let cell = self.cell(model, node);
        let whole = self.costs.load_s(model, node, &self.nodes[node]);
        let done = cell.loading.unwrap_or(0.0);
        whole * (1.0 - done.clamp(0.0, 1.0))
    }

    /// True where a node may be asked to load a model.
    pub fn may_load(&self, model: usize, node: usize) -> bool {
        let cell = self.cell(model, node);
        !cell.refused && !cell.resident && !self.costs.is_too_large(model, &self.nodes[node])
    }

    fn group(&mut self) {
        let mut found: HashMap<(usize, Bound<'a>), usize> = HashMap::new();
        let mut nodes_of: HashMap<Bound<'a>, (Rc<[usize]>, Option<Hold>)> = HashMap::new();
        let waiting = self.waiting;
        for (entry, wait) in waiting.iter().enumerate() {
            let Some(model) = self.name(&wait.model).filter(|_| wait.queued > 0) else {
                continue;
            };
            let numerics = match &wait.numerics {
                Numerics::Any => None,
                Numerics::Pinned(numerics) => Some(numerics.as_str()),
                Numerics::Open => self.best_numerics(model, wait),
            };
            let bound = (numerics, wait.pinned.as_deref(), wait.kv.as_str());
            let nodes = self.nodes;
            let place = *found.entry((model, bound)).or_insert_with(|| {
                let known = nodes_of.entry(bound).or_insert_with(|| able(nodes, bound));
                self.groups.push(Group {
                    model,
                    entries: Vec::new(),
                    able: Rc::clone(&known.0),
                    queued: 0.0,
                    waited: Duration::ZERO,
                    urgent: false,
                    none: known.1,
                });
                self.groups.len() - 1
            });
            let group = &mut self.groups[place];
            group.entries.push(entry);
            group.queued += wait.queued as f64;
            group.waited = group.waited.max(wait.waited);
            group.urgent |= wait.priority == Priority::Interactive;
            self.group_of[entry] = Some(place);
        }
    }

    /// The numerics on which jobs that have none yet would be done first: the nodes that have
    /// the model begin at once, all others of the same numerics may join in after a load.
    fn best_numerics(&self, model: usize, wait: &WaitingModel) -> Option<&'a str> {
        struct Speeds<'s> {
            numerics: &'s str,
            there: f64,
            all: f64,
            load_s: f64,
        }
        let mut found: Vec<Speeds<'a>> = Vec::new();
        for (at, node) in self.nodes.iter().enumerate() {
            let pinned = wait.pinned.as_ref().is_none_or(|name| *name == node.name);
            let serves = self.serves(model, at);
            let fits = pinned && node.has_kv(&wait.kv);
            if node.draining || !fits || !(serves || self.may_load(model, at)) {
                continue;
            }
            let speed = self.cell(model, at).speed;
            let known = found
                .iter()
                .position(|known| known.numerics == node.numerics);
            let place = known.unwrap_or_else(|| {
                found.push(Speeds {
                    numerics: &node.numerics,
                    there: 0.0,
                    all: 0.0,
                    load_s: f64::INFINITY,
                });
                found.len() - 1
            });
            let speeds = &mut found[place];
            speeds.all += speed;
            if serves {
                speeds.there += speed;
            }
            speeds.load_s = speeds.load_s.min(self.load_s(model, at));
        }
        let queued = wait.queued as f64;
        let finish_s =
            |s: &Speeds<'_>| (queued / s.there.max(1e-9)).min(s.load_s + queued / s.all.max(1e-9));
        let best = found
            .iter()
            .min_by(|a, b| finish_s(a).total_cmp(&finish_s(b)));
        best.map(|speeds| speeds.numerics)
    }

    /// Why an entry that got no place waits.
    pub fn hold(&self, entry: usize, loads: &[LoadAt]) -> Option<Hold> {
        let group = &self.groups[self.group_of[entry]?];
        if let Some(none) = group.none {
            return Some(none);
        }
        let model = group.model;
        let mut able = group.able.iter();
        if able.any(|at| self.serves(model, *at)) {
            return Some(Hold::NoRoom);
        }
        let begun = |load: &LoadAt| load.model == model && group.able.contains(&load.node);
        if loads.iter().any(begun) {
            return None;
        }
        let coming = |at: &usize| {
            let cell = self.cell(model, *at);
            cell.loading.is_some() || cell.resident
        };
        if group.able.iter().any(coming) {
            return Some(Hold::WaitsForModel);
        }
        let refused = |at: &usize| self.cell(model, *at).refused;
        if group.able.iter().all(|at| !self.may_load(model, *at)) {
            return Some(match group.able.iter().any(refused) {
                true => Hold::LoadFailed,
                false => Hold::TooLarge,
            });
        }
        Some(Hold::WaitsForModel)
    }

    /// True if an entry of another batch than these waits for the model.
    pub fn is_wanted_by_others(&self, model: usize, batches: &[BatchNo]) -> bool {
        let groups = self.groups.iter().filter(|group| group.model == model);
        let mut entries = groups.flat_map(|group| &group.entries);
        entries.any(|entry| !batches.contains(&self.waiting[*entry].batch))
    }
}

fn room(node: &NodeSnapshot) -> (usize, usize) {
    if node.draining {
        return (0, 0);
    }
    let batch = inbox_depth(node.slots, node.jobs_per_s);
    let interactive = interactive_depth(node.slots, node.jobs_per_s);
    (
        batch.saturating_sub(node.held),
        interactive.saturating_sub(node.held),
    )
}

fn cells(nodes: &[NodeSnapshot], models: &Names, costs: &Costs) -> Vec<Cell> {
    let mut cells = vec![Cell::default(); models.len() * nodes.len()];
    for (at, node) in nodes.iter().enumerate() {
        let first = at * models.len();
        let place = |model: &ModelSha| Some(first + models.get(model)?);
        for there in &node.resident {
            let Some(place) = place(&there.model) else {
                continue;
            };
            let cell = &mut cells[place];
            cell.resident = true;
            cell.leaving = there.leaving;
            cell.busy = there.busy;
            cell.speed = there.jobs_per_s;
            cell.here = there.here;
        }
        for loading in &node.loading {
            if let Some(place) = place(&loading.model) {
                cells[place].loading = Some(loading.share);
            }
        }
        for model in &node.refused {
            if let Some(place) = place(model) {
                cells[place].refused = true;
            }
        }
        let of_node = cells[first..].iter_mut().take(models.len());
        for (model, cell) in of_node.enumerate() {
            cell.speed = costs.speed(model, at, node, cell.speed);
        }
    }
    cells
}

/// The nodes that may run what is bound like this, or why there are none.
fn able(nodes: &[NodeSnapshot], (numerics, pinned, kv): Bound<'_>) -> (Rc<[usize]>, Option<Hold>) {
    let awake = (0..nodes.len()).filter(|at| !nodes[*at].draining);
    let awake: Vec<usize> = awake.collect();
    let here = |at: &usize| pinned.is_none_or(|name| name == nodes[*at].name);
    let allowed: Vec<usize> = awake.iter().copied().filter(here).collect();
    let fits = |at: &usize| {
        let node = &nodes[*at];
        node.has_kv(kv) && numerics.is_none_or(|digest| digest == node.numerics)
    };
    let able: Rc<[usize]> = allowed.iter().copied().filter(fits).collect();
    let none = match () {
        () if awake.is_empty() => Some(Hold::NoNode),
        () if allowed.is_empty() => Some(Hold::PinnedNodeAway),
        () if able.is_empty() => Some(Hold::OtherNumerics),
        () => None,
    };
    (able, none)
}
