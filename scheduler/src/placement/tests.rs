use super::*;

const A: ModelSha = ModelSha([1; 32]);
const B: ModelSha = ModelSha([2; 32]);
const C: ModelSha = ModelSha([3; 32]);

fn node(resident: &[ModelSha], held: usize) -> NodeSnapshot {
    NodeSnapshot {
        numerics: "x".into(),
        resident: resident.iter().copied().map(Resident::new).collect(),
        slots: 4,
        held,
        ..NodeSnapshot::new(NodeInstance::generate(), "n")
    }
}

fn waiting(no: u32, model: ModelSha, queued: u64) -> WaitingModel {
    WaitingModel {
        batch: BatchNo(1),
        no: ModelNo(no),
        model,
        queued,
        placed: 0,
        waited: Duration::ZERO,
        numerics: Numerics::Pinned("x".into()),
        kv: String::new(),
        pinned: None,
        priority: Priority::Batch,
    }
}

fn placed(plan: &Plan, node: &NodeSnapshot) -> usize {
    let jobs = plan.decisions.iter().map(|decision| match decision {
        Decision::Place { node: at, jobs, .. } if *at == node.node => *jobs,
        _ => 0,
    });
    jobs.sum()
}

#[test]
fn inbox_is_filled_a_little_deeper_than_the_slots() {
    let node = node(&[A], 0);
    let plan = decide(std::slice::from_ref(&node), &[waiting(0, A, 1_000_000)]);
    assert_eq!(placed(&plan, &node), 7);
    assert_eq!(inbox_depth(32, 5_000.0), 32 + 2_500);
    let most = MAX_INBOX - KEPT_FOR_INTERACTIVE;
    assert_eq!(inbox_depth(32, f64::INFINITY), most);
    assert_eq!(inbox_depth(32, f64::NAN), 32 + 17);
}

#[test]
fn full_node_gets_nothing_and_the_emptier_one_more() {
    let nodes = [node(&[A], 7), node(&[A], 2), node(&[A], 5)];
    let plan = decide(&nodes, &[waiting(0, A, 5)]);
    assert_eq!(placed(&plan, &nodes[0]), 0);
    assert_eq!(placed(&plan, &nodes[1]), 4);
    assert_eq!(placed(&plan, &nodes[2]), 1);
    let plan = decide(&nodes[..1], &[waiting(0, A, 5)]);
    assert_eq!(plan.holds, [(BatchNo(1), ModelNo(0), Hold::NoRoom)]);
}

#[test]
fn second_model_is_loaded_when_the_first_has_no_more_work() {
    let busy = [node(&[A], 3)];
    let plan = decide(&busy, &[waiting(1, B, 5)]);
    assert!(plan.decisions.is_empty());
    assert_eq!(plan.holds, [(BatchNo(1), ModelNo(1), Hold::WaitsForModel)]);
    let idle = [node(&[A], 0)];
    let plan = decide(&idle, &[waiting(0, A, 5), waiting(1, B, 5)]);
    assert!(
        plan.decisions
            .iter()
            .all(|d| matches!(d, Decision::Place { .. }))
    );
    let plan = decide(&idle, &[waiting(0, A, 0), waiting(1, B, 5)]);
    assert_eq!(
        plan.decisions,
        [Decision::Load {
            node: idle[0].node.clone(),
            model: B,
            evict: vec![A],
        }]
    );
}

#[test]
fn model_under_way_is_not_loaded_twice() {
    let mut nodes = [node(&[], 0), node(&[], 0)];
    nodes[0].loading = vec![Loading {
        model: A,
        share: 0.5,
    }];
    let plan = decide(&nodes, &[waiting(0, A, 5)]);
    assert!(plan.decisions.is_empty());
    let plan = decide(&nodes, &[waiting(0, A, 5), waiting(1, B, 5)]);
    assert_eq!(
        plan.decisions,
        [Decision::Load {
            node: nodes[1].node.clone(),
            model: B,
            evict: vec![],
        }]
    );
}

#[test]
fn pinned_batch_waits_for_its_numerics_and_says_so() {
    let nodes = [node(&[A], 0)];
    let mut wait = waiting(0, A, 5);
    wait.numerics = Numerics::Pinned("y".into());
    let plan = decide(&nodes, &[wait.clone()]);
    assert_eq!(plan.holds, [(BatchNo(1), ModelNo(0), Hold::OtherNumerics)]);
    wait.numerics = Numerics::Open;
    assert_eq!(placed(&decide(&nodes, &[wait]), &nodes[0]), 5);
}

#[test]
fn unpinned_batch_begins_on_one_node_only() {
    let mut nodes = [node(&[A], 0), node(&[A], 0)];
    nodes[1].numerics = "y".into();
    let mut wait = waiting(0, A, 100);
    wait.numerics = Numerics::Open;
    let plan = decide(&nodes, &[wait.clone()]);
    assert_eq!(plan.decisions.len(), 1);
    wait.numerics = Numerics::Any;
    assert_eq!(decide(&nodes, &[wait]).decisions.len(), 2);
}

#[test]
fn draining_node_gets_no_work() {
    let mut nodes = [node(&[A], 0)];
    nodes[0].draining = true;
    let plan = decide(&nodes, &[waiting(0, A, 5)]);
    assert!(plan.decisions.is_empty());
    assert_eq!(plan.holds, [(BatchNo(1), ModelNo(0), Hold::NoNode)]);
}

const GB: u64 = 1_000_000_000;

/// A node with memory for so many bytes, and models of known sizes.
fn sized(memory_bytes: u64, resident: &[(ModelSha, u64)], held: usize) -> NodeSnapshot {
    let resident = resident.iter().map(|(model, bytes)| Resident {
        bytes: *bytes,
        ..Resident::new(*model)
    });
    let on_disk = [A, B, C].map(|model| rbee_queue::node::DiskModel {
        model,
        bytes: 4 * GB,
    });
    NodeSnapshot {
        memory_bytes,
        resident: resident.collect(),
        on_disk: on_disk.to_vec(),
        load_bytes_per_s: 1e9,
        ..node(&[], held)
    }
}

fn loads(plan: &Plan) -> Vec<(NodeInstance, ModelSha, Vec<ModelSha>)> {
    let loads = plan.decisions.iter().filter_map(|decision| match decision {
        Decision::Load { node, model, evict } => Some((node.clone(), *model, evict.clone())),
        Decision::Place { .. } => None,
    });
    loads.collect()
}

fn jobs_of(plan: &Plan, batch: i64) -> usize {
    let jobs = plan.decisions.iter().map(|decision| match decision {
        Decision::Place {
            batch: of, jobs, ..
        } if of.0 == batch => *jobs,
        _ => 0,
    });
    jobs.sum()
}

#[test]
fn small_batch_gets_the_next_places_beside_a_huge_one() {
    let nodes = [node(&[A], 5)];
    let mut huge = waiting(0, A, 1_000_000);
    huge.placed = 5;
    let mut small = waiting(0, A, 10);
    small.batch = BatchNo(2);
    let plan = decide(&nodes, &[huge, small]);
    assert_eq!((jobs_of(&plan, 1), jobs_of(&plan, 2)), (0, 2));
}

#[test]
fn batches_that_have_none_share_by_how_long_they_have_waited() {
    let nodes = [node(&[A], 6)];
    let mut batches: Vec<WaitingModel> = (0..5).map(|_| waiting(0, A, 10)).collect();
    for (at, wait) in batches.iter_mut().enumerate() {
        wait.batch = BatchNo(at as i64);
        wait.waited = Duration::from_secs([3, 1, 9, 4, 2][at]);
    }
    let plan = decide(&nodes, &batches);
    assert_eq!(jobs_of(&plan, 2), 1);
    assert_eq!(plan.decisions.len(), 1);
}

#[test]
fn interactive_jobs_go_first_and_have_room_in_a_full_inbox() {
    let full = [node(&[A], 7)];
    let batch = waiting(0, A, 100);
    let mut asked = waiting(0, A, 1);
    asked.batch = BatchNo(2);
    asked.priority = Priority::Interactive;
    let plan = decide(&full, &[batch.clone(), asked.clone()]);
    assert_eq!((jobs_of(&plan, 1), jobs_of(&plan, 2)), (0, 1));
    let nearly = [node(&[A], 6)];
    let plan = decide(&nearly, &[batch, asked]);
    assert_eq!((jobs_of(&plan, 1), jobs_of(&plan, 2)), (0, 1));
}

#[test]
fn end_of_a_batch_is_left_to_the_fast_node() {
    let mut nodes = [node(&[A], 4), node(&[A], 0)];
    nodes[0].resident[0].jobs_per_s = 20.0;
    nodes[1].resident[0].jobs_per_s = 0.1;
    let plan = decide(&nodes, &[waiting(0, A, 20)]);
    assert_eq!(placed(&plan, &nodes[1]), 0);
    assert!(placed(&plan, &nodes[0]) > 0);
    let plan = decide(&nodes, &[waiting(0, A, 20_000)]);
    assert!(placed(&plan, &nodes[1]) > 0);
}

#[test]
fn idle_nodes_help_only_where_the_work_outlasts_the_load() {
    let mut nodes = vec![sized(8 * GB, &[(A, 5 * GB)], 7)];
    nodes[0].resident[0].jobs_per_s = 1.0;
    nodes.extend((0..3).map(|_| sized(8 * GB, &[], 0)));
    // The load takes four seconds.
    assert_eq!(loads(&decide(&nodes, &[waiting(0, A, 3)])), []);
    let plan = decide(&nodes, &[waiting(0, A, 1_000)]);
    let begun: Vec<NodeInstance> = loads(&plan).into_iter().map(|(node, ..)| node).collect();
    assert_eq!(
        begun.len(),
        3,
        "a hot model is loaded in several places at once"
    );
    assert!(!begun.contains(&nodes[0].node));
}

#[test]
fn only_as_much_leaves_as_is_needed_and_the_longest_idle_first() {
    let mut nodes = [sized(12 * GB, &[(A, 5 * GB), (B, 5 * GB)], 0)];
    nodes[0].resident[0].idle = Duration::from_secs(10);
    nodes[0].resident[1].idle = Duration::from_secs(60);
    let plan = decide(&nodes, &[waiting(0, C, 50)]);
    assert_eq!(loads(&plan), [(nodes[0].node.clone(), C, vec![B])]);
    // Not while it has jobs, in the engine or in the inbox.
    nodes[0].resident[1].busy = true;
    let plan = decide(&nodes, &[waiting(0, C, 50)]);
    assert_eq!(loads(&plan), [(nodes[0].node.clone(), C, vec![A])]);
    nodes[0].resident[0].busy = true;
    assert_eq!(loads(&decide(&nodes, &[waiting(0, C, 50)])), []);
    // Beside the others where it fits.
    nodes[0].memory_bytes = 24 * GB;
    let plan = decide(&nodes, &[waiting(0, C, 50)]);
    assert_eq!(loads(&plan), [(nodes[0].node.clone(), C, vec![])]);
}

#[test]
fn what_cannot_fit_is_never_loaded_and_says_so() {
    let small = [sized(3 * GB, &[], 0)];
    let plan = decide(&small, &[waiting(0, A, 5)]);
    assert!(plan.decisions.is_empty());
    assert_eq!(plan.holds, [(BatchNo(1), ModelNo(0), Hold::TooLarge)]);
    let mut refused = [sized(8 * GB, &[], 0)];
    refused[0].refused.push(A);
    let plan = decide(&refused, &[waiting(0, A, 5)]);
    assert_eq!(plan.holds, [(BatchNo(1), ModelNo(0), Hold::LoadFailed)]);
}

/// A node that is full of A's jobs, and another batch that wants B.
fn occupied(here_s: u64, waited_s: u64) -> ([NodeSnapshot; 1], [WaitingModel; 2]) {
    let mut nodes = [sized(8 * GB, &[(A, 5 * GB)], 4)];
    nodes[0].resident[0].busy = true;
    nodes[0].resident[0].jobs_per_s = 4.0;
    nodes[0].resident[0].here = Duration::from_secs(here_s);
    let mut other = waiting(0, B, 5);
    other.batch = BatchNo(2);
    other.waited = Duration::from_secs(waited_s);
    (nodes, [waiting(0, A, 1_000_000), other])
}

#[test]
fn model_that_waited_too_long_gets_the_place_of_the_one_that_was_there_longest() {
    let patience_s = BATCH_PATIENCE.as_secs();
    let (nodes, waits) = occupied(1_000, patience_s - 1);
    assert!(placed(&decide(&nodes, &waits), &nodes[0]) > 0);
    // First the jobs that are there end, and no new ones come, ...
    let (mut nodes, waits) = occupied(1_000, patience_s);
    assert_eq!(decide(&nodes, &waits).decisions, []);
    // ... then it leaves.
    nodes[0].resident[0].busy = false;
    nodes[0].held = 0;
    let plan = decide(&nodes, &waits);
    assert_eq!(loads(&plan), [(nodes[0].node.clone(), B, vec![A])]);
    assert_eq!(placed(&plan, &nodes[0]), 0);
    // While it leaves it gets nothing.
    nodes[0].resident[0].leaving = true;
    nodes[0].loading.push(Loading {
        model: B,
        share: 0.0,
    });
    assert_eq!(decide(&nodes, &waits).decisions, []);
}

#[test]
fn place_is_kept_for_a_while_so_that_many_models_do_not_only_load() {
    // A load takes four seconds and a job one.
    let tenure_s = (TENURE_SWITCHES * 5.0) as u64;
    let (nodes, waits) = occupied(tenure_s - 1, 10_000);
    assert!(placed(&decide(&nodes, &waits), &nodes[0]) > 0);
    let (nodes, waits) = occupied(tenure_s, 10_000);
    assert_eq!(placed(&decide(&nodes, &waits), &nodes[0]), 0);
}

#[test]
fn models_of_one_batch_do_not_take_each_others_places() {
    let (nodes, mut waits) = occupied(1_000, 10_000);
    waits[1].batch = waits[0].batch;
    assert!(placed(&decide(&nodes, &waits), &nodes[0]) > 0);
}

#[test]
fn new_batch_begins_on_the_numerics_with_the_most_speed() {
    let mut nodes: Vec<NodeSnapshot> = (0..4).map(|_| sized(8 * GB, &[(A, 5 * GB)], 3)).collect();
    nodes[0].numerics = "y".into();
    nodes[0].held = 0;
    nodes[0].resident[0].jobs_per_s = 1.5;
    for node in &mut nodes[1..] {
        node.resident[0].jobs_per_s = 1.0;
    }
    let mut wait = waiting(0, A, 10_000);
    wait.numerics = Numerics::Open;
    let plan = decide(&nodes, &[wait.clone()]);
    // The emptiest and fastest node is alone in its numerics.
    assert_eq!(placed(&plan, &nodes[0]), 0);
    assert!(nodes[1..].iter().all(|node| placed(&plan, node) > 0));
    // For a few jobs the node that has the model beats many that would have to load it.
    for node in &mut nodes[1..] {
        node.resident.clear();
    }
    wait.queued = 3;
    assert_eq!(placed(&decide(&nodes, &[wait]), &nodes[0]), 3);
}

#[test]
fn batch_goes_to_nodes_with_the_caches_that_it_wants_only() {
    let mut nodes = [node(&[A], 0), node(&[A], 0)];
    nodes[0].kv = "f32".into();
    nodes[1].kv = "f16".into();
    let mut wait = waiting(0, A, 3);
    wait.kv = "f16".into();
    wait.numerics = Numerics::Open;
    let plan = decide(&nodes, std::slice::from_ref(&wait));
    assert_eq!((placed(&plan, &nodes[0]), placed(&plan, &nodes[1])), (0, 3));
    wait.numerics = Numerics::Any;
    let plan = decide(&nodes[..1], std::slice::from_ref(&wait));
    assert_eq!(plan.holds, [(BatchNo(1), ModelNo(0), Hold::OtherNumerics)]);
}
