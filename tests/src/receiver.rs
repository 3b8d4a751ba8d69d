//! A receiver of webhooks: answers as it is told to, and keeps what it was sent.

use crate::listening;
use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value as Json;
use sha2::Sha256;

/// One request.
#[derive(Clone, Debug)]
pub struct Received {
    pub id: String,
    pub timestamp: String,
    pub signature: String,
    pub body: Vec<u8>,
}

impl Received {
    /// Whether the signature is that of this key.
    pub fn is_signed_with(&self, key: &[u8]) -> bool {
        let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes any key");
        mac.update(format!("{}.{}.", self.id, self.timestamp).as_bytes());
        mac.update(&self.body);
        let right = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
        self.signature == right
    }

    /// The body as JSON.
    pub fn json(&self) -> Json {
        serde_json::from_slice(&self.body).expect("a webhook's body is JSON")
    }
}

#[derive(Default)]
struct Kept {
    failures: usize,
    received: Vec<Received>,
}

/// A receiver that listens until the test ends.
pub struct Receiver {
    pub url: String,
    kept: Arc<Mutex<Kept>>,
}

impl Receiver {
    /// Starts one that fails so often before it answers with success.
    pub fn failing(failures: usize) -> Receiver {
        let kept = Arc::new(Mutex::new(Kept {
            failures,
            ..Kept::default()
        }));
        let router = axum::Router::new()
            .route("/done", post(receive))
            .with_state(Arc::clone(&kept));
        let address = listening::until_the_end(router);
        Receiver {
            url: format!("http://{address}/done"),
            kept,
        }
    }

    /// What it was sent so far.
    pub fn received(&self) -> Vec<Received> {
        self.kept.lock().expect("no test panics").received.clone()
    }
}

async fn receive(
    State(kept): State<Arc<Mutex<Kept>>>,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    let header = |name: &str| {
        let value = headers.get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default().to_owned()
    };
    let mut kept = kept.lock().expect("no test panics");
    kept.received.push(Received {
        id: header("webhook-id"),
        timestamp: header("webhook-timestamp"),
        signature: header("webhook-signature"),
        body: body.to_vec(),
    });
    if kept.received.len() <= kept.failures {
        return StatusCode::SERVICE_UNAVAILABLE;
    }
    StatusCode::OK
}
