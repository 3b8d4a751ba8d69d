//! `POST /v1/batches`: a file of prompts becomes a batch.
//!
//! A form brings the prompts with it, as rbee's commands send them; a body of JSON names an uploaded file, as OpenAI's
//! clients do ([`create_batch`]).
//!
//! The way: the upload is spooled and surveyed while it comes in, its models are resolved once each, then it is loaded
//! under a hidden batch and shown. Memory is bounded whatever the size; a client that goes away leaves nothing.

use super::auth::Caller;
use super::error::ApiError;
use super::openai::create_batch;
use super::spool::{Spool, Waiting, again};
use super::types::{BatchView, PART_INPUT, PART_SPEC, SubmitSpec, Submitted};
use super::{ResolveError, Server, UPLOAD_SILENCE};
use crate::resolve::resolve_all;
use axum::Json;
use axum::extract::multipart::{Field, Multipart, MultipartError};
use axum::extract::{FromRequest, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use rbee_queue::batches::{Submission, SubmitError, Submitted as Made};
use rbee_queue::jsonl::Survey;
use rbee_queue::trace::{self, Span};
use rbee_queue::{Batch, BatchModel, RunKey};
use serde::de::DeserializeOwned;
use std::fs::File;
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;

/// Bytes of the part that says what the batch is made with.
const MAX_SPEC_BYTES: usize = 4 << 20;
/// Bytes of an input.
const MAX_INPUT_BYTES: u64 = 64 << 30;
/// Characters of a batch's name.
const MAX_NAME: usize = 200;
/// Characters of a key.
const MAX_KEY: usize = 200;

/// Makes a batch in the way that the body's kind says.
pub async fn create(
    State(server): State<Server>,
    caller: Caller,
    request: Request,
) -> Result<Response, ApiError> {
    let kind = request.headers().get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if !kind.starts_with("multipart/form-data") {
        let made = create_batch(server, caller, request.into_body()).await?;
        return Ok(made.into_response());
    }
    match Multipart::from_request(request, &server).await {
        Ok(form) => Ok(submit(server, caller, form).await?.into_response()),
        Err(rejection) => Ok(rejection.into_response()),
    }
}

/// Makes a batch, or finds the equal one.
async fn submit(
    server: Server,
    caller: Caller,
    mut form: Multipart,
) -> Result<(StatusCode, Json<Submitted>), ApiError> {
    let (_turn, spec) = admit(&server, &mut form).await?;
    let input = next_part(&mut form, PART_INPUT).await?;
    let (file, survey) = receive(&server, input, &spec).await?;
    server.room_for(survey.jobs).await?;
    let takes_over = match &spec.takes_over {
        Some(id) => Some(server.batch(&caller, id).await?),
        None => None,
    };
    let usual = &spec.spec.options.model;
    let resolved = resolve_all(server.models.as_ref(), &spec.models, usual, &survey)
        .await
        .map_err(unresolved)?;
    let submitted = load(
        server,
        Upload {
            caller,
            file,
            survey,
            spec,
            models: resolved.models,
            takes_over,
        },
    )
    .await?;
    let status = match submitted.existing {
        true => StatusCode::OK,
        false => StatusCode::CREATED,
    };
    Ok((
        status,
        Json(Submitted {
            warnings: resolved.warnings,
            ..submitted
        }),
    ))
}

pub(super) async fn next_part<'f>(
    form: &'f mut Multipart,
    wanted: &str,
) -> Result<Field<'f>, ApiError> {
    let part = tokio::time::timeout(UPLOAD_SILENCE, form.next_field())
        .await
        .map_err(|_| silent())?
        .map_err(broken)?;
    part.filter(|part| part.name() == Some(wanted))
        .ok_or_else(|| {
            ApiError::bad(
                "missing_part",
                format!("the form wants a part {wanted:?} in this place"),
            )
            .about("body")
        })
}

pub(super) fn broken(error: MultipartError) -> ApiError {
    ApiError::bad(
        "input_cut_off",
        format!("the upload cannot be read: {}", error.body_text()),
    )
}

pub(super) fn silent() -> ApiError {
    ApiError::bad("input_cut_off", "the upload stopped in the middle")
}

/// What can be judged without the input: whether there is room for one more upload, and the spec.
async fn admit(
    server: &Server,
    form: &mut Multipart,
) -> Result<(OwnedSemaphorePermit, SubmitSpec), ApiError> {
    let turn = Arc::clone(&server.uploads)
        .try_acquire_owned()
        .map_err(|_| {
            ApiError::too_many("the server has too many uploads at once: try again in a moment")
        })?;
    let spec: SubmitSpec = read_json(form, PART_SPEC).await?;
    check(&spec)?;
    check_receiver(server, &spec).await?;
    Ok((turn, spec))
}

/// The part of a form that says what is wanted, as JSON.
pub(super) async fn read_json<T: DeserializeOwned>(
    form: &mut Multipart,
    name: &'static str,
) -> Result<T, ApiError> {
    let mut part = next_part(form, name).await?;
    let mut text = Vec::new();
    while let Some(bytes) = part.chunk().await.map_err(broken)? {
        if text.len() + bytes.len() > MAX_SPEC_BYTES {
            return Err(ApiError::too_large(format!(
                "the part {name:?} has more than {MAX_SPEC_BYTES} bytes"
            )));
        }
        text.extend_from_slice(&bytes);
    }
    serde_json::from_slice(&text)
        .map_err(|error| ApiError::bad("invalid_spec", error.to_string()).about(name))
}

/// What does not depend on the input.
fn check(spec: &SubmitSpec) -> Result<(), ApiError> {
    let bad = |message: String| ApiError::bad("invalid_spec", message).about(PART_SPEC);
    (spec.spec.options.validate()).map_err(|error| bad(error.to_string()))?;
    let long = |text: &Option<String>, most: usize| {
        text.as_ref()
            .is_some_and(|text| text.chars().count() > most)
    };
    if long(&spec.name, MAX_NAME) {
        return Err(bad(format!("the name has more than {MAX_NAME} characters")));
    }
    if long(&spec.key, MAX_KEY) || spec.key.as_deref() == Some("") {
        return Err(bad(format!("the key must have 1 to {MAX_KEY} characters")));
    }
    if spec.key.is_some() && spec.new {
        return Err(bad(
            "a key and a new batch at any rate exclude each other".to_owned()
        ));
    }
    Ok(())
}

/// Whether the receiver could be told, as far as that is known now.
async fn check_receiver(server: &Server, spec: &SubmitSpec) -> Result<(), ApiError> {
    match &spec.on_done {
        Some(url) => check_url(server, url).await,
        None => Ok(()),
    }
}

/// Whether a receiver could be told, as far as that is known now.
pub(super) async fn check_url(server: &Server, url: &str) -> Result<(), ApiError> {
    let refused = why_not_told(server, url).await;
    refused.map_err(|message| ApiError::bad("invalid_spec", message).about("on_done"))
}

/// The same in a sentence.
pub(super) async fn why_not_told(server: &Server, url: &str) -> Result<(), String> {
    let webhooks = (server.coordinator.webhooks())
        .ok_or_else(|| "this server tells nobody when a batch is done".to_owned())?;
    let checked = webhooks.check(url).await;
    checked.map_err(|error| format!("on_done cannot be told: {error}"))
}

/// Spools the input and looks at it while it comes in.
async fn receive(
    server: &Server,
    mut input: Field<'_>,
    spec: &SubmitSpec,
) -> Result<(File, Survey), ApiError> {
    let spool = Spool::begin(&server.spool, spec.spec.options.clone())
        .map_err(|error| ApiError::internal(format!("an upload cannot be kept: {error}")))?;
    let mut bytes = 0u64;
    loop {
        let piece = tokio::time::timeout(UPLOAD_SILENCE, input.chunk())
            .await
            .map_err(|_| silent())?
            .map_err(broken)?;
        let Some(piece) = piece else {
            return spool.end().await;
        };
        bytes += piece.len() as u64;
        if bytes > MAX_INPUT_BYTES {
            return Err(ApiError::too_large(format!(
                "the input has more than {MAX_INPUT_BYTES} bytes: split it"
            )));
        }
        if !spool.push(piece).await {
            return spool.end().await;
        }
    }
}

impl Server {
    /// Whether a caller may queue so many jobs more. Two at once may both find room: the bound is of a kind, not of a coin.
    pub(super) async fn check_room(&self, caller: &Caller, jobs: u64) -> Result<(), ApiError> {
        let Some(most) = caller.quota.max_queued else {
            return Ok(());
        };
        if jobs > most {
            return Err(ApiError::bad(
                "quota_exceeded",
                format!(
                    "these are {jobs} jobs, and this token may have {most} unfinished ones at once: split them"
                ),
            ));
        }
        let unfinished = self.batches.store().jobs_unfinished(caller.owner()).await?;
        match unfinished + jobs > most {
            true => Err(ApiError::too_many(format!(
                "{unfinished} jobs are unfinished, these are {jobs} more, and this token may have {most} at once: wait, \
                 or cancel some"
            ))),
            false => Ok(()),
        }
    }
}

/// The answer to a name that leads nowhere.
pub(super) fn unresolved(error: ResolveError) -> ApiError {
    match error.transient {
        true => ApiError::unavailable(error.message),
        false => ApiError::bad("model_not_found", error.message).about("model"),
    }
}

/// An upload that was looked at.
struct Upload {
    caller: Caller,
    file: File,
    survey: Survey,
    spec: SubmitSpec,
    models: Vec<BatchModel>,
    /// The batch whose answers it takes over.
    takes_over: Option<Batch>,
}

impl Upload {
    /// The key under which an equal submit finds this one.
    fn key(&self) -> Option<String> {
        if self.spec.new {
            return None;
        }
        if let Some(key) = &self.spec.key {
            return Some(format!("user:{key}"));
        }
        let identities: Vec<_> = self
            .models
            .iter()
            .map(|model| (model.requested.clone(), model.sha256))
            .collect();
        let key = RunKey {
            input: &self.survey.digest,
            spec: &self.spec.spec,
            models: &identities,
            numerics: None,
        };
        Some(match &self.takes_over {
            Some(old) => format!("rerun:{}:{}", old.id, key.to_key()),
            None => key.to_key(),
        })
    }
}

/// Loads the upload. It goes on in a task of its own, which undoes what it did if the client goes away.
async fn load(server: Server, upload: Upload) -> Result<Submitted, ApiError> {
    let key = upload.key();
    let store = server.batches.store();
    if let Some(key) = &key
        && let Some(batch) = store.batch_by_key(upload.caller.owner(), key).await?
    {
        return Ok(existing(BatchView::from(&batch)));
    }
    (server.check_room(&upload.caller, upload.survey.jobs)).await?;
    let client = Waiting::new();
    let reader = again(upload.file, &client.watched())
        .map_err(|error| ApiError::internal(format!("an upload cannot be read again: {error}")))?;
    let submission = Submission {
        owner: upload.caller.owner().to_owned(),
        name: upload.spec.name,
        key,
        priority: upload.spec.priority,
        pinned_node: upload.spec.node,
        on_done: upload.spec.on_done,
        spec: upload.spec.spec,
        models: upload.models,
        digest: Some(upload.survey.digest),
        asked: None,
    };
    let batches = server.batches.clone();
    let takes_over = upload.takes_over;
    let began_us = trace::now_us();
    let loading = tokio::spawn(async move {
        let made = batches.submit(reader, submission).await?;
        if let (Made::New(batch, _), Some(old)) = (&made, &takes_over) {
            // In a cluster some of its jobs may have a place already: those are computed.
            batches.take_over(old, batch, None).await?;
        }
        Ok::<_, SubmitError>(made)
    });
    let made = loading
        .await
        .map_err(|error| ApiError::internal(format!("a load ended by an error: {error}")))??;
    drop(client);
    match made {
        Made::New(batch, lock) => {
            trace::tell(|| Span::of_load(&batch, began_us));
            let view = BatchView::from(batch.as_ref());
            // From here on the batch is the coordinator's.
            drop(lock);
            server.coordinator.wake();
            Ok(Submitted {
                batch: view,
                existing: false,
                warnings: Vec::new(),
            })
        }
        Made::Existing(batch) => Ok(existing(BatchView::from(batch.as_ref()))),
    }
}

fn existing(batch: BatchView) -> Submitted {
    Submitted {
        batch,
        existing: true,
        warnings: Vec::new(),
    }
}
