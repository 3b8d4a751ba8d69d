//! Giving jobs to nodes that have their model.
//!
//! Owns the order among batches and the choice among nodes. Jobs are given in small portions: the
//! next one is for the batch that has the fewest, on the node that would finish it first.

use super::scene::{Group, Scene};
use rbee_queue::{BatchNo, Priority};
use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::time::Duration;

/// A portion is this part of an inbox's room, and at least one job: fast nodes take thousands.
const PORTIONS_OF_ROOM: usize = 16;
/// Halvings when the end of a group's work is sought.
const HALVINGS: usize = 40;

/// What was given so far, and what the inboxes hold then.
pub(super) struct Placed {
    /// Jobs by entry and node.
    given: Vec<BTreeMap<usize, usize>>,
    /// Jobs in each inbox.
    pub held: Vec<usize>,
    room: Vec<(usize, usize)>,
}

impl Placed {
    pub fn new(scene: &Scene<'_>) -> Placed {
        Placed {
            given: vec![BTreeMap::new(); scene.waiting.len()],
            held: scene.nodes.iter().map(|node| node.held).collect(),
            room: scene.room.clone(),
        }
    }

    /// What an entry got: nodes and jobs.
    pub fn of(&self, entry: usize) -> impl Iterator<Item = (usize, usize)> {
        self.given[entry].iter().map(|(node, jobs)| (*node, *jobs))
    }

    /// True if entries of a model got places on a node.
    pub fn has(&self, scene: &Scene<'_>, model: usize, node: usize) -> bool {
        entries_of(scene, model).any(|entry| self.given[entry].contains_key(&node))
    }

    /// Takes back what entries of a model got on a node.
    pub fn take_back(&mut self, scene: &Scene<'_>, model: usize, node: usize) {
        for entry in entries_of(scene, model) {
            let jobs = self.given[entry].remove(&node).unwrap_or(0);
            self.held[node] -= jobs;
        }
    }

    fn room(&self, node: usize, priority: Priority) -> usize {
        match priority {
            Priority::Batch => self.room[node].0,
            Priority::Interactive => self.room[node].1,
        }
    }

    fn give(&mut self, entry: usize, node: usize, jobs: usize) {
        *self.given[entry].entry(node).or_default() += jobs;
        self.held[node] += jobs;
        let (batch, interactive) = self.room[node];
        self.room[node] = (batch.saturating_sub(jobs), interactive.saturating_sub(jobs));
    }
}

fn entries_of<'s>(scene: &'s Scene<'_>, model: usize) -> impl Iterator<Item = usize> + 's {
    let groups = scene
        .groups
        .iter()
        .filter(move |group| group.model == model);
    groups.flat_map(|group| group.entries.iter().copied())
}

/// Seconds until a node would have finished the `place`-th job of its inbox. Those that run are
/// half done on average.
fn finish_s(place: usize, slots: usize, speed: f64) -> f64 {
    let slots = slots.max(1) as f64;
    (place as f64 - slots / 2.0).max(slots) / speed
}

/// Seconds until all of a group's waiting jobs would be finished on these nodes, each with its
/// speed, slots and jobs ahead. What a node would finish later than that, others finish earlier.
fn horizon_s(queued: f64, hosts: &[(f64, usize, usize)]) -> f64 {
    let done_by = |end_s: f64| -> f64 {
        let of_host = |(speed, slots, held): &(f64, usize, usize)| {
            let slots_f = (*slots).max(1) as f64;
            if end_s * speed < slots_f {
                return 0.0;
            }
            ((end_s * speed + slots_f / 2.0).floor() - *held as f64).max(0.0)
        };
        hosts.iter().map(of_host).sum()
    };
    let (mut low, mut high) = (0.0_f64, 1.0_f64);
    while done_by(high) < queued && high < 1e12 {
        high *= 2.0;
    }
    for _ in 0..HALVINGS {
        let middle = f64::midpoint(low, high);
        if done_by(middle) < queued {
            low = middle;
        } else {
            high = middle;
        }
    }
    high
}

/// A node that an entry may use. The greatest is the one that finishes first.
#[derive(PartialEq)]
struct Candidate {
    finish_s: f64,
    node: usize,
}

impl Eq for Candidate {}

impl Ord for Candidate {
    fn cmp(&self, other: &Candidate) -> Ordering {
        let by_time = other.finish_s.total_cmp(&self.finish_s);
        by_time.then(other.node.cmp(&self.node))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Candidate) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// An entry that still wants places.
struct Seeker {
    left: u64,
    horizon_s: f64,
    nodes: BinaryHeap<Candidate>,
}

/// Gives places, to interactive jobs first.
pub(super) fn place(scene: &Scene<'_>, placed: &mut Placed) {
    let hosts: Vec<Vec<usize>> = scene
        .groups
        .iter()
        .map(|group| hosts(scene, group))
        .collect();
    for priority in [Priority::Interactive, Priority::Batch] {
        place_class(scene, placed, priority, &hosts);
    }
}

fn hosts(scene: &Scene<'_>, group: &Group) -> Vec<usize> {
    let able = group.able.iter().copied();
    able.filter(|at| scene.serves(group.model, *at)).collect()
}

/// Turns of one priority: the batch with the fewest jobs on nodes is next, then the one that has
/// waited longest, then the one that was named first.
fn place_class(scene: &Scene<'_>, placed: &mut Placed, priority: Priority, hosts: &[Vec<usize>]) {
    let mut of_batch: HashMap<BatchNo, u64> = HashMap::new();
    for wait in scene.waiting {
        *of_batch.entry(wait.batch).or_default() += wait.placed;
    }
    let mut ends: HashMap<usize, f64> = HashMap::new();
    let mut seekers: HashMap<usize, Seeker> = HashMap::new();
    let mut turns: BinaryHeap<Reverse<(u64, Reverse<Duration>, usize)>> = BinaryHeap::new();
    for (entry, wait) in scene.waiting.iter().enumerate() {
        let Some(at) = scene.group_of[entry].filter(|_| wait.priority == priority) else {
            continue;
        };
        let model = scene.groups[at].model;
        let open = hosts[at].iter().copied();
        let nodes: BinaryHeap<Candidate> = open
            .filter(|node| placed.room(*node, priority) > 0)
            .map(|node| candidate(scene, placed, model, node))
            .collect();
        if nodes.is_empty() {
            continue;
        }
        let horizon_s = match priority {
            Priority::Interactive => f64::INFINITY,
            Priority::Batch => *ends
                .entry(at)
                .or_insert_with(|| group_end_s(scene, placed, at, &hosts[at])),
        };
        let seeker = Seeker {
            left: wait.queued,
            horizon_s,
            nodes,
        };
        seekers.insert(entry, seeker);
        turns.push(Reverse((
            of_batch[&wait.batch],
            Reverse(wait.waited),
            entry,
        )));
    }
    while let Some(Reverse((seen, waited, entry))) = turns.pop() {
        let batch = scene.waiting[entry].batch;
        let now = of_batch[&batch];
        if now > seen {
            // Another model of its batch got places meanwhile.
            turns.push(Reverse((now, waited, entry)));
            continue;
        }
        let seeker = seekers.get_mut(&entry).expect("each turn has its seeker");
        let Some((node, jobs)) = next_place(scene, placed, entry, seeker) else {
            continue;
        };
        placed.give(entry, node, jobs);
        seeker.left -= jobs as u64;
        *of_batch.entry(batch).or_default() += jobs as u64;
        if seeker.left > 0 {
            turns.push(Reverse((of_batch[&batch], Reverse(Duration::ZERO), entry)));
        }
    }
}

fn candidate(scene: &Scene<'_>, placed: &Placed, model: usize, node: usize) -> Candidate {
    let speed = scene.cell(model, node).speed;
    Candidate {
        finish_s: finish_s(placed.held[node] + 1, scene.nodes[node].slots, speed),
        node,
    }
}

fn group_end_s(scene: &Scene<'_>, placed: &Placed, group: usize, hosts: &[usize]) -> f64 {
    let group = &scene.groups[group];
    let known = hosts.iter().map(|node| {
        let speed = scene.cell(group.model, *node).speed;
        (speed, scene.nodes[*node].slots, placed.held[*node])
    });
    // A little more, so that rounding shuts no node out.
    horizon_s(group.queued, &known.collect::<Vec<_>>()) * 1.000_001
}

/// Where an entry's next jobs go, and how many.
fn next_place(
    scene: &Scene<'_>,
    placed: &Placed,
    entry: usize,
    seeker: &mut Seeker,
) -> Option<(usize, usize)> {
    let priority = scene.waiting[entry].priority;
    let model = scene.groups[scene.group_of[entry]?].model;
    while let Some(best) = seeker.nodes.pop() {
        let room = placed.room(best.node, priority);
        let now = candidate(scene, placed, model, best.node);
        if room == 0 || now.finish_s > seeker.horizon_s {
            continue;
        }
        if now.finish_s > best.finish_s {
            // Others took places there since it was looked at.
            seeker.nodes.push(now);
            continue;
        }
        let portion = (room / PORTIONS_OF_ROOM).max(1);
        let jobs = portion.min(usize::try_from(seeker.left).unwrap_or(portion));
        seeker.nodes.push(Candidate { ..now });
        return Some((best.node, jobs));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_node_gets_nothing_that_a_fast_one_finishes_earlier() {
        // Ten jobs: a node of 10 jobs/s with one slot ends them in about a second.
        let (fast, slow) = ((10.0, 1, 0), (0.1, 1, 0));
        let end_s = horizon_s(10.0, &[fast, slow]);
        assert!(end_s < 1.1, "{end_s}");
        assert!(finish_s(1, 1, 0.1) > end_s);
        // A thousand last so long that the slow one helps.
        let end_s = horizon_s(1_000.0, &[fast, slow]);
        assert!((90.0..100.0).contains(&end_s), "{end_s}");
        assert!(finish_s(1, 1, 0.1) < end_s);
    }

    #[test]
    fn end_is_found_where_it_is_far_away_or_never() {
        assert!(horizon_s(1e9, &[(1.0, 1, 0)]) >= 1e9 - 1.0);
        assert!(horizon_s(1.0, &[]).is_finite());
    }
}
