//! `rbee logs`: the last lines of a node's log, or of the server's.

use std::io::Write;

use clap::Args;
use reqwest::Method;

use crate::client::Client;
use crate::commands::Context;
use crate::exit_code::ExitCode;
use crate::failure::{Outcome, stdout_failure};

/// Show the last lines of a node's log, or of the server's
///
/// Nodes and servers keep their last 2000 records in memory, however much they show on their own stderr. A node is
/// asked through the server; a lost one cannot answer.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Examples:
  rbee logs                          of the server
  rbee logs --node desktop
  rbee logs --node desktop --lines 1000 | grep WARN

It wants a server: the one of RBEE_SERVER, else the one of this machine.")]
pub struct LogsArgs {
    /// The node's name, as `rbee nodes` shows it [default: the server itself]
    #[arg(long, value_name = "NAME")]
    pub node: Option<String>,

    /// At most N records
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub lines: u32,
}

/// Prints the log.
pub async fn run(context: &Context, args: LogsArgs) -> Outcome {
    let client = Client::open(context)?;
    let lines = args.lines.to_string();
    let path: Vec<&str> = match &args.node {
        Some(node) => vec!["v1", "nodes", node, "logs"],
        None => vec!["v1", "logs"],
    };
    let request = client.asking(Method::GET, &path, &[("lines", &lines)]);
    let text = client.text(request).await?;
    if text.is_empty() {
        context.talk.note("the log is empty");
    }
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(stdout_failure)?;
    Ok(ExitCode::Success)
}
