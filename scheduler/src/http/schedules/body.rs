//! A new schedule as one body of JSON: the form for clients of their own. rbee's commands send a form, since prompts may be
//! many.

use super::super::Server;
use super::super::error::ApiError;
use super::super::openai::read_object;
use super::super::types::{NewScheduleSpec, WantedSource};
use axum::body::{Body, Bytes};
use rbee_queue::jsonl::{LineOptions, parse_line};
use rbee_queue::schedule::{Missed, Overlap};
use rbee_queue::{BatchSpec, Priority};
use serde::Deserialize;
use serde_json::{Map, Value};

/// The body.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewSchedule {
    name: String,
    cron: String,
    tz: Option<String>,
    overlap: Option<Overlap>,
    missed: Option<Missed>,
    missed_window_s: Option<u64>,
    source: Source,
    model: Option<String>,
    priority: Option<Priority>,
    node: Option<String>,
    output: Option<String>,
    on_done: Option<String>,
    command: Option<String>,
}

#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
enum Source {
    Files {
        pattern: String,
    },
    Kept {
        name: String,
        lines: Vec<Map<String, Value>>,
    },
}

/// The schedule that a body describes, and its prompts where they are in it.
pub async fn read(
    server: &Server,
    body: Body,
) -> Result<(NewScheduleSpec, Option<Bytes>), ApiError> {
    let body = Value::Object(read_object(body).await?);
    let wanted: NewSchedule = serde_json::from_value(body)
        .map_err(|error| ApiError::bad("invalid_schedule", error.to_string()).about("body"))?;
    let model = wanted.model.unwrap_or_else(|| server.usual_model.clone());
    if model.is_empty() {
        return Err(ApiError::bad("invalid_schedule", "the model's name is empty").about("model"));
    }
    let options = LineOptions::new(model);
    let (source, prompts) = match wanted.source {
        Source::Files { pattern } => (WantedSource::Files { pattern }, None),
        Source::Kept { name, lines } => {
            let prompts = written(&lines, &options)?;
            (WantedSource::Kept { name }, Some(prompts))
        }
    };
    let spec = NewScheduleSpec {
        name: wanted.name,
        cron: wanted.cron,
        tz: wanted.tz,
        overlap: wanted.overlap,
        missed: wanted.missed,
        missed_window_s: wanted.missed_window_s,
        source,
        spec: BatchSpec::new(options),
        priority: wanted.priority.unwrap_or_default(),
        node: wanted.node,
        models: Vec::new(),
        output: wanted.output,
        on_done: wanted.on_done,
        command: wanted.command,
    };
    Ok((spec, prompts))
}

/// The lines as a file; none of them may be wrong, as somebody is there to be told.
fn written(lines: &[Map<String, Value>], options: &LineOptions) -> Result<Bytes, ApiError> {
    let wrong = |message: String| ApiError::bad("invalid_schedule", message).about("source");
    if lines.is_empty() {
        return Err(wrong("there are no lines".to_owned()));
    }
    let mut text = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let line = serde_json::to_vec(line).expect("a map of JSON values is JSON");
        if let Err(error) = parse_line(&line, options).request {
            return Err(wrong(format!("lines[{at}]: {error}")));
        }
        text.extend(line);
        text.push(b'\n');
    }
    Ok(text.into())
}
