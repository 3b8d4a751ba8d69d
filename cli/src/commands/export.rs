//! `rbee export`: the results of a batch, in input order.

use std::path::PathBuf;

use clap::Args;

use crate::commands::Context;
use crate::commands::run::args::FormatChoice;
use crate::failure::Outcome;

/// Write the results of a batch, in the order of its input
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Examples:
  rbee export last > results.jsonl
  rbee export batch_019a -o results.jsonl --errors failed.jsonl
  rbee export last | head

Of a batch that is not finished, stdout gets the results there are, stderr says which are missing,
and the exit code is 3. A file gets them only with --partial.")]
pub struct ExportArgs {
    /// The batch: its id, the beginning of its id, or `last`
    #[arg(value_name = "ID")]
    pub id: String,

    /// Where the results go; `-` is stdout
    #[arg(short, long, value_name = "FILE|-", default_value = "-")]
    pub output: PathBuf,

    /// Write failed lines here instead of in their place among the results
    #[arg(long, value_name = "FILE")]
    pub errors: Option<PathBuf>,

    /// All results in this form [default: each in the form of its input line]
    #[arg(long, value_enum)]
    pub format: Option<FormatChoice>,

    /// Add times and speed to each line
    #[arg(long)]
    pub with_stats: bool,

    /// Write a file even if the batch is not finished
    #[arg(long)]
    pub partial: bool,
}

/// Not wired in this build.
pub async fn run(_context: &Context, _args: ExportArgs) -> Outcome {
    Err(anyhow::anyhow!("export is not wired to the store in this build").into())
}
