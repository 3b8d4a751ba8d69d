//! `POST /v1/batches` as OpenAI's clients send it: a batch is made of an uploaded file.
//!
//! The batch is announced at once, and validating: its file is read by whoever leads (`coordinator/validate`). What is refused
//! as a whole is a batch all the same, which has failed and says why.

use super::super::Server;
use super::super::auth::Caller;
use super::super::error::ApiError;
use super::super::types::BatchView;
use super::body::{needed, read_object, wrong_type};
use super::window::read_window;
use crate::coordinator::MAX_ANNOUNCED;
use axum::Json;
use axum::body::Body;
use rbee_queue::batches::Submission;
use rbee_queue::file::{Asked, Purpose, StoredFile};
use rbee_queue::jsonl::LineOptions;
use rbee_queue::whole_number::whole;
use rbee_queue::{BatchSpec, Endpoint, Priority};
use serde_json::{Map, Value};

/// Notes that a client may add.
const MAX_METADATA: usize = 16;
/// Characters of a note's name, and of a note.
const MAX_METADATA_KEY: usize = 64;
const MAX_METADATA_VALUE: usize = 512;
/// How long outputs may be kept, in seconds.
const OUTPUTS_KEPT_S: std::ops::RangeInclusive<u64> = 3_600..=2_592_000;

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
    // How many jobs it has is not known yet: for none there may be room at all.
    server.check_room(&caller, 1).await?;
    let announced = server.batches.store().batch_announced(MAX_ANNOUNCED);
    if announced.await?.len() >= MAX_ANNOUNCED {
        return Err(ApiError::too_many(format!(
            "{MAX_ANNOUNCED} batches wait for their files to be read: try again in a moment"
        )));
    }
    let asked = Asked {
        max_queued: caller.quota.max_queued,
        ..asked
    };
    let submission = submission(&server, &caller, asked, &file);
    let batch = server.batches.announce(submission).await?;
    server.coordinator.wake_announced();
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
        max_queued: None,
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
}
