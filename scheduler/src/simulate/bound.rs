//! What no schedule can beat.
//!
//! Owns the bound: all the work and one load of each model that is in no memory, over all the
//! speed there is until nodes die; and the longest single job with what must come before it. The
//! work that dies with a node is not counted, so the bound is never too high.

use super::scenario::{Machine, Model, Scenario, cost_s};

/// Halvings when the time is sought by which the work can be done.
const HALVINGS: usize = 60;

/// Seconds of loading a model on a machine.
pub(super) fn load_s(model: &Model, machine: &Machine) -> f64 {
    model.file as f64 / machine.load_bytes_per_s
}

/// No schedule of a scenario ends earlier, in seconds.
pub fn lower_bound_s(scenario: &Scenario) -> f64 {
    bound_of(scenario, |_| true)
}

/// The same for one batch that has all nodes for itself, counted from when it is submitted.
pub(super) fn alone_s(scenario: &Scenario, batch: usize) -> f64 {
    bound_of(scenario, |of| of == batch)
}

fn bound_of(scenario: &Scenario, counts: impl Fn(usize) -> bool) -> f64 {
    let mut work = 0.0;
    let mut single_s: f64 = 0.0;
    let mut loaded = vec![false; scenario.models.len()];
    let requests = scenario.requests.iter().enumerate();
    let counted: Vec<_> = requests.filter(|(_, of)| counts(of.batch)).collect();
    let first_s = (counted.iter().map(|(_, of)| of.at_s)).fold(f64::INFINITY, f64::min);
    for (at, request) in counted {
        let mut longest = 0.0_f64;
        for job in 0..request.jobs {
            let cost = cost_s(scenario, at, job);
            work += cost;
            longest = longest.max(cost);
        }
        let model = &scenario.models[request.model];
        let somewhere = !model.resident.is_empty();
        if !somewhere && !loaded[request.model] {
            // Until then that node does nothing else.
            let lost_work = |machine: &Machine| load_s(model, machine) * capacity(machine);
            let machines = scenario.machines.iter().map(lost_work);
            work += machines.fold(f64::INFINITY, f64::min);
            loaded[request.model] = true;
        }
        let ends = scenario
            .machines
            .iter()
            .enumerate()
            .map(|(place, machine)| {
                let there = model.resident.contains(&place);
                let load_s = if there { 0.0 } else { load_s(model, machine) };
                load_s + longest / machine.speed
            });
        let soonest_s = ends.fold(f64::INFINITY, f64::min);
        single_s = single_s.max(request.at_s - first_s + soonest_s);
    }
    single_s.max(time_for(&scenario.machines, work))
}

/// What a machine does in a second.
fn capacity(machine: &Machine) -> f64 {
    machine.speed * machine.slots as f64
}

fn time_for(machines: &[Machine], work: f64) -> f64 {
    let done_by = |end_s: f64| -> f64 {
        let of = |machine: &Machine| {
            let alive_s = machine.lost_at_s.unwrap_or(f64::INFINITY).min(end_s);
            capacity(machine) * alive_s
        };
        machines.iter().map(of).sum()
    };
    let (mut low, mut high) = (0.0_f64, 1.0_f64);
    while done_by(high) < work && high < 1e12 {
        high *= 2.0;
    }
    for _ in 0..HALVINGS {
        let middle = f64::midpoint(low, high);
        if done_by(middle) < work {
            low = middle;
        } else {
            high = middle;
        }
    }
    high
}
