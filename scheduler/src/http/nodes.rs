//! Nodes: listed, drained, asked for their logs.

use super::Server;
use super::auth::Admin;
use super::error::{ApiError, within};
use super::types::{Listing, NodeView};
use axum::Json;
use axum::extract::{Path, Query, State};
use rbee_queue::queue::Control;
use rbee_queue::{NodeInstance, NodeState, StoredNode};
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;

/// Lines of a log that are asked for where nothing is said.
const USUAL_LINES: usize = 100;
/// Lines of a log at most: a node's ring is bounded too.
const MAX_LINES: usize = 10_000;
/// How long a node may take to answer.
const ANSWER_PATIENCE: Duration = Duration::from_secs(10);

/// `GET /v1/nodes`: all of them, lost ones included, by name.
pub async fn list(State(server): State<Server>) -> Result<Json<Listing<NodeView>>, ApiError> {
    let nodes = server.batches.store().node_list().await?;
    let name = |node: Option<&StoredNode>| node.map(|node| node.report.name.clone());
    Ok(Json(Listing {
        object: "list".to_owned(),
        first_id: name(nodes.first()),
        last_id: name(nodes.last()),
        has_more: false,
        data: nodes.into_iter().map(NodeView::from).collect(),
    }))
}

/// `POST /v1/nodes/{name}/drain`.
pub async fn drain(
    State(server): State<Server>,
    _: Admin,
    Path(name): Path<String>,
) -> Result<Json<Value>, ApiError> {
    wish(&server, &name, true).await
}

/// `POST /v1/nodes/{name}/undrain`. The wish outlives its nodes, and can be taken back when they are gone.
pub async fn undrain(
    State(server): State<Server>,
    _: Admin,
    Path(name): Path<String>,
) -> Result<Json<Value>, ApiError> {
    wish(&server, &name, false).await
}

async fn wish(server: &Server, name: &str, drain: bool) -> Result<Json<Value>, ApiError> {
    let nodes = match drain {
        true => named(server, name).await?,
        false => known(server, name).await?,
    };
    server.batches.store().node_drain(name, drain).await?;
    if drain {
        for node in nodes.iter().filter(|node| is_there(node)) {
            // The wish is in the store, and the node hears of it with its next heartbeat at the latest.
            if let Err(error) = (server.batches.queue())
                .control(&node.instance, Control::Drain)
                .await
            {
                tracing::debug!(%error, "the node drains with its next heartbeat");
            }
        }
    }
    server.coordinator.wake();
    Ok(Json(
        json!({"name": name, "drain": drain, "nodes": nodes.len()}),
    ))
}

/// How much of a log is wanted.
#[derive(Debug, Deserialize)]
pub struct LogQuery {
    lines: Option<usize>,
}

/// How many lines that is.
pub(super) fn lines(query: &LogQuery) -> Result<usize, ApiError> {
    within("lines", query.lines, USUAL_LINES, 1..=MAX_LINES)
}

/// `GET /v1/nodes/{name}/logs`: the last lines of the node's log, as it keeps them.
pub async fn logs(
    State(server): State<Server>,
    _: Admin,
    Path(name): Path<String>,
    Query(query): Query<LogQuery>,
) -> Result<String, ApiError> {
    let nodes = named(&server, &name).await?;
    let node = (nodes.iter())
        .find(|node| is_there(node))
        .ok_or_else(|| ApiError::conflict("node_lost", format!("the node {name} is lost")))?;
    let ask = NodeInstance::generate().to_string();
    let lines = lines(&query)?;
    let queue = server.batches.queue();
    let message = Control::Logs {
        ask: ask.clone(),
        lines,
    };
    queue.control(&node.instance, message).await?;
    let answer = queue.answered(&ask, ANSWER_PATIENCE).await?;
    answer.ok_or_else(|| ApiError::no_answer(format!("the node {name} did not answer")))
}

async fn known(server: &Server, name: &str) -> Result<Vec<StoredNode>, ApiError> {
    let mut nodes = server.batches.store().node_list().await?;
    nodes.retain(|node| node.report.name == name);
    Ok(nodes)
}

async fn named(server: &Server, name: &str) -> Result<Vec<StoredNode>, ApiError> {
    let nodes = known(server, name).await?;
    if nodes.is_empty() {
        return Err(ApiError::not_found(format!(
            "there is no node {name:?}: `rbee nodes` shows those there are"
        )));
    }
    Ok(nodes)
}

fn is_there(node: &StoredNode) -> bool {
    node.state() != NodeState::Lost
}
