//! `rbee list`: the batches that are kept, newest first.

use clap::Args;
use rbee_scheduler::http::types::{BatchView, Listing};
use reqwest::Method;

use crate::batch_view::{self, Runner};
use crate::client::Client;
use crate::commands::Context;
use crate::exit_code::ExitCode;
use crate::failure::{Failure, Outcome};
use crate::moment;
use crate::table;

/// List the batches that are kept, newest first
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Examples:
  rbee list
  rbee list --limit 5 --json
  RBEE_SERVER=http://host:7835 rbee list      those of a server")]
pub struct ListArgs {
    /// At most N batches
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: u32,

    /// One JSON object a line
    #[arg(long)]
    pub json: bool,
}

/// Prints one line a batch.
pub async fn run(context: &Context, args: ListArgs) -> Outcome {
    let batches = match context.server() {
        Some(_) => of_server(context, args.limit).await?,
        None => of_embedded(context, args.limit).await?,
    };
    if batches.is_empty() {
        context
            .talk
            .note("no batch is kept here yet: `rbee run FILE` or `rbee submit FILE` makes one");
    }
    let lines: Vec<String> = match args.json {
        true => (batches.iter())
            .map(|(batch, runner)| batch_view::json(batch, *runner).to_string())
            .collect(),
        false if batches.is_empty() => Vec::new(),
        false => table_of(&batches),
    };
    table::print(lines)?;
    Ok(ExitCode::Success)
}

type Listed = Vec<(BatchView, Runner)>;

async fn of_embedded(context: &Context, limit: u32) -> Result<Listed, Failure> {
    let home = context.open_store().await?;
    let batches = home.store().batch_list(None, None, limit as usize).await?;
    let listed = (batches.iter())
        .map(|batch| (BatchView::from(batch), home.runner(batch)))
        .collect();
    home.close().await;
    Ok(listed)
}

async fn of_server(context: &Context, limit: u32) -> Result<Listed, Failure> {
    let client = Client::open(context)?;
    let mut listed = Listed::new();
    let mut after: Option<String> = None;
    loop {
        let left = (limit as usize - listed.len()).to_string();
        let mut query = vec![("limit", left.as_str())];
        query.extend(after.as_deref().map(|after| ("after", after)));
        let request = client.asking(Method::GET, &["v1", "batches"], &query);
        let page: Listing<BatchView> = client.json(request).await?;
        listed.extend(page.data.into_iter().map(|batch| (batch, Runner::Server)));
        after = page.last_id.filter(|_| page.has_more);
        if after.is_none() || listed.len() >= limit as usize {
            return Ok(listed);
        }
    }
}

/// The batches for people.
pub fn table_of(batches: &[(BatchView, Runner)]) -> Vec<String> {
    let now = moment::now_micros();
    let row = |(batch, runner): &(BatchView, Runner)| {
        vec![
            batch.id.to_string(),
            batch_view::state(batch, *runner),
            batch_view::jobs(batch),
            moment::ago(batch.created_at_us, now),
            batch_view::models(batch),
            batch.name.clone().unwrap_or_default(),
        ]
    };
    let rows: Vec<Vec<String>> = batches.iter().map(row).collect();
    table::lines(&["ID", "STATUS", "JOBS", "MADE", "MODEL", "INPUT"], &rows)
}
