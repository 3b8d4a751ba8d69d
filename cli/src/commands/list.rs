//! `rbee list`: the batches that are kept, newest first.

use clap::Args;

use crate::batch_view;
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
    let batches = home
        .store()
        .batch_list(None, None, args.limit as usize)
        .await?;
    if args.json {
        table::print(
            batches
                .iter()
                .map(|batch| batch_view::json(batch, home.runner(batch)).to_string()),
        )?;
        return Ok(ExitCode::Success);
    }
    if batches.is_empty() {
        context
            .talk
            .note("no batch is kept here yet: `rbee run FILE` makes one");
        return Ok(ExitCode::Success);
    }
    let now = moment::now_micros();
    let rows: Vec<Vec<String>> = batches
        .iter()
        .map(|batch| {
            vec![
                batch.id.to_string(),
                batch_view::state(batch, home.runner(batch)),
                batch_view::jobs(batch),
                moment::ago(batch.created_at_us, now),
                batch_view::models(batch),
                batch.name.clone().unwrap_or_default(),
            ]
        })
        .collect();
    table::print(table::lines(
        &["ID", "STATUS", "JOBS", "MADE", "MODEL", "INPUT"],
        &rows,
    ))?;
    Ok(ExitCode::Success)
}
