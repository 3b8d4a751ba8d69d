//! What a client still sends when it has been refused already.
//!
//! A connection that is closed with bytes unread is reset, and a client that cannot go on sending never reads why it was
//! refused. So the rest of a refused request is read and thrown away, as far as that is bearable.

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::Response;
use hyper::body::{Frame, SizeHint};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

/// Bytes that are read for whoever showed a token, and for strangers.
const MAX_BYTES: usize = 1 << 30;
const MAX_BYTES_OF_STRANGERS: usize = 16 << 20;
/// How long a client may be silent meanwhile.
const SILENCE: Duration = Duration::from_secs(10);

/// Reads the rest of requests that are refused.
pub async fn read_rest(request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let shared = Shared(Arc::new(Mutex::new(body)));
    let body = Body::new(shared.clone());
    let response = next.run(Request::from_parts(parts, body)).await;
    let status = response.status();
    if status.is_client_error() || status.is_server_error() {
        let most = match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => MAX_BYTES_OF_STRANGERS,
            _ => MAX_BYTES,
        };
        shared.drain(most).await;
    }
    response
}

/// A request's body, which outlives the handler that reads it.
#[derive(Clone)]
struct Shared(Arc<Mutex<Body>>);

impl Shared {
    fn body(&self) -> MutexGuard<'_, Body> {
        // A panic of a handler leaves the body as it was.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn drain(&self, most: usize) {
        let mut read = 0;
        while read <= most {
            let frame = poll_fn(|context| Pin::new(&mut *self.body()).poll_frame(context));
            match tokio::time::timeout(SILENCE, frame).await {
                Ok(Some(Ok(frame))) => read += frame.data_ref().map_or(0, Bytes::len),
                Ok(None | Some(Err(_))) | Err(_) => return,
            }
        }
    }
}

impl HttpBody for Shared {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut *self.body()).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body().is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body().size_hint()
    }
}
