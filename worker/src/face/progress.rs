//! `GET /v1/loading/progress`: how loads go, until a model is there or none comes.

use super::Shared;
use super::error::{FaceError, face_code};
use crate::node::NodeStatus;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::stream;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::time::Duration;
use tokio::sync::watch;

/// How long a load may be silent before it counts as stuck on this face.
const PATIENCE: Duration = Duration::from_secs(600);

enum Next {
    /// Look at the status, and tell it if it is another than before.
    Look(Option<Value>),
    Done,
    Over,
}

/// Streams it.
pub async fn get(State(shared): State<Shared>) -> Result<impl IntoResponse, FaceError> {
    let permit = shared.streams.clone().try_acquire_owned();
    let permit = permit.map_err(|_| FaceError::busy())?;
    let status = shared.face.node.status();
    let start = (status, Next::Look(None), permit);
    let events = stream::unfold(start, |(mut status, next, permit)| async move {
        let (event, next) = match next {
            Next::Over => return None,
            Next::Done => ("[DONE]".to_owned(), Next::Over),
            Next::Look(before) => {
                let (told, over) = tell(&mut status, before.as_ref()).await;
                let text = told.to_string();
                (
                    text,
                    if over {
                        Next::Done
                    } else {
                        Next::Look(Some(told))
                    },
                )
            }
        };
        let event = Ok::<_, Infallible>(Event::default().data(event));
        Some((event, (status, next, permit)))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::default()))
}

/// The next thing to tell, and whether it is the last.
async fn tell(status: &mut watch::Receiver<NodeStatus>, before: Option<&Value>) -> (Value, bool) {
    let looking = async {
        loop {
            let (told, over) = look(&status.borrow_and_update());
            if Some(&told) != before {
                return (told, over);
            }
            if status.changed().await.is_err() {
                return (failure("backend_unavailable", "The node has ended."), true);
            }
        }
    };
    let looked = tokio::time::timeout(PATIENCE, looking).await;
    looked.unwrap_or_else(|_| {
        let message = "The load makes no progress.";
        (failure("loading_timeout", message), true)
    })
}

fn look(status: &NodeStatus) -> (Value, bool) {
    if let Some(loading) = status.report.loading.first() {
        let told = json!({
            "event": "loading_to_vram",
            "model": loading.model.to_hex(),
            "stage": loading.stage,
            "percent": (loading.share * 100.0).round(),
        });
        return (told, false);
    }
    if let Some(model) = status.resident.last() {
        return (json!({"event": "ready", "model": model.to_hex()}), true);
    }
    match &status.load_failure {
        Some(failed) => (failure(&failed.error.code, &failed.error.message), true),
        None => (json!({"event": "idle"}), true),
    }
}

fn failure(code: &str, message: &str) -> Value {
    json!({"event": "error", "error": {"code": face_code(code), "message": message}})
}
