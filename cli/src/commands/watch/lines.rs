//! Events as lines of JSON: each is the server's, with its name in front.

use rbee_scheduler::http::types::{BatchView, event};
use serde_json::{Map, Value};

use super::job::Told;
use super::{WatchArgs, code_of, trouble};
use crate::client::{Client, Followed, ServerEvent};
use crate::exit_code::ExitCode;
use crate::failure::Outcome;
use crate::table;
use crate::talk::Talk;

/// The events of a batch.
pub async fn of_batch(client: &Client, talk: &Talk, args: &WatchArgs) -> Outcome {
    let results = if args.errors { "errors" } else { "all" };
    let mut query = vec![("results", results)];
    if args.all {
        query.push(("tokens", "all"));
    }
    // The batch that is meant stays the same when a newer one comes.
    let batch = client.batch(&args.id).await?;
    let path = ["v1", "batches", batch.id.as_str(), "events"];
    let mut events = Followed::new(client, talk, &path, &query);
    let mut told = Told::default();
    let mut greeted = false;
    loop {
        let event = events.next().await?;
        match event.name.as_str() {
            // Another connection begins with the batch again.
            event::BATCH if greeted => continue,
            event::BATCH => greeted = true,
            event::TEXT | event::RESET => {
                for event in told.take(event) {
                    table::print([line(event)])?;
                }
                continue;
            }
            event::ERROR => return Err(trouble(&event.body)),
            _ => {}
        }
        let end = (event.name == event::END).then(|| event.body.clone());
        table::print([line(event)])?;
        if let Some(batch) = end {
            return Ok(code_of(&serde_json::from_value::<BatchView>(batch)?));
        }
    }
}

/// The events of a job.
pub async fn of_job(client: &Client, talk: &Talk, id: &str, index: u64) -> Outcome {
    let batch = client.batch(id).await?;
    let index = index.to_string();
    let path = ["v1", "batches", batch.id.as_str(), "jobs", &index, "events"];
    let mut events = Followed::new(client, talk, &path, &[]);
    let mut told = Told::default();
    let mut last_state = None;
    loop {
        let event = events.next().await?;
        match event.name.as_str() {
            event::TEXT | event::RESET => {
                for event in told.take(event) {
                    table::print([line(event)])?;
                }
                continue;
            }
            // Another connection begins with the job again.
            event::JOB if last_state.as_ref() == Some(&event.body) => continue,
            event::JOB => last_state = Some(event.body.clone()),
            event::ERROR => return Err(trouble(&event.body)),
            _ => {}
        }
        let ended = event.name == event::END;
        let succeeded = event.body["state"] == "succeeded";
        table::print([line(event)])?;
        if ended {
            return Ok(match succeeded {
                true => ExitCode::Success,
                false => ExitCode::SomeFailed,
            });
        }
    }
}

fn line(event: ServerEvent) -> String {
    let mut line = Map::new();
    line.insert("event".to_owned(), Value::String(event.name));
    match event.body {
        Value::Object(body) => line.extend(body),
        other => drop(line.insert("data".to_owned(), other)),
    }
    Value::Object(line).to_string()
}
