//! Sending a new schedule to a server, with its prompts where the server is not to read them itself.

use std::sync::{Arc, Mutex};

use anyhow::Context as _;
use rbee_scheduler::http::types::{
    ErrorBody, NewScheduleSpec, PART_INPUT, PART_SCHEDULE, ScheduleMade,
};
use reqwest::multipart::{Form, Part};
use reqwest::{Method, StatusCode};

use super::{Client, Prompts};
use crate::failure::Failure;
use crate::talk::Talk;

/// The code with which a server refuses to read files.
const NOT_ALLOWED: &str = "source_not_allowed";

/// What a server made of a new schedule.
pub enum Scheduled {
    /// It is there.
    Made(Box<ScheduleMade>),
    /// The server may not read the prompts' path; this is why.
    MayNotRead(String),
}

/// Makes a schedule; `prompts` are sent where its source wants them.
pub async fn add_schedule(
    client: &Client,
    spec: &NewScheduleSpec,
    prompts: Option<Prompts>,
    talk: &Talk,
) -> Result<Scheduled, Failure> {
    let spec = serde_json::to_string(spec).context("the flags cannot be sent")?;
    let failed = Arc::new(Mutex::new(None));
    let mut form = Form::new().part(PART_SCHEDULE, Part::text(spec));
    if let Some(prompts) = prompts {
        // As with a submit: a server that refuses the token would not read the prompts.
        let first = client.request(Method::GET, &["v1", "schedules"]);
        client.send(first).await?;
        let body = prompts.body(talk, Arc::clone(&failed));
        form = form.part(PART_INPUT, Part::stream(body));
    }
    let request = client.request(Method::POST, &["v1", "schedules"]);
    let sent = request.multipart(form).send().await;
    let broken = failed
        .lock()
        .expect("nothing panics while it holds this")
        .take();
    if let Some(error) = broken {
        return Err(anyhow::Error::new(error)
            .context("cannot read the prompts")
            .into());
    }
    let response = sent.map_err(|error| client.broken(error))?;
    if response.status().is_success() {
        let made = response.json().await;
        return made
            .map(|made| Scheduled::Made(Box::new(made)))
            .map_err(|error| client.broken(error));
    }
    let status = response.status();
    let text = response.text().await.unwrap_or_default();
    if status == StatusCode::FORBIDDEN
        && let Ok(body) = serde_json::from_str::<ErrorBody>(&text)
        && body.error.code.as_deref() == Some(NOT_ALLOWED)
    {
        return Ok(Scheduled::MayNotRead(body.error.message));
    }
    Err(super::refusal(status, &text))
}
