//! Sending prompts and model files to a server, as they are read and never whole in memory.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use anyhow::Context as _;
use futures_util::TryStreamExt;
use rbee_queue::ModelSha;
use rbee_scheduler::http::types::{PART_INPUT, PART_SPEC, SubmitSpec, Submitted};
use rbee_worker::model_files::Blob;
use reqwest::multipart::{Form, Part};
use reqwest::{Body, Method, StatusCode};
use tokio::io::AsyncRead;
use tokio_util::io::ReaderStream;

use super::Client;
use crate::failure::Failure;
use crate::output::DASH;
use crate::progress::ByteProgress;
use crate::talk::Talk;

/// Bytes of one piece of an upload.
const PIECE_BYTES: usize = 1 << 18;

/// The prompts of a submit: a file, or what comes through stdin.
pub struct Prompts {
    source: Box<dyn AsyncRead + Send + Sync + Unpin>,
    bytes: Option<u64>,
    name: String,
}

impl Prompts {
    /// Opens the file that `given` names; `-` is stdin.
    pub async fn open(given: &Path) -> Result<Prompts, Failure> {
        if given.as_os_str() == DASH {
            return Ok(Prompts {
                source: Box::new(tokio::io::stdin()),
                bytes: None,
                name: "stdin".to_owned(),
            });
        }
        let shown = given.display();
        let file = tokio::fs::File::open(given).await;
        let file = file.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Failure::usage(format!(
                "there is no file {shown}: check the path of the prompts"
            )),
            _ => {
                Failure::Program(anyhow::Error::new(error).context(format!("cannot read {shown}")))
            }
        })?;
        let found = file
            .metadata()
            .await
            .with_context(|| format!("cannot read {shown}"))?;
        if found.is_dir() {
            return Err(Failure::usage(format!(
                "{shown} is a directory: name a file of prompts"
            )));
        }
        let name = given.file_name().unwrap_or(given.as_os_str());
        Ok(Prompts {
            source: Box::new(file),
            bytes: found.is_file().then_some(found.len()),
            name: name.to_string_lossy().into_owned(),
        })
    }

    /// Prompts that were put together in a file without a name.
    pub fn gathered(file: std::fs::File, name: String) -> Prompts {
        Prompts {
            source: Box::new(tokio::fs::File::from_std(file)),
            bytes: None,
            name,
        }
    }

    /// What the batch is called in listings.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The prompts as they are read. Why reading ended early, if it did, is put into `failed`.
    pub(super) fn body(self, talk: &Talk, failed: Arc<Mutex<Option<io::Error>>>) -> Body {
        let label = format!("sending {}", self.name);
        let mut progress = ByteProgress::new(talk, &label, self.bytes.unwrap_or(0));
        let pieces = ReaderStream::with_capacity(self.source, PIECE_BYTES)
            .inspect_ok(move |piece| progress.advance(piece.len() as u64))
            .map_err(move |error| {
                let text = error.to_string();
                *failed.lock().expect("nothing panics while it holds this") = Some(error);
                io::Error::other(text)
            });
        Body::wrap_stream(pieces)
    }
}

/// Makes a batch of the prompts.
pub async fn submit(
    client: &Client,
    spec: &SubmitSpec,
    prompts: Prompts,
    talk: &Talk,
) -> Result<Submitted, Failure> {
    // A server that refuses the token would not read the prompts, and a client that still sends them may miss why.
    let first = client.asking(Method::GET, &["v1", "batches"], &[("limit", "1")]);
    client.send(first).await?;
    let spec = serde_json::to_string(spec).context("the flags cannot be sent")?;
    let failed = Arc::new(Mutex::new(None));
    let body = prompts.body(talk, Arc::clone(&failed));
    let form = Form::new()
        .part(PART_SPEC, Part::text(spec))
        .part(PART_INPUT, Part::stream(body));
    let request = client
        .request(Method::POST, &["v1", "batches"])
        .multipart(form);
    let sent = client.json(request).await;
    let failed = failed
        .lock()
        .expect("nothing panics while it holds this")
        .take();
    match failed {
        Some(error) => Err(Failure::from(
            anyhow::Error::new(error).context("cannot read the prompts"),
        )),
        None => sent,
    }
}

/// Sends a model's file, or the list of its files, to a server that lacks it.
pub async fn upload_blob(
    client: &Client,
    sha256: &ModelSha,
    blob: Blob,
    talk: &Talk,
) -> Result<(), Failure> {
    let name = sha256.to_hex();
    let route = ["v1", "models", "blobs", name.as_str()];
    let there = client.request(Method::HEAD, &route).send().await;
    let there = there.map_err(|error| client.broken(error))?.status();
    if there.is_success() {
        return Ok(());
    }
    if there != StatusCode::NOT_FOUND {
        // Asked again with a method whose refusal has words.
        client.send(client.request(Method::GET, &route)).await?;
    }
    let request = client.request(Method::PUT, &route);
    let request = match blob {
        Blob::Text(text) => request.body(text),
        Blob::File(path) => {
            let file = Prompts::open(&path).await?;
            let request = match file.bytes {
                Some(bytes) => request.header(reqwest::header::CONTENT_LENGTH, bytes),
                None => request,
            };
            request.body(file.body(talk, Arc::default()))
        }
    };
    client.send(request).await.map(drop)
}
