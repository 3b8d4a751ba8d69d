//! Whether a node is there, as the server sees it.

use std::time::{Duration, Instant};

use rbee_queue::NodeState;
use rbee_scheduler::http::types::{Listing, NodeView};
use reqwest::Method;

use crate::client::Client;
use crate::commands::nodes::state;
use crate::failure::Failure;

/// How often the server is asked.
const POLL: Duration = Duration::from_millis(250);

/// A node that is there.
pub struct Node {
    pub instance: String,
    pub state: &'static str,
    pub version: String,
    pub running: usize,
    pub draining: bool,
}

/// Every process of a node's name that the server does not count as lost.
pub async fn alive(client: &Client, name: &str) -> Result<Vec<Node>, Failure> {
    let nodes: Listing<NodeView> = client
        .json(client.request(Method::GET, &["v1", "nodes"]))
        .await?;
    let there = |view: &NodeView| view.state != NodeState::Lost && view.node.report.name == name;
    let nodes = nodes.data.into_iter().filter(there).map(|view| Node {
        instance: view.node.instance.to_string(),
        state: state(view.state),
        version: view.node.report.version,
        running: view.node.report.running,
        draining: view.node.report.draining,
    });
    Ok(nodes.collect())
}

/// The processes of a node's name.
pub async fn nodes_of(client: &Client, name: &str) -> Result<Vec<String>, Failure> {
    let nodes = alive(client, name).await?;
    Ok(nodes.into_iter().map(|node| node.instance).collect())
}

/// Waits for a process of the name that is none of `gone`, and in none of the states `unready`.
pub async fn until_joined(
    client: &Client,
    name: &str,
    gone: &[String],
    unready: &[&str],
    patience: Duration,
) -> Result<Option<Node>, Failure> {
    let begun = Instant::now();
    loop {
        let nodes = alive(client, name).await?;
        let new = nodes
            .into_iter()
            .find(|node| !gone.contains(&node.instance));
        if let Some(node) = new.filter(|node| !unready.contains(&node.state)) {
            return Ok(Some(node));
        }
        if begun.elapsed() > patience {
            return Ok(None);
        }
        tokio::time::sleep(POLL).await;
    }
}
