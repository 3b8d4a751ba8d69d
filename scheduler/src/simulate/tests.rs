use super::bound::load_s;
use super::scenario::cost_s;
use super::*;
use rbee_queue::Priority;

fn machine(slots: usize, speed: f64) -> Machine {
    Machine {
        slots,
        speed,
        memory: 8_000_000_000,
        load_bytes_per_s: 1e9,
        lost_at_s: None,
    }
}

fn request(batch: usize, model: usize, jobs: u64) -> Request {
    Request {
        batch,
        model,
        jobs,
        cost_s: 20.0,
        at_s: 0.0,
        priority: Priority::Batch,
    }
}

/// Two nodes of one slot and room for one model, up to three models, six jobs.
fn small(seed: u64, jobs: [u64; 3], speeds: [f64; 2]) -> Scenario {
    let requests = jobs.iter().enumerate().filter(|(_, jobs)| **jobs > 0);
    Scenario {
        name: "small",
        about: "",
        seed,
        machines: speeds.iter().map(|speed| machine(1, *speed)).collect(),
        models: (0..3)
            .map(|_| Model {
                file: 5_000_000_000,
                resident: Vec::new(),
            })
            .collect(),
        requests: requests.map(|(at, jobs)| request(at, at, *jobs)).collect(),
    }
}

/// The best of all ways to give each job to a node, each node loading each of its models once.
fn optimum_s(scenario: &Scenario) -> f64 {
    let of_request = |at: usize| {
        let request = &scenario.requests[at];
        (0..request.jobs).map(move |job| (request.model, cost_s(scenario, at, job)))
    };
    let jobs: Vec<(usize, f64)> = (0..scenario.requests.len()).flat_map(of_request).collect();
    let ends = (0..1_u32 << jobs.len()).map(|choice| {
        let of_node = |node: u32| {
            let machine = &scenario.machines[node as usize];
            let mut loaded = [false; 3];
            let mut end_s = 0.0;
            for (at, (model, cost)) in jobs.iter().enumerate() {
                if (choice >> at) & 1 == node {
                    if !std::mem::replace(&mut loaded[*model], true) {
                        end_s += load_s(&scenario.models[*model], machine);
                    }
                    end_s += cost / machine.speed;
                }
            }
            end_s
        };
        f64::max(of_node(0), of_node(1))
    });
    ends.fold(f64::INFINITY, f64::min)
}

#[test]
fn bound_is_never_above_the_optimum_and_the_policy_never_below_it() {
    let (mut sum, mut count) = (0.0, 0.0);
    for seed in 0..30 {
        for jobs in [[6, 0, 0], [3, 3, 0], [2, 2, 2], [5, 1, 0], [1, 1, 1]] {
            for speeds in [[1.0, 1.0], [3.0, 1.0]] {
                let scenario = small(seed, jobs, speeds);
                let best_s = optimum_s(&scenario);
                let outcome = play(&scenario, Policy::Shipped);
                let case = format!("seed {seed}, {jobs:?}, {speeds:?}");
                assert!(outcome.bound_s <= best_s + 1e-6, "{case}");
                let makespan_s = outcome.makespan_s.expect("it ends");
                assert!(makespan_s >= best_s - 1e-3, "{case}");
                // Speeds are unknown before the first job ends: at worst the slow node gets it.
                let most = 2.0 * speeds[0];
                assert!(
                    makespan_s <= best_s * most + 1.0,
                    "{case}: {makespan_s} of {best_s}"
                );
                sum += makespan_s / best_s;
                count += 1.0;
            }
        }
    }
    // So few jobs that each one given to the wrong node shows.
    let mean = sum / count;
    assert!(mean < 1.5, "{mean}");
}

#[test]
fn bound_counts_the_speed_that_dies() {
    let mut scenario = small(1, [6, 0, 0], [1.0, 1.0]);
    scenario.requests[0].jobs = 600;
    let whole_s = lower_bound_s(&scenario);
    scenario.machines[1].lost_at_s = Some(whole_s / 2.0);
    let lossy_s = lower_bound_s(&scenario);
    assert!(
        (lossy_s / whole_s - 1.5).abs() < 0.01,
        "{lossy_s} {whole_s}"
    );
}

#[test]
fn shipped_policy_is_near_the_bound_and_starves_nobody() {
    for scenario in all() {
        if scenario.machines.len() > 100 {
            // `cargo xtask simulate` plays it.
            continue;
        }
        let outcome = play(&scenario, Policy::Shipped);
        assert_eq!(outcome.verdict(), Verdict::Good, "{outcome:?}");
    }
}

#[test]
fn the_same_seed_plays_the_same_game() {
    let scenario = small(7, [3, 2, 1], [2.0, 1.0]);
    let ends = [(); 2].map(|()| play(&scenario, Policy::Shipped).makespan_s);
    assert_eq!(ends[0], ends[1]);
}

#[test]
fn a_policy_that_looks_at_no_model_loads_more() {
    let scenario = all().into_iter().find(|one| one.name == "one-hot-model");
    let scenario = scenario.expect("it is in the set");
    let loads = [Policy::Shipped, Policy::RoundRobin].map(|policy| play(&scenario, policy).loads);
    assert!(loads[0] < loads[1], "{loads:?}");
}
