//! `rbee nodes`: who computes, and with what.

use clap::{Args, Subcommand};
use rbee_queue::NodeState;
use rbee_queue::node::{LoadStage, NodeReport};
use rbee_scheduler::http::types::{Listing, NodeView};
use reqwest::Method;
use serde_json::Value;

use crate::batch_view::short;
use crate::byte_size;
use crate::client::Client;
use crate::commands::Context;
use crate::exit_code::ExitCode;
use crate::failure::{Failure, Outcome};
use crate::table;

/// Show the nodes, or have one drained
#[derive(Debug, Clone, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_long_help = "\
Examples:
  rbee nodes
  rbee nodes --json
  rbee nodes drain desktop      finish what runs there, take nothing new
  rbee nodes undrain desktop"
)]
pub struct NodesArgs {
    #[command(subcommand)]
    pub command: Option<NodesCommand>,

    /// One JSON object a line
    #[arg(long)]
    pub json: bool,
}

/// What a node can be asked.
#[derive(Debug, Clone, Subcommand)]
pub enum NodesCommand {
    /// Have a node take no new work; it holds for later processes of the name too
    Drain {
        /// The node's name
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Have a node take work again
    Undrain {
        /// The node's name
        #[arg(value_name = "NAME")]
        name: String,
    },
}

/// Prints one line a node, or passes a wish on.
pub async fn run(context: &Context, args: NodesArgs) -> Outcome {
    let client = Client::open(context)?;
    match &args.command {
        None => list(context, &client, args.json).await?,
        Some(NodesCommand::Drain { name }) => {
            wish(&client, name, "drain").await?;
            context.talk.note(&format!(
                "{name} finishes what it has and takes nothing new"
            ));
        }
        Some(NodesCommand::Undrain { name }) => {
            let done = wish(&client, name, "undrain").await?;
            context.talk.note(&match done["nodes"].as_u64() {
                Some(0) => format!("no node is called {name} now; one that comes will take work"),
                _ => format!("{name} takes work again"),
            });
        }
    }
    Ok(ExitCode::Success)
}

async fn wish(client: &Client, name: &str, what: &str) -> Result<Value, Failure> {
    let request = client.request(Method::POST, &["v1", "nodes", name, what]);
    client.json(request).await
}

async fn list(context: &Context, client: &Client, json: bool) -> Result<(), Failure> {
    let request = client.request(Method::GET, &["v1", "nodes"]);
    if json {
        let nodes: Listing<Value> = client.json(request).await?;
        return table::print(nodes.data.iter().map(Value::to_string));
    }
    let nodes: Listing<NodeView> = client.json(request).await?;
    if nodes.data.is_empty() {
        context
            .talk
            .note("there is no node: `rbee worker` is one, on each machine that computes");
        return Ok(());
    }
    let rows: Vec<Vec<String>> = nodes.data.iter().map(row).collect();
    table::print(table::lines(
        &[
            "NODE", "STATE", "JOBS", "SLOTS", "MEMORY", "MODELS", "TOKENS/S", "SEEN",
        ],
        &rows,
    ))
}

fn row(view: &NodeView) -> Vec<String> {
    let report = &view.node.report;
    let memory: Vec<String> = report
        .devices
        .iter()
        .map(|device| format!("{} {}", device.name, byte_size::show(device.memory_bytes)))
        .collect();
    // A sum of nothing is -0.
    let rates = report.resident.iter().map(|model| model.tokens_per_s);
    let speed = rates.fold(0.0, |sum, rate| sum + rate);
    vec![
        report.name.clone(),
        match report.resting {
            Some(_) if view.state == NodeState::Draining => "resting".to_owned(),
            _ => state(view.state).to_owned(),
        },
        report.running.to_string(),
        report.slots.to_string(),
        memory.join(", "),
        models(report),
        format!("{speed:.1}"),
        seen(view.node.silent_us),
    ]
}

pub fn state(state: NodeState) -> &'static str {
    match state {
        NodeState::Starting => "starting",
        NodeState::Ready => "ready",
        NodeState::Busy => "busy",
        NodeState::Draining => "draining",
        NodeState::Lost => "lost",
    }
}

/// Models in memory and on their way there, by the first digits of their digests.
fn models(report: &NodeReport) -> String {
    let resident = (report.resident.iter()).map(|model| short(&model.model.to_hex()).to_owned());
    let loading = report.loading.iter().map(|model| {
        let stage = match model.stage {
            LoadStage::Waiting => "waits",
            LoadStage::Fetching => "fetching",
            LoadStage::Loading => "loading",
        };
        let digest = model.model.to_hex();
        format!("{} ({stage} {:.0}%)", short(&digest), model.share * 100.0)
    });
    resident.chain(loading).collect::<Vec<_>>().join(", ")
}

fn seen(silent_us: i64) -> String {
    match silent_us / 1_000_000 {
        ..3 => "now".to_owned(),
        seconds @ 3..60 => format!("{seconds} s ago"),
        seconds => format!("{}m ago", seconds / 60),
    }
}
