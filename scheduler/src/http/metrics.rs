//! `GET /metrics`: the server's figures in the text format of Prometheus.
//!
//! Counters count since the process began. Nodes have figures of their own at their faces; those of a node in this process
//! are told here.

use super::Server;
use super::activity::Sample;
use super::auth::SeesAll;
use super::error::ApiError;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::Registry;
use rbee_queue::NodeState;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The format's name for content negotiation.
const FORMAT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Kinds of answers, by the first digit of their status.
const KINDS: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// Answers since the process began, by kind.
#[derive(Debug, Default)]
pub struct Answers([AtomicU64; KINDS.len()]);

impl Answers {
    fn count(&self, status: StatusCode) {
        let kind = usize::from(status.as_u16() / 100).saturating_sub(1);
        if let Some(count) = self.0.get(kind) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Puts the figures of this process's own node into a registry.
pub type NodeFigures = Arc<dyn Fn(&mut Registry) + Send + Sync>;

/// Counts each answer.
pub async fn count(State(server): State<Server>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    server.answers.count(response.status());
    response
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByState {
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByStatus {
    status: &'static str,
}

/// Tells them.
pub async fn metrics(State(server): State<Server>, _: SeesAll) -> Result<Response, ApiError> {
    let registry = registry(&server).await?;
    let mut text = String::new();
    encode(&mut text, &registry)
        .map_err(|error| ApiError::internal(format!("the figures cannot be told: {error}")))?;
    Ok(([(header::CONTENT_TYPE, FORMAT)], text).into_response())
}

async fn registry(server: &Server) -> Result<Registry, ApiError> {
    let store = server.batches.store();
    let sample = Sample::take(store.as_ref()).await?;
    let status = server.coordinator.status().borrow().clone();
    let mut registry = Registry::with_prefix("rbee");
    let gauges = [
        (
            "batches_open",
            "Batches that are not at their end",
            sample.batches as i64,
        ),
        (
            "jobs_unfinished",
            "Jobs without a result",
            sample.unfinished as i64,
        ),
        (
            "jobs_running",
            "Jobs that nodes have taken",
            sample.running as i64,
        ),
        (
            "jobs_waiting",
            "Jobs that wait for a place, as the leader saw them, counted up to a limit a model",
            status.waiting as i64,
        ),
        (
            "models_held",
            "Models whose jobs got no place at the last look",
            status.holds.len() as i64,
        ),
        (
            "leading",
            "1 where this server leads",
            i64::from(status.leading),
        ),
        (
            "term",
            "The number of the last lead of this server",
            status.term as i64,
        ),
    ];
    for (name, help, value) in gauges {
        registry.register(name, help, ConstGauge::new(value));
    }
    registry.register(
        "generated_tokens_per_second",
        "Generated tokens a second of all models that run, as nodes measured them last",
        ConstGauge::new(sample.tokens_per_s),
    );
    let counters = [
        ("jobs_placed", "Jobs given to nodes", status.placed),
        (
            "jobs_unplaceable",
            "Jobs failed since no node can run them",
            status.failed,
        ),
        (
            "model_loads_wished",
            "Loads that nodes were asked for",
            status.loads,
        ),
        ("node_leases_lost", "Nodes whose lease ended", status.lost),
        (
            "jobs_released",
            "Jobs queued again since their node was lost",
            status.released,
        ),
        (
            "jobs_restored",
            "Jobs given again since an inbox had lost them",
            status.restored,
        ),
    ];
    for (name, help, value) in counters {
        registry.register(name, help, ConstCounter::new(value));
    }
    let nodes = Family::<ByState, Gauge>::default();
    for state in [
        NodeState::Starting,
        NodeState::Ready,
        NodeState::Busy,
        NodeState::Draining,
        NodeState::Lost,
    ] {
        nodes.get_or_create(&ByState { state: word(state) }).set(0);
    }
    for node in store.node_list().await? {
        nodes
            .get_or_create(&ByState {
                state: word(node.state()),
            })
            .inc();
    }
    registry.register("nodes", "Nodes by state", nodes);
    let answers = Family::<ByStatus, Counter>::default();
    for (status, count) in KINDS.into_iter().zip(&server.answers.0) {
        answers
            .get_or_create(&ByStatus { status })
            .inc_by(count.load(Ordering::Relaxed));
    }
    if let Some(figures) = &server.own_node {
        figures(registry.sub_registry_with_prefix("node"));
    }
    registry.register(
        "http_responses",
        "Answers by the kind of their status",
        answers,
    );
    Ok(registry)
}

fn word(state: NodeState) -> &'static str {
    match state {
        NodeState::Starting => "starting",
        NodeState::Ready => "ready",
        NodeState::Busy => "busy",
        NodeState::Draining => "draining",
        NodeState::Lost => "lost",
    }
}
