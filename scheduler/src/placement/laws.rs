//! What holds for every plan, whatever the nodes and the jobs: tried on thousands of made-up looks.

use super::*;
use crate::simulate::random::Random;
use rbee_queue::node::DiskModel;
use std::collections::HashSet;
use std::time::Instant;

const GB: u64 = 1_000_000_000;

fn sha(model: usize) -> ModelSha {
    ModelSha([model as u8 + 1; 32])
}

fn bytes(model: usize) -> u64 {
    (model as u64 % 5 + 1) * 2 * GB
}

struct Look {
    nodes: Vec<NodeSnapshot>,
    waiting: Vec<WaitingModel>,
}

/// A look with all that can be: full and empty nodes, draining ones, loads, failures, three
/// numerics, pinned and open batches.
fn look(seed: u64, node_count: usize, model_count: usize) -> Look {
    let mut random = Random::new(seed, node_count as u64, model_count as u64);
    let mut below = |limit: usize| (random.unit() * limit as f64) as usize;
    let mut nodes = Vec::new();
    for at in 0..node_count {
        let slots = below(16) + 1;
        let held = below(2 * slots);
        let mut node = NodeSnapshot {
            numerics: ["x", "x", "y"][below(3)].into(),
            memory_bytes: (below(20) as u64 + 4) * GB,
            load_bytes_per_s: [0.0, 1e9, f64::NAN][below(3)],
            slots,
            held,
            draining: below(10) == 0,
            ..NodeSnapshot::new(NodeInstance::generate(), format!("n{at}"))
        };
        let mut used = 0;
        for model in 0..model_count {
            node.on_disk.push(DiskModel {
                model: sha(model),
                bytes: bytes(model) * 4 / 5,
            });
            if below(3) == 0 && used + bytes(model) <= node.memory_bytes {
                used += bytes(model);
                node.resident.push(Resident {
                    bytes: bytes(model),
                    busy: held > 0 && below(2) == 0,
                    idle: Duration::from_secs(below(100) as u64),
                    here: Duration::from_secs(below(2_000) as u64),
                    jobs_per_s: [0.0, 0.3, 3.0, f64::INFINITY][below(4)],
                    leaving: below(20) == 0,
                    ..Resident::new(sha(model))
                });
            } else if below(12) == 0 {
                node.refused.push(sha(model));
            } else if below(12) == 0 && node.loading.is_empty() {
                node.loading.push(Loading {
                    model: sha(model),
                    share: 0.4,
                });
            }
        }
        nodes.push(node);
    }
    let waiting = (0..model_count * 2).map(|at| WaitingModel {
        batch: BatchNo((at / 3) as i64),
        no: ModelNo(at as u32),
        model: sha(at % model_count),
        queued: [0, 1, 10, 1_000, 1_000_000][below(5)],
        placed: below(50) as u64,
        waited: Duration::from_secs(below(60) as u64),
        numerics: match below(4) {
            0 => Numerics::Any,
            1 => Numerics::Open,
            2 => Numerics::Pinned("y".into()),
            _ => Numerics::Pinned("x".into()),
        },
        kv: String::new(),
        pinned: (below(10) == 0).then(|| format!("n{}", below(node_count + 1))),
        priority: [Priority::Batch, Priority::Interactive][below(8) / 7],
    });
    Look {
        waiting: waiting.collect(),
        nodes,
    }
}

fn looks() -> impl Iterator<Item = (u64, Look)> {
    (0..3_000).map(|seed| {
        (
            seed,
            look(seed, seed as usize % 7 + 1, seed as usize % 5 + 1),
        )
    })
}

fn node_of<'l>(look: &'l Look, of: &NodeInstance) -> &'l NodeSnapshot {
    let mut nodes = look.nodes.iter();
    nodes
        .find(|node| node.node == *of)
        .expect("a node of the look")
}

#[test]
fn jobs_go_only_where_they_may_run_and_there_is_room() {
    for (seed, look) in looks() {
        let plan = decide(&look.nodes, &look.waiting);
        let mut numerics: Vec<Option<&str>> = vec![None; look.waiting.len()];
        for node in &look.nodes {
            let mut total = 0;
            for decision in &plan.decisions {
                let Decision::Place {
                    node: at, no, jobs, ..
                } = decision
                else {
                    continue;
                };
                if *at != node.node {
                    continue;
                }
                let wait = &look.waiting[no.0 as usize];
                total += jobs;
                assert!(*jobs > 0 && !node.draining, "seed {seed}");
                let serves = |there: &Resident| there.model == wait.model && !there.leaving;
                assert!(node.resident.iter().any(serves), "seed {seed}");
                assert!(wait.pinned.as_ref().is_none_or(|name| *name == node.name));
                match &wait.numerics {
                    Numerics::Any => {}
                    Numerics::Pinned(digest) => assert_eq!(*digest, node.numerics),
                    Numerics::Open => {
                        let first = numerics[no.0 as usize].get_or_insert(&node.numerics);
                        assert_eq!(*first, node.numerics, "seed {seed}");
                    }
                }
            }
            let most = interactive_depth(node.slots, node.jobs_per_s);
            assert!(total == 0 || node.held + total <= most, "seed {seed}");
        }
        for (at, wait) in look.waiting.iter().enumerate() {
            let mine = plan
                .decisions
                .iter()
                .filter(|of| matches!(of, Decision::Place { no, .. } if no.0 as usize == at));
            let jobs: usize = mine.map(Decision::jobs).sum();
            assert!(jobs as u64 <= wait.queued, "seed {seed}");
        }
    }
}

#[test]
fn loads_fit_and_evict_nothing_that_has_jobs() {
    for (seed, look) in looks() {
        let plan = decide(&look.nodes, &look.waiting);
        let mut loading = HashSet::new();
        for decision in &plan.decisions {
            let Decision::Load {
                node: at,
                model,
                evict,
            } = decision
            else {
                continue;
            };
            let node = node_of(&look, at);
            assert!(!node.draining && node.loading.is_empty(), "seed {seed}");
            assert!(loading.insert(at.clone()), "seed {seed}: two loads at once");
            assert!(!node.refused.contains(model), "seed {seed}");
            let there = |model: &ModelSha| node.resident.iter().find(|of| of.model == *model);
            assert!(there(model).is_none(), "seed {seed}: it is there");
            for gone in evict {
                let gone = there(gone).expect("only what is there can leave");
                assert!(!gone.busy, "seed {seed}: it has jobs");
                let gets = plan.decisions.iter().any(|of| match of {
                    Decision::Place { node, no, .. } => {
                        *node == *at && look.waiting[no.0 as usize].model == gone.model
                    }
                    Decision::Load { .. } => false,
                });
                assert!(!gets, "seed {seed}: it gets jobs");
            }
            let stays = node.resident.iter().filter(|of| !evict.contains(&of.model));
            let used: u64 = stays.map(|of| of.bytes).sum();
            // At least its file, whatever is known of it.
            let least = bytes(model.0[0] as usize - 1) * 4 / 5;
            assert!(used + least <= node.memory_bytes, "seed {seed}: too much");
        }
    }
}

#[test]
fn the_same_look_gives_the_same_plan() {
    for (seed, look) in looks().take(500) {
        let first = decide(&look.nodes, &look.waiting);
        assert_eq!(first, decide(&look.nodes, &look.waiting), "seed {seed}");
    }
}

#[test]
fn every_entry_is_placed_or_held_or_its_model_is_loaded() {
    for (seed, look) in looks() {
        let plan = decide(&look.nodes, &look.waiting);
        for (at, wait) in look
            .waiting
            .iter()
            .enumerate()
            .filter(|(_, wait)| wait.queued > 0)
        {
            let told = plan.holds.iter().any(|(_, no, _)| no.0 as usize == at);
            let does = plan.decisions.iter().any(|of| match of {
                Decision::Place { no, .. } => no.0 as usize == at,
                Decision::Load { model, .. } => *model == wait.model,
            });
            assert!(told || does, "seed {seed}, entry {at}");
        }
    }
}

#[test]
fn order_of_the_nodes_gives_nobody_more_or_less() {
    for (seed, mut look) in looks().take(500) {
        for wait in &mut look.waiting {
            // Enough for all room, and nothing that ties could turn to one side.
            wait.queued = 1_000_000;
            wait.waited = Duration::ZERO;
            wait.numerics = Numerics::Any;
            wait.priority = Priority::Batch;
        }
        let count = |look: &Look| {
            let plan = decide(&look.nodes, &look.waiting);
            plan.decisions.iter().map(Decision::jobs).sum::<usize>()
        };
        let before = count(&look);
        look.nodes.reverse();
        assert_eq!(before, count(&look), "seed {seed}");
    }
}

/// What this thread has computed so far, so that other programs on the machine count for nothing;
/// where the system does not say it, the time on the clock.
fn computed(began: Instant) -> Duration {
    let said = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanos = said.and_then(|said| said.split_whitespace().next()?.parse().ok());
    nanos.map_or_else(|| began.elapsed(), Duration::from_nanos)
}

#[test]
fn thousand_nodes_and_a_hundred_models_take_well_under_a_tenth_of_a_second() {
    let look = look(1, 1_000, 100);
    let began = Instant::now();
    let times = (0..5).map(|_| {
        let before = computed(began);
        let plan = decide(&look.nodes, &look.waiting);
        assert!(!plan.decisions.is_empty());
        computed(began) - before
    });
    let best = times.min().expect("there were five");
    println!("{best:?}");
    assert!(best < Duration::from_millis(80), "{best:?}");
}

#[test]
fn two_nodes_take_microseconds() {
    let look = look(3, 2, 2);
    const LOOKS: u32 = 1_000;
    let began = Instant::now();
    let before = computed(began);
    for _ in 0..LOOKS {
        decide(&look.nodes, &look.waiting);
    }
    let one = (computed(began) - before) / LOOKS;
    println!("{one:?}");
    assert!(one < Duration::from_micros(200), "{one:?}");
}
