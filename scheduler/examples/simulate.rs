//! Plays the simulator's scenarios and prints what came of them: `cargo xtask simulate` runs it.
//!
//! `simulate [--scenario NAME] [--json]`. Ends with 1 where the shipped policy is not good enough.

use rbee_scheduler::simulate::{Outcome, Policy, Scenario, Verdict, all, play};
use std::process::ExitCode;
use std::time::Instant;

struct Arguments {
    scenario: Option<String>,
    json: bool,
}

fn arguments() -> Result<Arguments, String> {
    let mut found = Arguments {
        scenario: None,
        json: false,
    };
    let mut given = std::env::args().skip(1);
    while let Some(argument) = given.next() {
        match argument.as_str() {
            "--json" => found.json = true,
            "--scenario" => {
                let name = given.next().ok_or("--scenario wants a name")?;
                found.scenario = Some(name);
            }
            other => return Err(format!("there is no {other}: use --scenario NAME, --json")),
        }
    }
    Ok(found)
}

fn chosen(name: Option<&str>) -> Result<Vec<Scenario>, String> {
    let scenarios = all();
    let names: Vec<&str> = scenarios.iter().map(|scenario| scenario.name).collect();
    let known = format!("there are {}", names.join(", "));
    let mut chosen = scenarios;
    chosen.retain(|scenario| name.is_none_or(|name| name == scenario.name));
    match (chosen.is_empty(), name) {
        (true, Some(name)) => Err(format!("there is no scenario {name}: {known}")),
        _ => Ok(chosen),
    }
}

fn main() -> ExitCode {
    let scenarios = arguments().and_then(|given| {
        let scenarios = chosen(given.scenario.as_deref())?;
        Ok((scenarios, given.json))
    });
    let (scenarios, json) = match scenarios {
        Ok(found) => found,
        Err(message) => {
            eprintln!("simulate: {message}");
            return ExitCode::from(2);
        }
    };
    let mut good = true;
    for scenario in &scenarios {
        if !json {
            head(scenario);
        }
        for policy in Policy::ALL {
            let began = Instant::now();
            let outcome = play(scenario, policy);
            if json {
                let line =
                    serde_json::to_string(&outcome).expect("an outcome has string keys only");
                println!("{line}");
            } else {
                row(&outcome, began.elapsed().as_secs_f64());
            }
            if let (Policy::Shipped, Verdict::Bad(why)) = (policy, outcome.verdict()) {
                eprintln!("simulate: {}: {why}", scenario.name);
                good = false;
            }
        }
    }
    if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn head(scenario: &Scenario) {
    println!(
        "### {} (seed {})\n\n{}\n",
        scenario.name, scenario.seed, scenario.about
    );
    println!(
        "| policy | makespan s | lower bound s | times | loads | p95 wait s | interactive p95 s \
         | fairness | longest without a place s (promised) | played in s |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
}

fn row(outcome: &Outcome, took_s: f64) {
    let or_dash = |value: Option<f64>, digits: usize| {
        value.map_or("-".to_owned(), |value| format!("{value:.digits$}"))
    };
    println!(
        "| {} | {} | {:.0} | {} | {} | {:.0} | {} | {:.3} | {:.0} ({:.0}) | {took_s:.1} |",
        outcome.policy,
        or_dash(outcome.makespan_s, 0),
        outcome.bound_s,
        or_dash(outcome.times_bound(), 3),
        outcome.loads,
        outcome.p95_wait_s,
        or_dash(outcome.interactive_p95_wait_s, 2),
        outcome.fairness,
        outcome.longest_drought_s,
        outcome.promised_drought_s,
    );
}
