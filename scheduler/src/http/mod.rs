//! The HTTP API of `rbee serve`.
//!
//! Owns routes, their JSON, who may call them and how much at once. What the routes do is done by store, queue and
//! `Batches`; models are known through a trait, since their files are the worker's.
//!
//! | route | file |
//! |---|---|
//! | `POST /v1/batches` | `submit`, `openai` |
//! | `/v1/chat/completions`, `/v1/completions`, `/v1/embeddings`, `/v1/models`, `/v1/files` | `openai` |
//! | `GET /v1/batches`, `GET`, `DELETE /v1/batches/{id}`, `…/cancel`, `…/pause`, `…/resume`, `…/retry` | `batches` |
//! | `GET /v1/batches/{id}/results` | `results` |
//! | `GET /v1/batches/{id}/events` | `events`, `running_text` |
//! | `GET /v1/batches/{id}/jobs/{index}`, `…/events` | `jobs` |
//! | `POST /v1/infer` | `infer`, `interactive` |
//! | `GET /v1/batches/{id}/jobs` | `kept` |
//! | `GET /v1/nodes`, `…/drain`, `…/undrain`, `…/logs` | `nodes` |
//! | `GET`, `HEAD`, `PUT /v1/models/blobs/{sha}` | `blobs` |
//! | `GET`, `POST /v1/schedules`, `GET`, `DELETE /v1/schedules/{id}`, `…/pause`, `…/resume`, `…/run`, `…/runs`, `…/calendar` | `schedules` |
//! | `GET /v1/logs` | `logs` |
//! | `GET`, `POST /v1/tokens`, `DELETE /v1/tokens/{id}`, `POST /v1/tokens/links` | `tokens` |
//! | `/login`, `/logout` | `login` |
//! | `GET /v1/activity` | `activity` |
//! | `GET /metrics` | `metrics` |
//! | `/`, `/assets/{name}` | `dashboard` |
//! | `/health`, `/ready` | `health` |
//! | `/openapi.json`, `/docs` | `document` |

pub mod activity;
pub mod auth;
mod batches;
mod blobs;
mod connections;
mod dashboard;
mod document;
mod error;
pub mod error_kinds;
mod events;
pub mod find;
mod health;
mod infer;
mod interactive;
mod jobs;
mod kept;
mod layers;
mod leftover;
mod login;
mod logs;
mod metrics;
mod nodes;
mod openai;
mod plain_words;
mod pressure;
mod results;
mod running_text;
mod schedules;
pub(crate) mod spool;
mod sse;
mod stalled;
mod submit;
mod tokens;
mod traced;
pub mod types;

pub use auth::{Auth, AuthError, Caller};
pub use error::ApiError;
pub use metrics::NodeFigures;

use crate::coordinator::CoordinatorHandle;
use crate::live::{LiveBatches, LiveJobs};
use activity::Activity;
use async_trait::async_trait;
use auth::TokenUses;
use axum::extract::DefaultBodyLimit;
use axum::routing::{delete, get, post};
use axum::{Router, middleware};
use metrics::Answers;
use pressure::Pressure;
use rbee_queue::store::KnownTokens;
use rbee_queue::{Batches, ModelSha};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// Whose the batches are that come through the API.
pub const OWNER: &str = "serve";

/// Uploads that may run at once: each has a file, a thread and a load into the store.
const MAX_UPLOADS: usize = 8;
/// How long a client may be silent in the middle of an upload.
const UPLOAD_SILENCE: Duration = Duration::from_secs(60);
/// Streams that may be open at once.
const MAX_STREAMS: usize = 16_384;
/// How long open requests may take to end when the server stops.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// What a model's name leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The model.
    pub sha256: ModelSha,
    /// The revision that the name resolved to, where there is one.
    pub revision: Option<String>,
}

/// Why a model's name leads nowhere.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ResolveError {
    /// What is wrong.
    pub message: String,
    /// It may go later: the source cannot be reached.
    pub transient: bool,
}

/// A name under which requests reach a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedModel {
    /// The name.
    pub name: String,
    /// The model.
    pub sha256: ModelSha,
    /// Its files are on this server's disk.
    pub here: bool,
}

/// What a digest stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelBlob {
    /// A model's file.
    File(PathBuf),
    /// The list of a model's files.
    Text(String),
}

/// The models that this server knows of.
#[async_trait]
pub trait Models: Send + Sync {
    /// What a name leads to.
    async fn resolve(&self, name: &str) -> Result<Resolved, ResolveError>;

    /// The names that are known without asking anybody. It is called on a thread that may block.
    fn names(&self) -> Vec<NamedModel>;

    /// What lies under this digest, if it is here. It is called on a thread that may block.
    fn blob(&self, sha256: &ModelSha) -> Option<ModelBlob>;

    /// The directory in which uploads grow: on one file system with where they end.
    fn uploads(&self) -> std::io::Result<PathBuf>;

    /// Keeps a whole and verified file.
    fn keep(&self, sha256: &ModelSha, file: tempfile::NamedTempFile) -> std::io::Result<()>;
}

/// Gives the last lines of this process's log, at most so many.
pub type LogTail = Arc<dyn Fn(usize) -> String + Send + Sync>;

/// What the API stands on.
pub struct ApiParts {
    /// Store and queue.
    pub batches: Batches,
    /// The models.
    pub models: Arc<dyn Models>,
    /// Who may speak to it.
    pub auth: Auth,
    /// A private directory for uploads that are looked at.
    pub spool: PathBuf,
    /// The coordinator of this process, which may or may not lead.
    pub coordinator: CoordinatorHandle,
    /// The model of a request that names none.
    pub usual_model: String,
    /// Today's date, `YYYY-MM-DD`, for the templates of single requests.
    pub today: fn() -> String,
    /// The end of this process's log.
    pub logs: LogTail,
    /// Jobs that may wait or run at once.
    pub max_jobs: u64,
    /// The figures of the node in this process, if there is one.
    pub own_node: Option<NodeFigures>,
}

/// The API's state; cheap to clone.
#[derive(Clone)]
pub struct Server(Arc<Inner>);

/// What all requests share.
pub struct Inner {
    batches: Batches,
    models: Arc<dyn Models>,
    auth: Auth,
    known_tokens: KnownTokens,
    token_uses: TokenUses,
    activity: Activity,
    answers: Answers,
    spool: PathBuf,
    coordinator: CoordinatorHandle,
    logs: LogTail,
    uploads: Arc<Semaphore>,
    usual_model: String,
    today: fn() -> String,
    pressure: Pressure,
    /// Unix seconds.
    started_s: i64,
    streams: Arc<Semaphore>,
    live_batches: LiveBatches,
    live_jobs: LiveJobs,
    own_node: Option<NodeFigures>,
    stop: CancellationToken,
}

impl std::ops::Deref for Server {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl Server {
    fn new(parts: ApiParts, stop: CancellationToken) -> Server {
        Server(Arc::new(Inner {
            live_batches: LiveBatches::new(parts.batches.clone()),
            live_jobs: LiveJobs::new(parts.batches.clone()),
            known_tokens: KnownTokens::new(Arc::clone(parts.batches.store())),
            token_uses: TokenUses::default(),
            activity: Activity::default(),
            answers: Answers::default(),
            batches: parts.batches,
            models: parts.models,
            auth: parts.auth,
            spool: parts.spool,
            coordinator: parts.coordinator,
            usual_model: parts.usual_model,
            today: parts.today,
            logs: parts.logs,
            own_node: parts.own_node,
            pressure: Pressure::new(parts.max_jobs),
            started_s: chrono::DateTime::<chrono::Utc>::from(SystemTime::now()).timestamp(),
            uploads: Arc::new(Semaphore::new(MAX_UPLOADS)),
            streams: Arc::new(Semaphore::new(MAX_STREAMS)),
            stop,
        }))
    }
}

/// Answers requests on a listener until `stop`; then requests that run get a while to end.
pub async fn serve(listener: TcpListener, parts: ApiParts, stop: CancellationToken) {
    let server = Server::new(parts, stop.clone());
    tokio::spawn(activity::look_on(server.clone(), stop.clone()));
    let router = router(server);
    tokio::select! {
        () = connections::serve(listener, router, stop.clone()) => {}
        () = async {
            stop.cancelled().await;
            tokio::time::sleep(STOP_PATIENCE).await;
        } => tracing::warn!("some requests did not end and are cut off"),
    }
}

fn router(server: Server) -> Router {
    let admit = middleware::from_fn_with_state(server.clone(), pressure::admit);
    let short = Router::new()
        .route("/v1/batches", get(batches::list))
        .route(
            "/v1/batches/{id}",
            get(batches::show).delete(batches::purge),
        )
        .route("/v1/batches/{id}/jobs/{index}", get(jobs::show))
        .route("/v1/batches/{id}/cancel", post(batches::cancel))
        .route("/v1/batches/{id}/pause", post(batches::pause))
        .route("/v1/batches/{id}/resume", post(batches::resume))
        .route("/v1/batches/{id}/retry", post(batches::retry))
        .route("/v1/batches/{id}/jobs", get(kept::jobs))
        .route("/v1/schedules", get(schedules::list))
        .route("/v1/schedules/calendar", get(schedules::calendar))
        .route(
            "/v1/schedules/{id}",
            get(schedules::show).delete(schedules::remove),
        )
        .route("/v1/schedules/{id}/pause", post(schedules::pause))
        .route("/v1/schedules/{id}/resume", post(schedules::resume))
        .route("/v1/schedules/{id}/run", post(schedules::run))
        .route("/v1/schedules/{id}/runs", get(schedules::runs))
        .route("/v1/logs", get(logs::logs))
        .route("/v1/models", get(openai::list_models))
        .route("/v1/models/{*id}", get(openai::show_model))
        .route("/v1/files", get(openai::list))
        .route("/v1/files/{id}", get(openai::show).delete(openai::remove))
        .route("/v1/nodes", get(nodes::list))
        .route("/v1/nodes/{name}/drain", post(nodes::drain))
        .route("/v1/nodes/{name}/undrain", post(nodes::undrain))
        .route("/v1/nodes/{name}/logs", get(nodes::logs))
        .route("/v1/tokens", get(tokens::list).post(tokens::create))
        .route("/v1/tokens/self", get(tokens::own))
        .route("/v1/tokens/{id}", delete(tokens::revoke))
        .route("/v1/tokens/links", post(tokens::link))
        .route(login::PATH, get(login::show).post(login::enter))
        .route("/logout", post(login::leave))
        .route("/v1/activity", get(activity::activity))
        .route("/metrics", get(metrics::metrics))
        .route("/", get(dashboard::index))
        .route("/assets/{name}", get(dashboard::asset))
        .route("/health", get(health::health))
        .route("/ready", get(health::ready));
    let long = Router::new()
        .route("/v1/batches", post(submit::create).layer(admit.clone()))
        .route("/v1/files", post(openai::upload))
        .route("/v1/files/{id}/content", get(openai::content))
        .route("/v1/schedules", post(schedules::add))
        .route("/v1/batches/{id}/results", get(results::results))
        .route("/v1/batches/{id}/events", get(events::events))
        .route("/v1/batches/{id}/jobs/{index}/events", get(jobs::events))
        .route(
            "/v1/models/blobs/{sha}",
            get(blobs::get).head(blobs::head).put(blobs::put),
        )
        .layer(DefaultBodyLimit::disable());
    // Whoever waits here for an answer takes nobody else's turn.
    let asked = Router::new()
        .route("/v1/infer", post(infer::infer))
        .route("/v1/chat/completions", post(openai::chat_completions))
        .route("/v1/completions", post(openai::completions))
        .route("/v1/embeddings", post(openai::embeddings))
        .layer(admit)
        .layer(DefaultBodyLimit::disable());
    let short = short.merge(document::routes());
    let all = layers::limited(layers::timed(short).merge(long), layers::MAX_REQUESTS)
        .merge(layers::limited(asked, layers::MAX_ASKED))
        .fallback(health::no_such_route)
        .method_not_allowed_fallback(health::wrong_method);
    layers::around(all, server.clone()).with_state(server)
}

#[cfg(test)]
mod tests;
