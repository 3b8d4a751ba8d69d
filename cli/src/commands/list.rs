//! `rbee list`: the batches that are kept, newest first.

use clap::Args;
use rbee_queue::Batch;

use crate::batch_view;
use crate::batches_home::BatchesHome;
use crate::commands::Context;
use crate::exit_code::ExitCode;
use crate::failure::Outcome;
use crate::moment;
use crate::table;

/// List the batches that are kept, newest first
#[derive(Debug, Clone, Args)]
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
    let home = context.open_store().await?;
    let limit = args.limit as usize;
    let batches = home.store().batch_list(None, None, limit).await?;
    let lines: Vec<String> = match args.json {
        true => (batches.iter())
            .map(|batch| batch_view::json(batch, home.runner(batch)).to_string())
            .collect(),
        false if batches.is_empty() => Vec::new(),
        false => table_of(&batches, &home),
    };
    home.close().await;
    if batches.is_empty() {
        context
            .talk
            .note("no batch is kept here yet: `rbee run FILE` makes one");
    }
    table::print(lines)?;
    Ok(ExitCode::Success)
}

fn table_of(batches: &[Batch], home: &BatchesHome) -> Vec<String> {
    let now = moment::now_micros();
    let row = |batch: &Batch| {
        vec![
            batch.id.to_string(),
            batch_view::state(batch, home.runner(batch)),
            batch_view::jobs(batch),
            moment::ago(batch.created_at_us, now),
            batch_view::models(batch),
            batch.name.clone().unwrap_or_default(),
        ]
    };
    let rows: Vec<Vec<String>> = batches.iter().map(row).collect();
    table::lines(&["ID", "STATUS", "JOBS", "MADE", "MODEL", "INPUT"], &rows)
}
