//! `rbee status`: one batch in detail.

use std::time::Duration;

use clap::Args;
use rbee_scheduler::http::error_kinds::error_kinds;
use rbee_scheduler::http::types::{BatchDetail, BatchView, ErrorKind};
use reqwest::Method;

use crate::batch_choice;
use crate::batch_view::{self, Runner, counted, input_lines, short};
use crate::client::Client;
use crate::commands::Context;
use crate::exit_code::ExitCode;
use crate::failure::{Failure, Outcome};
use crate::moment;
use crate::plans;
use crate::progress::clock;
use crate::table;

/// Show one batch: counts, model, numerics, times, errors
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Examples:
  rbee status
  rbee status batch_019a --json")]
pub struct StatusArgs {
    /// The batch: its id, the beginning of its id, or `last`
    #[arg(value_name = "ID", default_value = "last")]
    pub id: String,

    /// One JSON object
    #[arg(long)]
    pub json: bool,
}

/// Prints the batch.
pub async fn run(context: &Context, args: StatusArgs) -> Outcome {
    let (detail, runner) = match context.server() {
        Some(_) => (of_server(context, &args.id).await?, Runner::Server),
        None => of_embedded(context, &args.id).await?,
    };
    let planned = plans::of(&context.data()?, detail.batch.key.as_deref());
    if args.json {
        let mut value = batch_view::json(&detail.batch, runner);
        value["errors"] = serde_json::to_value(&detail.errors)?;
        value["planned"] = planned.unwrap_or_default();
        table::print([value.to_string()])?;
    } else {
        let mut lines = describe(&detail.batch, runner, &detail.errors);
        lines.extend(planned.map(|plan| in_words(&plan)));
        table::print(lines)?;
    }
    Ok(ExitCode::Success)
}

async fn of_embedded(context: &Context, id: &str) -> Result<(BatchDetail, Runner), Failure> {
    let home = context.open_store().await?;
    let batch = batch_choice::find(home.store(), id).await?;
    let runner = home.runner(&batch);
    let errors = error_kinds(home.store(), &batch).await?;
    home.close().await;
    let batch = BatchView::from(&batch);
    Ok((BatchDetail { batch, errors }, runner))
}

async fn of_server(context: &Context, id: &str) -> Result<BatchDetail, Failure> {
    let client = Client::open(context)?;
    let request = client.asking(Method::GET, &["v1", "batches", id], &[("detail", "true")]);
    client.json(request).await
}

fn describe(batch: &BatchView, runner: Runner, errors: &[ErrorKind]) -> Vec<String> {
    let mut lines = vec![batch.id.to_string()];
    let mut say = |label: &str, text: String| lines.push(format!("  {label:<10}{text}"));
    let state = batch_view::state(batch, runner);
    say(
        "status",
        match (runner, state.as_str()) {
            (Runner::Process(pid), "running") => format!("running, by process {pid}"),
            (Runner::Nobody, "interrupted") => {
                "interrupted: the same command resumes, or `rbee serve` if it was submitted"
                    .to_owned()
            }
            _ => state,
        },
    );
    if let Some(reason) = &batch.paused_reason {
        say("paused", reason.clone());
    }
    if let Some(reason) = &batch.waiting {
        say("waits", reason.clone());
    }
    if let Some(node) = &batch.node {
        say("node", format!("{node} only"));
    }
    if let Some(name) = &batch.name {
        say("input", name.clone());
    }
    say("jobs", batch_view::jobs(batch));
    say(
        "tokens",
        format!(
            "{} in, {} out",
            batch.usage.input_tokens, batch.usage.output_tokens
        ),
    );
    for model in &batch.models {
        say("model", describe_model(model));
    }
    say("seed", batch.seed.to_string());
    say("made", moment::utc(batch.created_at_us));
    if let Some(finished) = batch.finished_at_us {
        let micros = u64::try_from(finished - batch.created_at_us).unwrap_or(0);
        let took = clock(Duration::from_micros(micros));
        say(
            "finished",
            format!("{} ({took} after it was made)", moment::utc(finished)),
        );
    }
    for reason in batch_view::refused(batch) {
        say("refused", reason);
    }
    for kind in errors {
        let (jobs, at) = (
            counted(kind.jobs, "job"),
            input_lines(&kind.lines, kind.jobs),
        );
        say(
            "error",
            format!("{}: {jobs}, {at}: {}", kind.code, kind.example),
        );
    }
    lines
}

/// What `rbee plan` said before, to be held against what came.
fn in_words(plan: &serde_json::Value) -> String {
    let sum = |part: &str| -> u64 {
        let models = plan["models"].as_array().into_iter().flatten();
        models.filter_map(|model| model[part].as_u64()).sum()
    };
    let (input, output) = (sum("prompt_tokens"), sum("output_tokens_at_most"));
    let seconds = |end: &str| plan["seconds"][end].as_f64().map(Duration::from_secs_f64);
    let time = match (seconds("low"), seconds("high")) {
        (Some(low), Some(high)) => format!(", {} to {}", clock(low), clock(high)),
        _ => String::new(),
    };
    format!(
        "  {:<10}{input} tokens in, at most {output} out{time}",
        "planned"
    )
}

fn describe_model(model: &rbee_queue::batch::BatchModel) -> String {
    let mut text = model.requested.clone();
    match &model.sha256 {
        Some(sha) => text.push_str(&format!(", sha256 {}", short(&sha.to_hex()))),
        None => text.push_str(", not available"),
    }
    if let Some(revision) = &model.revision {
        text.push_str(&format!(", revision {}", short(revision)));
    }
    if let Some(numerics) = &model.numerics {
        text.push_str(&format!(", numerics {}", short(numerics)));
    }
    text
}
