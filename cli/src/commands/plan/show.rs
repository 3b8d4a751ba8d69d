//! A plan in words, and as one JSON object.

use std::time::Duration;

use rbee_scheduler::Hold;
use serde_json::{Value, json};

use super::estimate::{Range, Speed};
use super::figures::{BadLines, ModelFigures};
use super::nodes::{Cluster, Part};
use super::{Plan, Planned};
use crate::batch_view::{counted, input_lines};
use crate::byte_size;
use crate::failure::Failure;
use crate::progress::taken;
use crate::table;

/// Prints the plan on stdout.
pub fn print(plan: &Plan, as_json: bool) -> Result<(), Failure> {
    match as_json {
        true => table::print([json_of(plan).to_string()]),
        false => table::print(words_of(plan)),
    }
}

fn words_of(plan: &Plan) -> Vec<String> {
    let mut lines = vec![plan.input.clone()];
    let mut say = |label: &str, text: String| lines.push(format!("  {label:<10}{text}"));
    say("jobs", plan.jobs.to_string());
    if plan.bad.count > 0 {
        say("bad", lines_of(&plan.bad));
    }
    for (at, planned) in plan.models.iter().enumerate() {
        say("model", planned.model.requested.clone());
        for (label, text) in words_of_model(planned) {
            say(label, text);
        }
        if let Some(cluster) = &plan.cluster {
            for text in words_of_nodes(cluster, at) {
                say("  node", text);
            }
        }
    }
    if let Some(seconds) = plan.seconds {
        say("time", between(seconds));
    } else {
        say("time", "not known: the speed was not measured".to_owned());
    }
    lines
}

fn words_of_model(planned: &Planned) -> Vec<(&'static str, String)> {
    let figures = &planned.figures;
    let mut lines = vec![
        ("  jobs", figures.jobs.to_string()),
        (
            "  tokens",
            format!(
                "{} in, at most {} out; the longest prompt has {}",
                figures.prompt_tokens, figures.output_tokens, figures.longest_prompt
            ),
        ),
    ];
    if figures.equal_jobs > 0 {
        let equal = counted(figures.equal_jobs, "job");
        lines.push((
            "  equal",
            format!("{equal} like another one, computed once"),
        ));
    }
    if figures.shared_tokens > 0 {
        let percent = figures.shared_share() * 100.0;
        lines.push((
            "  shared",
            format!("{percent:.0}% of the prompt tokens begin other prompts too, computed once"),
        ));
    }
    if figures.over_context.count > 0 {
        let lines_over = lines_of(&figures.over_context);
        lines.push(("  too long", format!("{lines_over}: over the context")));
    }
    for (code, failing) in &figures.failing {
        lines.push(("  error", format!("{code}: {}", lines_of(failing))));
    }
    match &planned.memory {
        Some(Ok(memory)) => lines.push(("  memory", format!("fits here: {memory}"))),
        Some(Err(problem)) => lines.push(("  memory", format!("does not fit here: {problem}"))),
        None => lines.push(("  memory", "the model is not to be had".to_owned())),
    }
    if let Some(speed) = &planned.speed {
        lines.push(("  speed", speed_words(speed)));
    }
    if let Some(seconds) = planned.seconds {
        lines.push(("  time", between(seconds)));
    }
    lines
}

fn speed_words(speed: &Speed) -> String {
    match speed {
        Speed::Measured {
            prompt_tokens_per_s,
            output_tokens_per_s,
            length_share,
            ..
        } => format!(
            "{prompt_tokens_per_s:.0} prompt and {output_tokens_per_s:.0} answer tokens/s here; answers have {:.0}% of \
             what they may",
            length_share * 100.0
        ),
        Speed::Told {
            jobs_per_s,
            output_tokens_per_s,
        } => format!(
            "{output_tokens_per_s:.0} answer tokens/s, {jobs_per_s:.1} jobs/s, as its nodes measured"
        ),
    }
}

fn words_of_nodes(cluster: &Cluster, model: usize) -> Vec<String> {
    let mut lines: Vec<String> = cluster
        .nodes
        .iter()
        .map(|node| {
            let part = match node.parts[model] {
                Part::Runs => "has it in memory and begins at once",
                Part::Loads => "would load it",
                Part::Waits => "could run it and is not needed now",
                Part::TooSmall => "has too little memory for it",
                Part::Other => "would give other bytes",
                Part::Away => "takes no work",
            };
            let speed = node.tokens_per_s[model]
                .map_or_else(String::new, |speed| format!(", {speed:.0} answer tokens/s"));
            let memory = byte_size::show(node.memory_bytes);
            format!("{} ({memory}) {part}{speed}", node.name)
        })
        .collect();
    if let Some(hold) = cluster.holds[model] {
        lines.push(hold_words(hold).to_owned());
    }
    lines
}

fn hold_words(hold: Hold) -> &'static str {
    match hold {
        Hold::NoNode | Hold::PinnedNodeAway => "its jobs would wait: no node takes work",
        Hold::OtherNumerics => "its jobs would wait: no node keeps keys and values so",
        Hold::LoadFailed => "its jobs would wait: every node failed to load it",
        Hold::TooLarge => "its jobs would wait: no node has the memory",
        Hold::WaitsForModel => "its jobs would wait until a node is free for it",
        Hold::NoRoom => "its jobs would wait: the nodes that have it are full",
    }
}

fn lines_of(lines: &BadLines) -> String {
    let (count, at) = (
        counted(lines.count, "line"),
        input_lines(&lines.first, lines.count),
    );
    format!("{count}, {at}")
}

fn between(seconds: Range) -> String {
    let time = |seconds: f64| {
        Duration::try_from_secs_f64(seconds).map_or_else(|_| "for ever".to_owned(), taken)
    };
    format!("{} to {}", time(seconds.low), time(seconds.high))
}

/// The plan as one JSON object.
pub fn json_of(plan: &Plan) -> Value {
    let models = plan.models.iter().enumerate().map(|(at, planned)| {
        let mut model = json_of_model(planned);
        let cluster = plan.cluster.as_ref();
        model["waits"] = cluster
            .and_then(|cluster| cluster.holds[at])
            .map(hold_words)
            .into();
        model
    });
    let nodes = plan.cluster.as_ref().map(|cluster| {
        let node = |node: &super::nodes::NodePlan| {
            let parts = plan.models.iter().zip(&node.parts).zip(&node.tokens_per_s);
            let parts = parts.map(|((planned, part), tokens_per_s)| {
                json!({
                    "model": planned.model.requested,
                    "part": part.word(),
                    "fits": *part != Part::TooSmall,
                    "tokens_per_s": tokens_per_s,
                })
            });
            json!({
                "name": node.name,
                "memory_bytes": node.memory_bytes,
                "models": parts.collect::<Vec<Value>>(),
            })
        };
        cluster.nodes.iter().map(node).collect::<Vec<Value>>()
    });
    json!({
        "input": plan.input,
        "jobs": plan.jobs,
        "bad_lines": json_of_lines(&plan.bad),
        "models": models.collect::<Vec<Value>>(),
        "nodes": nodes,
        "seconds": plan.seconds.map(json_of_range),
    })
}

fn json_of_model(planned: &Planned) -> Value {
    let figures: &ModelFigures = &planned.figures;
    let work = figures.work();
    let failing: serde_json::Map<String, Value> = figures
        .failing
        .iter()
        .map(|(code, lines)| (code.clone(), json_of_lines(lines)))
        .collect();
    json!({
        "model": planned.model.requested,
        "sha256": planned.model.sha256,
        "architecture": planned.outline.as_ref().map(|outline| outline.architecture.clone()),
        "jobs": figures.jobs,
        "prompt_tokens": figures.prompt_tokens,
        "output_tokens_at_most": figures.output_tokens,
        "longest_prompt_tokens": figures.longest_prompt,
        "equal_jobs": figures.equal_jobs,
        "shared_prompt_tokens": figures.shared_tokens,
        "to_compute": {
            "jobs": work.jobs,
            "prompt_tokens": work.prompt_tokens,
            "output_tokens_at_most": work.output_tokens,
        },
        "over_context": json_of_lines(&figures.over_context),
        "failing": failing,
        "memory": match &planned.memory {
            Some(Ok(plan)) => json!({"fits": true, "bytes": plan.total(), "budget_bytes": plan.budget}),
            Some(Err(problem)) => json!({"fits": false, "problem": problem}),
            None => Value::Null,
        },
        "speed": planned.speed.as_ref().map(json_of_speed),
        "seconds": planned.seconds.map(json_of_range),
    })
}

fn json_of_speed(speed: &Speed) -> Value {
    match speed {
        Speed::Measured {
            prompt_tokens_per_s,
            output_tokens_per_s,
            length_share,
            load_s,
        } => json!({
            "measured": "here",
            "prompt_tokens_per_s": tenths(*prompt_tokens_per_s),
            "output_tokens_per_s": tenths(*output_tokens_per_s),
            "answer_length_share": (length_share * 1000.0).round() / 1000.0,
            "load_seconds": tenths(*load_s),
        }),
        Speed::Told {
            jobs_per_s,
            output_tokens_per_s,
        } => json!({
            "measured": "by nodes",
            "jobs_per_s": tenths(*jobs_per_s),
            "output_tokens_per_s": tenths(*output_tokens_per_s),
        }),
    }
}

fn json_of_lines(lines: &BadLines) -> Value {
    json!({"count": lines.count, "first_lines": lines.first})
}

fn json_of_range(range: Range) -> Value {
    json!({"low": tenths(range.low), "high": tenths(range.high)})
}

fn tenths(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}
