//! `rbee status`: one batch in detail.

use std::collections::BTreeMap;

use clap::Args;
use rbee_queue::batch::Batch;
use rbee_queue::ids::JobIndex;
use rbee_queue::store::Store;
use rbee_queue::{JobError, Outcome as JobOutcome};
use serde_json::json;

use crate::batch_choice;
use crate::batch_view::{self, counted, input_lines, short};
use crate::commands::Context;
use crate::exit_code::ExitCode;
use crate::failure::{Failure, Outcome};
use crate::moment;
use crate::progress::clock;
use crate::table;

/// Jobs read at once while errors are counted.
const PAGE: usize = 1000;
/// Line numbers that are kept for each kind of error.
const LINES_SHOWN: usize = 5;

/// Show one batch: counts, model, numerics, times, errors
#[derive(Debug, Clone, Args)]
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
    let home = context.open_store().await?;
    let batch = batch_choice::find(home.store(), &args.id).await?;
    let runner = home.runner(&batch);
    let errors = errors_of(home.store(), &batch).await?;
    home.close().await;
    if args.json {
        let mut value = batch_view::json(&batch, runner);
        value["errors"] = errors.iter().map(|(code, kind)| kind.json(code)).collect();
        table::print([value.to_string()])?;
    } else {
        table::print(describe(&batch, runner, &errors))?;
    }
    Ok(ExitCode::Success)
}

/// Errors with one code.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ErrorKind {
    jobs: u64,
    example: String,
    lines: Vec<u64>,
}

impl ErrorKind {
    fn json(&self, code: &str) -> serde_json::Value {
        json!({"code": code, "jobs": self.jobs, "example": self.example, "lines": self.lines})
    }
}

type Errors = BTreeMap<String, ErrorKind>;

async fn errors_of(store: &dyn Store, batch: &Batch) -> Result<Errors, Failure> {
    let mut errors = Errors::new();
    let mut found = 0;
    let mut from = Some(JobIndex(0));
    while let Some(start) = from.filter(|_| found < batch.counts.failed) {
        let page = store.results_page(batch.no, start, PAGE).await?;
        for job in &page.jobs {
            if let Some(JobOutcome::Failed(error)) =
                job.result.as_ref().map(|result| &result.record.outcome)
            {
                found += 1;
                count(&mut errors, error, job.line_number);
            }
        }
        from = page.next;
    }
    Ok(errors)
}

fn count(errors: &mut Errors, error: &JobError, line: u64) {
    let kind = errors
        .entry(error.code.clone())
        .or_insert_with(|| ErrorKind {
            jobs: 0,
            example: error.message.clone(),
            lines: Vec::new(),
        });
    kind.jobs += 1;
    if kind.lines.len() < LINES_SHOWN {
        kind.lines.push(line);
    }
}

fn describe(batch: &Batch, runner: Option<u32>, errors: &Errors) -> Vec<String> {
    let mut lines = vec![batch.id.to_string()];
    let mut say = |label: &str, text: String| lines.push(format!("  {label:<10}{text}"));
    let state = batch_view::state(batch, runner);
    say(
        "status",
        match (runner, state.as_str()) {
            (Some(pid), "running") => format!("running, by process {pid}"),
            (None, "interrupted") => "interrupted: the same command resumes".to_owned(),
            _ => state,
        },
    );
    if let Some(reason) = &batch.paused_reason {
        say("paused", reason.clone());
    }
    if let Some(name) = &batch.name {
        say("input", name.clone());
    }
    say("jobs", batch_view::jobs(batch));
    say(
        "tokens",
        format!("{} in, {} out", batch.input_tokens, batch.output_tokens),
    );
    for model in &batch.models {
        say("model", describe_model(model));
    }
    say("seed", batch.spec.seed.to_string());
    say("made", moment::utc(batch.created_at_us));
    if let Some(finished) = batch.finished_at_us {
        let micros = u64::try_from(finished - batch.created_at_us).unwrap_or(0);
        let took = clock(std::time::Duration::from_micros(micros));
        say(
            "finished",
            format!("{} ({took} after it was made)", moment::utc(finished)),
        );
    }
    for (code, kind) in errors {
        let (jobs, at) = (
            counted(kind.jobs, "job"),
            input_lines(&kind.lines, kind.jobs),
        );
        say("error", format!("{code}: {jobs}, {at}: {}", kind.example));
    }
    lines
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_counted_by_code_with_their_first_lines() {
        let mut errors = Errors::new();
        for line in 1..=7 {
            count(
                &mut errors,
                &JobError::new("invalid_json", format!("line {line}")),
                line,
            );
        }
        count(
            &mut errors,
            &JobError::new("wrong_type", "prompt must be a text"),
            9,
        );
        let kind = &errors["invalid_json"];
        assert_eq!((kind.jobs, kind.example.as_str()), (7, "line 1"));
        assert_eq!(kind.lines, [1, 2, 3, 4, 5]);
        assert_eq!(errors["wrong_type"].lines, [9]);
    }
}
