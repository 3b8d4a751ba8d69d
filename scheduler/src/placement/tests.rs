use super::*;

const A: ModelSha = ModelSha([1; 32]);
const B: ModelSha = ModelSha([2; 32]);

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
