//! `POST /v1/batches` as OpenAI's clients send it: a batch is made of an uploaded file.
//!
//! The file is read out of the store into a spool, looked at, and loaded as every other input is. What is refused as a whole
//! is a batch all the same, which has failed and says why.

use super::super::auth::Caller;
use super::super::error::ApiError;
use super::super::spool::{Spool, Waiting, again};
use super::super::types::BatchView;
use super::super::{ResolveError, Server};
use super::body::{needed, read_object, wrong_type};
use super::window::read_window;
use crate::resolve::resolve_all;
use axum::Json;
use axum::body::Body;
use rbee_queue::batches::{Submission, SubmitError, Submitted};
use rbee_queue::file::{Asked, Purpose, RefusedLine, StoredFile};
use rbee_queue::jsonl::{LineOptions, ReadError, Survey};
use rbee_queue::store::Refusal;
use rbee_queue::whole_number::whole;
use rbee_queue::{Batch, BatchModel, BatchSpec, Endpoint, Priority};
use serde_json::{Map, Value};
use std::fs::File;
use std::sync::Arc;

/// Notes that a client may add.
const MAX_METADATA: usize = 16;
/// Characters of a note's name, and of a note.
const MAX_METADATA_KEY: usize = 64;
const MAX_METADATA_VALUE: usize = 512;
/// How long outputs may be kept, in seconds.
const OUTPUTS_KEPT_S: std::ops::RangeInclusive<u64> = 3_600..=2_592_000;
/// Reasons that a refused batch lists.
const MAX_REASONS: usize = 100;

/// Makes a batch of a file.
pub async fn create_batch(
    server: Server,
    caller: Caller,
    body: Body,
) -> Result<Json<BatchView>, ApiError> {
    let body = read_object(body).await?;
    let asked = read(&body)?;
    let file = server.file(&caller, asked.input_file_id.as_str()).await;
    let file = file.map_err(|error| error.about("input_file_id"))?;
    if file.purpose != Purpose::Batch {
        let message = format!("the file {} is no input: its purpose is not batch", file.id);
        return Err(ApiError::bad("invalid_value", message).about("input_file_id"));
    }
    let _turn = Arc::clone(&server.uploads)
        .acquire_owned()
        .await
        .map_err(|error| ApiError::internal(error.to_string()))?;
    let submission = submission(&server, &caller, asked, &file);
    let batch = make(&server, &caller, &file, submission).await?;
    Ok(Json(BatchView::from(&batch)))
}

fn read(body: &Map<String, Value>) -> Result<Asked, ApiError> {
    const KNOWN: [&str; 5] = [
        "input_file_id",
        "endpoint",
        "completion_window",
        "metadata",
        "output_expires_after",
    ];
    if let Some(name) = body.keys().find(|name| !KNOWN.contains(&name.as_str())) {
        let shown: String = name.chars().take(80).collect();
        let message = format!("{shown} is not a parameter of a batch");
        return Err(ApiError::bad("unknown_parameter", message).about(shown));
    }
    let file = needed(body, "input_file_id")?;
    let shown: String = file.chars().take(80).collect();
    let input_file_id = file.parse().map_err(|_| {
        ApiError::not_found(format!("there is no file {shown}")).about("input_file_id")
    })?;
    let window = needed(body, "completion_window")?;
    Ok(Asked {
        input_file_id,
        endpoint: read_endpoint(needed(body, "endpoint")?)?,
        window_s: read_window(window)?,
        completion_window: window.to_owned(),
        metadata: read_metadata(body)?,
        outputs_kept_s: read_outputs_kept(body)?,
    })
}

fn read_endpoint(url: &str) -> Result<Endpoint, ApiError> {
    let bad = |message: String| ApiError::bad("invalid_value", message).about("endpoint");
    match Endpoint::from_url(url) {
        Some(endpoint) => Ok(endpoint),
        None => {
            let shown: String = url.chars().take(80).collect();
            Err(bad(format!(
                "endpoint {shown:?} is not one of /v1/chat/completions, /v1/completions and /v1/embeddings"
            )))
        }
    }
}

fn read_metadata(body: &Map<String, Value>) -> Result<Option<Map<String, Value>>, ApiError> {
    let notes = match body.get("metadata") {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Object(notes)) => notes,
        Some(_) => return Err(wrong_type("metadata", "an object of texts")),
    };
    let bad = |message: String| Err(ApiError::bad("invalid_value", message).about("metadata"));
    if notes.len() > MAX_METADATA {
        return bad(format!("metadata has more than {MAX_METADATA} entries"));
    }
    for (name, value) in notes {
        if name.chars().count() > MAX_METADATA_KEY {
            return bad(format!(
                "a name in metadata has more than {MAX_METADATA_KEY} characters"
            ));
        }
        match value {
            Value::String(text) if text.chars().count() <= MAX_METADATA_VALUE => {}
            Value::String(_) => {
                return bad(format!(
                    "a value in metadata has more than {MAX_METADATA_VALUE} characters"
                ));
            }
            _ => return Err(wrong_type("metadata", "an object of texts")),
        }
    }
    Ok(Some(notes.clone()))
}

fn read_outputs_kept(body: &Map<String, Value>) -> Result<Option<u64>, ApiError> {
    let name = "output_expires_after";
    let given = match body.get(name) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Object(given)) => given,
        Some(_) => return Err(wrong_type(name, "an object")),
    };
    let anchored = given
        .get("anchor")
        .is_some_and(|anchor| anchor == "created_at");
    let seconds = given.get("seconds").and_then(whole);
    match seconds.filter(|seconds| anchored && OUTPUTS_KEPT_S.contains(seconds)) {
        Some(seconds) => Ok(Some(seconds)),
        None => {
            let message = format!(
                "{name} wants the anchor created_at and seconds from {} to {}",
                OUTPUTS_KEPT_S.start(),
                OUTPUTS_KEPT_S.end()
            );
            Err(ApiError::bad("invalid_value", message).about(name))
        }
    }
}

fn submission(server: &Server, caller: &Caller, asked: Asked, file: &StoredFile) -> Submission {
    let options = LineOptions {
        endpoint: Some(asked.endpoint),
        ..LineOptions::new(server.usual_model.as_str())
    };
    Submission {
        owner: caller.owner().to_owned(),
        name: Some(file.filename.clone()),
        // Each create is a batch of its own, as there.
        key: None,
        priority: Priority::Batch,
        pinned_node: None,
        on_done: None,
        spec: BatchSpec::new(options),
        models: Vec::new(),
        digest: None,
        asked: Some(asked),
    }
}

/// Makes the batch, or keeps it as one that failed.
async fn make(
    server: &Server,
    caller: &Caller,
    file: &StoredFile,
    submission: Submission,
) -> Result<Batch, ApiError> {
    let (spooled, survey) = match spool(server, file, &submission.spec.options).await? {
        (spooled, Ok(survey)) => (spooled, survey),
        (_, Err(error)) => return refuse(server, submission, unreadable(&error)).await,
    };
    server.check_room(caller, survey.jobs).await?;
    server.room_for(survey.jobs).await?;
    let models = match resolve(server, &survey).await {
        Ok(models) => models,
        Err(error) if error.transient => return Err(ApiError::unavailable(error.message)),
        Err(error) => return refuse(server, submission, unresolved(error)).await,
    };
    let refused = submission.clone();
    let submission = Submission {
        models,
        digest: Some(survey.digest),
        ..submission
    };
    let client = Waiting::new();
    let reader = again(spooled, &client)
        .map_err(|error| ApiError::internal(format!("a file cannot be read again: {error}")))?;
    let batches = server.batches.clone();
    // In a task of its own, which undoes what it did if the client goes away.
    let loading = tokio::spawn(async move { batches.submit(reader, submission).await });
    let made = loading
        .await
        .map_err(|error| ApiError::internal(format!("a load ended by an error: {error}")))?;
    drop(client);
    match made {
        Ok(Submitted::New(batch, lock)) => {
            // From here on the batch is the coordinator's.
            drop(lock);
            server.coordinator.wake();
            Ok(*batch)
        }
        Ok(Submitted::Existing(_)) => Err(ApiError::internal("a batch without a key existed")),
        Err(SubmitError::Refused(refusal)) => refuse(server, refused, reasons(refusal)).await,
        Err(error) => Err(error.into()),
    }
}

async fn spool(
    server: &Server,
    file: &StoredFile,
    options: &LineOptions,
) -> Result<(File, Result<Survey, ReadError>), ApiError> {
    let spool = Spool::begin(&server.spool, options.clone())
        .map_err(|error| ApiError::internal(format!("a file cannot be read: {error}")))?;
    for piece in 0.. {
        let Some(bytes) = server.batches.store().file_kept(&file.id, piece).await? else {
            break;
        };
        if !spool.push(bytes.into()).await {
            // The reader has seen enough.
            break;
        }
    }
    spool.finish().await
}

async fn resolve(server: &Server, survey: &Survey) -> Result<Vec<BatchModel>, ResolveError> {
    let models = server.models.as_ref();
    let resolved = resolve_all(models, &[], &server.usual_model, survey).await?;
    Ok(resolved.models)
}

async fn refuse(
    server: &Server,
    submission: Submission,
    reasons: Vec<RefusedLine>,
) -> Result<Batch, ApiError> {
    Ok(server.batches.refuse(submission, reasons).await?)
}

fn reason(code: &str, message: String) -> RefusedLine {
    RefusedLine {
        code: code.to_owned(),
        message,
        line: None,
        param: None,
    }
}

fn unreadable(error: &ReadError) -> Vec<RefusedLine> {
    let told = match error {
        ReadError::Empty => reason("empty_file", error.to_string()),
        ReadError::PlainText { line, start } => RefusedLine {
            line: Some(*line),
            ..reason(
                "invalid_json_line",
                format!("the file is not JSONL: line {line} begins with {start:?}"),
            )
        },
        _ => reason("invalid_input", error.to_string()),
    };
    vec![told]
}

fn unresolved(error: ResolveError) -> Vec<RefusedLine> {
    vec![RefusedLine {
        param: Some("model".to_owned()),
        ..reason("model_not_found", error.message)
    }]
}

fn reasons(refusal: Refusal) -> Vec<RefusedLine> {
    let Refusal::Duplicates { ids, .. } = refusal else {
        return vec![reason("empty_file", refusal.to_string())];
    };
    let doubled = ids.iter().take(MAX_REASONS).map(|(id, lines)| {
        let shown: String = id.chars().take(80).collect();
        let first = lines.first().copied().unwrap_or_default();
        RefusedLine {
            line: lines.get(1).copied(),
            param: Some("custom_id".to_owned()),
            ..reason(
                "duplicate_custom_id",
                format!("the custom_id {shown:?} is that of line {first} already"),
            )
        }
    });
    doubled.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn asked(change: Value) -> Result<Asked, ApiError> {
        let mut body = json!({
            "input_file_id": rbee_queue::FileId::generate(),
            "endpoint": "/v1/chat/completions",
            "completion_window": "24h",
        });
        for (name, value) in change.as_object().unwrap() {
            body[name] = value.clone();
        }
        read(body.as_object().unwrap())
    }

    #[test]
    fn what_a_batch_is_asked_with_has_limits() {
        assert!(asked(json!({})).is_ok());
        assert!(asked(json!({"metadata": {"a": "b"}})).is_ok());
        assert!(asked(json!({"endpoint": "/v1/embeddings"})).is_ok());
        let kept = json!({"output_expires_after": {"anchor": "created_at", "seconds": 3600}});
        assert_eq!(asked(kept).unwrap().outputs_kept_s, Some(3_600));
        let kept = json!({"output_expires_after": {"anchor": "created_at", "seconds": 3600.0}});
        assert_eq!(asked(kept).unwrap().outputs_kept_s, Some(3_600));
        let many: Map<String, Value> = (0..17).map(|n| (n.to_string(), json!("x"))).collect();
        for wrong in [
            json!({"metadata": {"a": 1}}),
            json!({"metadata": []}),
            json!({"metadata": {"a": "x".repeat(513)}}),
            json!({"metadata": {"x".repeat(65): "a"}}),
            json!({"metadata": many}),
            json!({"endpoint": "/v1/images"}),
            json!({"endpoint": 1}),
            json!({"completion_window": "soon"}),
            json!({"completion_window": null}),
            json!({"input_file_id": "x"}),
            json!({"output_expires_after": {"seconds": 3600}}),
            json!({"output_expires_after": {"anchor": "created_at", "seconds": 1}}),
            json!({"colour": "red"}),
        ] {
            assert!(asked(wrong.clone()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn duplicates_are_told_one_by_one() {
        let told = reasons(Refusal::Duplicates {
            ids: vec![
                ("x".to_owned(), vec![1, 3]),
                ("y".to_owned(), vec![2, 4, 5]),
            ],
            count: 2,
        });
        assert_eq!(told.len(), 2);
        assert_eq!(told[0].line, Some(3));
        assert_eq!(told[1].code, "duplicate_custom_id");
        assert_eq!(reasons(Refusal::Empty)[0].code, "empty_file");
    }
}
