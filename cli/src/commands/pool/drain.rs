//! Having a node finish what it has before something is done to it.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::Value;

use crate::client::Client;
use crate::commands::deploy::alive;
use crate::failure::Failure;

/// How often a draining node is looked at.
const POLL: Duration = Duration::from_millis(250);

/// Has every process of a node's name take no more jobs, or take them again. It holds for later processes too.
pub async fn wish(client: &Client, name: &str, what: &str) -> Result<(), Failure> {
    let request = client.request(Method::POST, &["v1", "nodes", name, what]);
    client.json::<Value>(request).await.map(drop)
}

/// Waits until the node has no job. False: it takes too long, and gives the rest back when it is stopped.
pub async fn until_idle(client: &Client, name: &str, patience: Duration) -> Result<bool, Failure> {
    let begun = Instant::now();
    loop {
        let nodes = alive(client, name).await?;
        // What a node says is as old as its last heartbeat: it must know of the wish itself.
        if nodes.iter().all(|node| node.draining && node.running == 0) {
            return Ok(true);
        }
        if begun.elapsed() > patience {
            return Ok(false);
        }
        tokio::time::sleep(POLL).await;
    }
}
