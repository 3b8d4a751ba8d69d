//! A server that behaves like the model hub: its API, its `resolve` addresses with redirects to a CDN on another port,
//! ranges, entity tags, tokens and error headers; and that can be told to fail in the ways that networks do.
//!
//! It runs on its own thread, so that plain tests and tests of the binary can use it alike.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use futures_util::stream;
use serde_json::json;
use sha1::Sha1;
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};

/// The commit of every repository of the fake.
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
/// Bytes in one piece of a body.
const PIECE: usize = 4 << 10;

/// One way of failing, for one answer.
#[derive(Clone, Debug)]
pub enum Fault {
    /// The connection breaks after so many bytes of the answer's body.
    CutAfter(usize),
    /// The byte at this place of the file comes with a bit turned over.
    Flip(usize),
    /// The answer has this status, and `Retry-After` if given.
    Status(u16, Option<u32>),
    /// The answer claims, and has, only so many bytes of the file.
    Short(usize),
    /// A range is asked for and the whole file comes.
    IgnoreRange,
    /// The part that is asked for comes, and it is another one.
    WrongRange,
}

/// A request that came, for asserting on.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Whether it came to the CDN's port and not the hub's.
    pub cdn: bool,
    pub path: String,
    pub authorization: Option<String>,
    pub range: Option<String>,
    pub if_range: Option<String>,
}

/// The running server; it stops when dropped.
pub struct FakeHub {
    shared: Arc<Shared>,
    hub_port: u16,
    /// Dropping it ends the server's runtime.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

struct Shared {
    state: Mutex<Inner>,
    /// While true, the CDN keeps its answers back.
    held: watch::Sender<bool>,
    cdn_port: Mutex<u16>,
}

#[derive(Default)]
struct Inner {
    repos: HashMap<String, Repo>,
    tokens: Vec<String>,
    faults: HashMap<String, VecDeque<Fault>>,
    seen: Vec<Seen>,
    served: HashMap<String, u64>,
    /// Part of every entity tag; another generation is another file to `If-Range`.
    generation: u32,
}

#[derive(Default)]
struct Repo {
    gated: bool,
    files: Vec<(String, Arc<Vec<u8>>, bool)>,
    /// Entries of the listing that have no file behind them.
    extra_siblings: Vec<serde_json::Value>,
}

impl FakeHub {
    /// Starts the hub and its CDN on free ports.
    ///
    /// # Panics
    /// When the machine gives no port or thread.
    pub fn start() -> FakeHub {
        let (held, _) = watch::channel(false);
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            held,
            cdn_port: Mutex::new(0),
        });
        let (ports_sender, ports) = std::sync::mpsc::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let for_thread = shared.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async move {
                let hub = TcpListener::bind("127.0.0.1:0")
                    .await
                    .expect("a port for the hub");
                let cdn = TcpListener::bind("127.0.0.1:0")
                    .await
                    .expect("a port for the CDN");
                let port =
                    |listener: &TcpListener| listener.local_addr().expect("a bound address").port();
                *for_thread.cdn_port.lock().expect("no panic under the lock") = port(&cdn);
                ports_sender.send(port(&hub)).expect("the starter waits");
                let hub_router = axum::Router::new()
                    .fallback(answer_hub)
                    .with_state(for_thread.clone());
                let cdn_router = axum::Router::new()
                    .fallback(answer_cdn)
                    .with_state(for_thread);
                tokio::select! {
                    _ = axum::serve(hub, hub_router) => {}
                    _ = axum::serve(cdn, cdn_router) => {}
                    _ = stopped => {}
                }
            });
        });
        let hub_port = ports.recv().expect("the server starts");
        FakeHub {
            shared,
            hub_port,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// What `HF_ENDPOINT` is set to.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.hub_port)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.shared.state.lock().expect("no panic under the lock")
    }

    /// Adds a file in large-file storage: listed with its sha256, served by the CDN.
    pub fn add_large(&self, repo: &str, path: &str, content: impl Into<Vec<u8>>) {
        self.add(repo, path, content.into(), true);
    }

    /// Adds a file that is in git itself: listed with its object id, served by the hub.
    pub fn add_small(&self, repo: &str, path: &str, content: impl Into<Vec<u8>>) {
        self.add(repo, path, content.into(), false);
    }

    fn add(&self, repo: &str, path: &str, content: Vec<u8>, large: bool) {
        let mut inner = self.inner();
        let files = &mut inner.repos.entry(repo.to_owned()).or_default().files;
        files.retain(|(existing, _, _)| existing != path);
        files.push((path.to_owned(), Arc::new(content), large));
    }

    /// Adds an entry to a repository's listing as it stands.
    pub fn add_sibling(&self, repo: &str, sibling: serde_json::Value) {
        self.inner()
            .repos
            .entry(repo.to_owned())
            .or_default()
            .extra_siblings
            .push(sibling);
    }

    /// Only accepted tokens may read the repository.
    pub fn gate(&self, repo: &str) {
        self.inner().repos.entry(repo.to_owned()).or_default().gated = true;
    }

    pub fn accept_token(&self, token: &str) {
        self.inner().tokens.push(token.to_owned());
    }

    /// The next answer for the file at `path`, or for the API (`"api"`), fails so. Several are used up in order.
    pub fn fail(&self, path: &str, fault: Fault) {
        self.inner()
            .faults
            .entry(path.to_owned())
            .or_default()
            .push_back(fault);
    }

    /// From now on every file has another entity tag.
    pub fn change_etags(&self) {
        self.inner().generation += 1;
    }

    /// Keeps the CDN's answers back until [`FakeHub::release`].
    pub fn hold(&self) {
        self.shared.held.send_replace(true);
    }

    pub fn release(&self) {
        self.shared.held.send_replace(false);
    }

    /// Bytes of the file that were sent, over all answers.
    pub fn bytes_served(&self, path: &str) -> u64 {
        self.inner().served.get(path).copied().unwrap_or(0)
    }

    /// All requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.inner().seen.clone()
    }
}

impl Drop for FakeHub {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the server's thread has printed itself already.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.state.lock().expect("no panic under the lock")
    }

    fn note(&self, cdn: bool, path: &str, headers: &HeaderMap) {
        let text = |name| {
            headers
                .get(name)
                .and_then(|value: &HeaderValue| value.to_str().ok())
                .map(str::to_owned)
        };
        self.inner().seen.push(Seen {
            cdn,
            path: path.to_owned(),
            authorization: text(header::AUTHORIZATION),
            range: text(header::RANGE),
            if_range: text(header::IF_RANGE),
        });
    }

    fn take_fault(&self, path: &str) -> Option<Fault> {
        self.inner().faults.get_mut(path)?.pop_front()
    }
}

fn refuse(status: StatusCode, code: &str) -> Response<Body> {
    let mut response = Response::new(Body::from(format!("{{\"error\":\"{code}\"}}")));
    *response.status_mut() = status;
    if !code.is_empty() {
        response.headers_mut().insert(
            "x-error-code",
            HeaderValue::from_str(code).expect("a plain code"),
        );
    }
    response
}

fn status_fault(status: u16, retry_after: Option<u32>) -> Response<Body> {
    let mut response = refuse(StatusCode::from_u16(status).expect("a valid status"), "");
    if let Some(seconds) = retry_after {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// What the hub says to who asks for a repository; `Ok` when they may read it.
fn authorise(inner: &Inner, repo: &str, headers: &HeaderMap) -> Result<(), Response<Body>> {
    let token = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    let token = token.map(|value| value.trim_start_matches("Bearer ").to_owned());
    let known = token
        .as_ref()
        .is_some_and(|token| inner.tokens.contains(token));
    if token.is_some() && !known {
        return Err(refuse(StatusCode::UNAUTHORIZED, ""));
    }
    match inner.repos.get(repo) {
        None if known => Err(refuse(StatusCode::NOT_FOUND, "RepoNotFound")),
        // The hub does not tell strangers which private repositories exist.
        None => Err(refuse(StatusCode::UNAUTHORIZED, "RepoNotFound")),
        Some(repo) if repo.gated && !known => Err(refuse(StatusCode::UNAUTHORIZED, "GatedRepo")),
        Some(_) => Ok(()),
    }
}

async fn answer_hub(State(shared): State<Arc<Shared>>, request: Request) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let headers = request.headers().clone();
    shared.note(false, &path, &headers);
    let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    match segments.as_slice() {
        ["api", "models", org, name, "revision", revision] => {
            list(&shared, &format!("{org}/{name}"), revision, &headers)
        }
        [org, name, "resolve", revision, file @ ..] => resolve(
            &shared,
            &format!("{org}/{name}"),
            revision,
            &file.join("/"),
            &headers,
        ),
        _ => refuse(StatusCode::NOT_FOUND, ""),
    }
}

fn known_revision(revision: &str) -> bool {
    revision == "main" || revision == COMMIT
}

fn list(shared: &Shared, repo: &str, revision: &str, headers: &HeaderMap) -> Response<Body> {
    if let Some(Fault::Status(status, retry_after)) = shared.take_fault("api") {
        return status_fault(status, retry_after);
    }
    let inner = shared.inner();
    if let Err(refusal) = authorise(&inner, repo, headers) {
        return refusal;
    }
    if !known_revision(revision) {
        return refuse(StatusCode::NOT_FOUND, "RevisionNotFound");
    }
    let repo_files = &inner.repos[repo];
    let mut siblings = repo_files.extra_siblings.clone();
    for (path, content, large) in &repo_files.files {
        let mut sibling =
            json!({"rfilename": path, "size": content.len(), "blobId": git_oid(content)});
        if *large {
            let sha256 = hex::encode(Sha256::digest(content.as_slice()));
            sibling["lfs"] = json!({"sha256": sha256, "size": content.len(), "pointerSize": 134});
        }
        siblings.push(sibling);
    }
    let body = json!({"id": repo, "sha": COMMIT, "gated": false, "siblings": siblings});
    Response::new(Body::from(body.to_string()))
}

fn git_oid(content: &[u8]) -> String {
    let mut hasher = Sha1::new();
    hasher.update(format!("blob {}\0", content.len()));
    hasher.update(content);
    hex::encode(hasher.finalize())
}

fn resolve(
    shared: &Arc<Shared>,
    repo: &str,
    revision: &str,
    path: &str,
    headers: &HeaderMap,
) -> Response<Body> {
    let (content, large, generation) = {
        let inner = shared.inner();
        if let Err(refusal) = authorise(&inner, repo, headers) {
            return refusal;
        }
        if !known_revision(revision) {
            return refuse(StatusCode::NOT_FOUND, "RevisionNotFound");
        }
        let Some((_, content, large)) = inner.repos[repo]
            .files
            .iter()
            .find(|(name, _, _)| name == path)
        else {
            return refuse(StatusCode::NOT_FOUND, "EntryNotFound");
        };
        (content.clone(), *large, inner.generation)
    };
    if !large {
        return serve_file(shared, path, &content, generation, headers);
    }
    let port = *shared.cdn_port.lock().expect("no panic under the lock");
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::FOUND;
    let location = format!("http://127.0.0.1:{port}/{repo}/{path}?signature=secret");
    let fields = response.headers_mut();
    fields.insert(
        header::LOCATION,
        HeaderValue::from_str(&location).expect("a plain address"),
    );
    fields.insert("x-repo-commit", HeaderValue::from_static(COMMIT));
    fields.insert("x-linked-size", HeaderValue::from(content.len()));
    let etag = format!("\"{}\"", hex::encode(Sha256::digest(content.as_slice())));
    fields.insert(
        "x-linked-etag",
        HeaderValue::from_str(&etag).expect("hex digits"),
    );
    response
}

async fn answer_cdn(State(shared): State<Arc<Shared>>, request: Request) -> Response<Body> {
    let path = request.uri().path().trim_start_matches('/').to_owned();
    let headers = request.headers().clone();
    shared.note(true, &path, &headers);
    // As storage does that has signed addresses: two kinds of credentials are an error.
    if headers.contains_key(header::AUTHORIZATION) {
        return refuse(StatusCode::BAD_REQUEST, "");
    }
    if request.uri().query() != Some("signature=secret") {
        return refuse(StatusCode::FORBIDDEN, "");
    }
    let mut held = shared.held.subscribe();
    // The sender lives as long as the server.
    let _ = held.wait_for(|held| !held).await;
    let mut parts = path.splitn(3, '/');
    let (org, name, file) = (
        parts.next().unwrap_or(""),
        parts.next().unwrap_or(""),
        parts.next().unwrap_or("").to_owned(),
    );
    let found = {
        let inner = shared.inner();
        let repo = inner.repos.get(&format!("{org}/{name}"));
        let found = repo.and_then(|repo| repo.files.iter().find(|(path, _, _)| *path == file));
        found.map(|(_, content, _)| (content.clone(), inner.generation))
    };
    match found {
        Some((content, generation)) => serve_file(&shared, &file, &content, generation, &headers),
        None => refuse(StatusCode::NOT_FOUND, ""),
    }
}

fn serve_file(
    shared: &Arc<Shared>,
    path: &str,
    content: &Arc<Vec<u8>>,
    generation: u32,
    headers: &HeaderMap,
) -> Response<Body> {
    let fault = shared.take_fault(path);
    if let Some(Fault::Status(status, retry_after)) = fault {
        return status_fault(status, retry_after);
    }
    let mut bytes = content.as_ref().clone();
    match fault {
        Some(Fault::Flip(at)) => bytes[at] ^= 1,
        Some(Fault::Short(len)) => bytes.truncate(len),
        _ => {}
    }
    let etag = format!("\"{}-{generation}\"", git_oid(content));
    let range = wanted_range(headers, &etag).filter(|_| !matches!(fault, Some(Fault::IgnoreRange)));
    let total = bytes.len();
    if range.is_some_and(|start| start >= total) {
        let mut response = refuse(StatusCode::RANGE_NOT_SATISFIABLE, "");
        let field = HeaderValue::from_str(&format!("bytes */{total}")).expect("digits");
        response.headers_mut().insert(header::CONTENT_RANGE, field);
        return response;
    }
    let start = match (range, &fault) {
        (Some(start), Some(Fault::WrongRange)) => start.saturating_sub(1),
        (start, _) => start.unwrap_or(0),
    };
    let cut = match fault {
        Some(Fault::CutAfter(len)) => Some(len),
        _ => None,
    };
    let mut response = Response::new(body(shared, path, bytes.split_off(start), cut));
    let fields = response.headers_mut();
    fields.insert(
        header::ETAG,
        HeaderValue::from_str(&etag).expect("a plain tag"),
    );
    fields.insert(header::CONTENT_LENGTH, HeaderValue::from(total - start));
    if range.is_some() {
        let field = format!("bytes {start}-{}/{total}", total - 1);
        fields.insert(
            header::CONTENT_RANGE,
            HeaderValue::from_str(&field).expect("digits"),
        );
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    response
}

/// Where the asked range begins; `None` for the whole file, also when `If-Range` names another file.
fn wanted_range(headers: &HeaderMap, etag: &str) -> Option<usize> {
    let range = headers.get(header::RANGE)?.to_str().ok()?;
    let start = range
        .strip_prefix("bytes=")?
        .strip_suffix('-')?
        .parse()
        .ok()?;
    let same = headers
        .get(header::IF_RANGE)
        .is_none_or(|value| value.as_bytes() == etag.as_bytes());
    same.then_some(start)
}

/// A body in pieces that counts what is sent, and breaks off after `cut` bytes.
fn body(shared: &Arc<Shared>, path: &str, bytes: Vec<u8>, cut: Option<usize>) -> Body {
    let (shared, path) = (shared.clone(), path.to_owned());
    let end = cut.map_or(bytes.len(), |cut| cut.min(bytes.len()));
    let breaks = cut.is_some();
    let bytes = Bytes::from(bytes);
    let pieces = stream::unfold(0, move |sent| {
        let (shared, path, bytes) = (shared.clone(), path.clone(), bytes.clone());
        async move {
            // Lets the connection write out what it has before the next piece, or the break, comes.
            tokio::task::yield_now().await;
            if sent >= end {
                return breaks.then(|| (Err(std::io::Error::other("cut")), usize::MAX));
            }
            let piece = bytes.slice(sent..(sent + PIECE).min(end));
            *shared.inner().served.entry(path).or_default() += piece.len() as u64;
            let next = sent + piece.len();
            Some((Ok(piece), next))
        }
    });
    Body::from_stream(pieces)
}
