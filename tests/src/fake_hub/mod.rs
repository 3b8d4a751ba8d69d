//! A server that behaves like the model hub: its API, its `resolve` addresses with redirects to a CDN on another port,
//! ranges, entity tags, tokens and error headers; and that can be told to fail in the ways that networks do.
//!
//! It runs on its own thread, so that plain tests and tests of the binary can use it alike.

mod answer;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use axum::http::{HeaderMap, HeaderValue, header};
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
                    .fallback(answer::hub)
                    .with_state(for_thread.clone());
                let cdn_router = axum::Router::new()
                    .fallback(answer::cdn)
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
