//! Server-sent events: how streams of them are sent, and how long they live.
//!
//! A stream is asked for its next events only when the last ones are on their way: what a client does not take is not
//! made. A silent stream says so now and then, so that both ends notice when the other is gone.

use super::Server;
use super::error::ApiError;
use super::types::{Trouble, event};
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, StreamExt, stream};
use serde::Serialize;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

/// How often a silent stream says that it lives.
const SIGN_OF_LIFE: Duration = Duration::from_secs(10);
/// The header by which a client goes on where it was.
const LAST_EVENT_ID: &str = "last-event-id";

/// An event with this name and JSON.
pub fn event(name: &str, body: &impl Serialize) -> Event {
    let json = serde_json::to_string(body).expect("what is told to clients is always JSON");
    Event::default().event(name).data(json)
}

/// The last event of a stream that has nothing more to tell, and why.
pub fn trouble(code: &str, message: impl Into<String>) -> Event {
    let body = Trouble {
        code: code.to_owned(),
        message: message.into(),
    };
    event(event::ERROR, &body)
}

/// Where a client that was here before goes on.
pub fn last_event_id(headers: &HeaderMap) -> Option<&str> {
    headers.get(LAST_EVENT_ID).and_then(|id| id.to_str().ok())
}

/// Sends groups of events until they end or the server does.
pub fn respond(
    server: &Server,
    groups: impl Stream<Item = Vec<Event>> + Send + 'static,
) -> Result<Response, ApiError> {
    let permit = Arc::clone(&server.streams)
        .try_acquire_owned()
        .map_err(|_| ApiError::too_many("the server has too many open streams"))?;
    let stop = server.stop.clone();
    let events = groups
        .flat_map(|group| stream::iter(group.into_iter().map(Ok::<Event, Infallible>)))
        .take_until(async move { stop.cancelled().await })
        .map(move |event| {
            let _held = &permit;
            event
        });
    let alive = KeepAlive::new().interval(SIGN_OF_LIFE);
    Ok(Sse::new(events).keep_alive(alive).into_response())
}
