//! The server that commands speak to, and the port that one of this machine would take.

use std::time::Duration;

use rbee_queue::NodeState;
use rbee_queue::token::Role;
use rbee_scheduler::http::types::{Listing, NodeView, TokenView};
use reqwest::Method;
use serde_json::Value;
use tokio::net::TcpListener;

use super::finding::Finding;
use super::plain;
use crate::client::{Client, DEFAULT_SERVER};
use crate::commands::Context;
use crate::failure::Failure;

/// How long the server may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Looks at the server; where none is named and none runs, at the port.
pub async fn look(context: &Context) -> Vec<Finding> {
    let what = "server";
    let client = match Client::open(context) {
        Ok(client) => client,
        Err(failure) => {
            return vec![Finding::fail(
                what,
                plain(&failure),
                "write RBEE_SERVER as http://host:7835",
            )];
        }
    };
    let asked = tokio::time::timeout(PATIENCE, version(&client)).await;
    let asked = asked.unwrap_or_else(|_| Err(Failure::NoServer("no answer".to_owned())));
    match (asked, context.server().is_some()) {
        (Ok(version), _) => {
            let mut found = vec![same_version(&client, &version)];
            found.push(token(&client).await);
            found
        }
        (Err(failure), true) => vec![Finding::fail(
            what,
            plain(&failure),
            "start `rbee serve` there, or put RBEE_SERVER right",
        )],
        // Most machines need none.
        (Err(_), false) => vec![port().await],
    }
}

async fn version(client: &Client) -> Result<String, Failure> {
    let health: Value = client
        .json(client.request(Method::GET, &["health"]))
        .await?;
    Ok(health["version"].as_str().unwrap_or("unknown").to_owned())
}

fn same_version(client: &Client, version: &str) -> Finding {
    let own = env!("CARGO_PKG_VERSION");
    let found = format!("rbee {version} at {}", client.address());
    match version == own {
        true => Finding::ok("server", found),
        false => Finding::warn(
            "server",
            format!("{found}, and this is {own}"),
            "neighbouring versions work together; bring both to the same one soon (`rbee pool upgrade`)",
        ),
    }
}

/// Whether the server takes the token, and what its nodes are.
async fn token(client: &Client) -> Finding {
    let shown: Result<TokenView, Failure> = client
        .json(client.request(Method::GET, &["v1", "tokens", "self"]))
        .await;
    if let Ok(shown) = shown
        && shown.role == Role::Node
    {
        let found = format!("the server takes it as {}, a node's", shown.name);
        return Finding::ok("token", found);
    }
    let nodes: Result<Listing<NodeView>, Failure> = client
        .json(client.request(Method::GET, &["v1", "nodes"]))
        .await;
    let own = env!("CARGO_PKG_VERSION");
    match nodes {
        Err(failure) => Finding::fail(
            "token",
            plain(&failure),
            "set RBEE_API_TOKEN to the server's: there it lies in api-token in the data directory",
        ),
        Ok(nodes) => {
            let others: Vec<&str> = (nodes.data.iter())
                .filter(|view| view.state != NodeState::Lost)
                .map(|view| &view.node.report)
                .filter(|report| report.version != own)
                .map(|report| report.name.as_str())
                .collect();
            let count = match nodes.data.len() {
                1 => "1 node".to_owned(),
                count => format!("{count} nodes"),
            };
            let found = format!("the server takes it, and knows {count}");
            match others.is_empty() {
                true => Finding::ok("token", found),
                false => Finding::warn(
                    "token",
                    format!(
                        "{found}, of another version than {own}: {}",
                        others.join(", ")
                    ),
                    "`rbee pool upgrade` brings this version there",
                ),
            }
        }
    }
}

async fn port() -> Finding {
    let address = DEFAULT_SERVER.trim_start_matches("http://");
    match TcpListener::bind(address).await {
        Ok(_) => Finding::ok(
            "server",
            format!("none runs on this machine, and {address} is free"),
        ),
        Err(error) => Finding::warn(
            "server",
            format!("no rbee answers at {address}, which is taken: {error}"),
            "find who listens there (`ss -ltnp`), or start `rbee serve --listen` elsewhere",
        ),
    }
}
