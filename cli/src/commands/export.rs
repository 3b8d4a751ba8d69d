//! `rbee export`: the results of a batch, in input order.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use rbee_queue::jsonl::{Rendering, Shape};

use crate::batch_choice;
use crate::commands::Context;
use crate::exit_code::ExitCode;
use crate::failure::{Failure, Outcome};
use crate::results::{self, Destinations};

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
    pub format: Option<ShapeChoice>,

    /// Add times and speed to each line
    #[arg(long)]
    pub with_stats: bool,

    /// Write a file even if the batch is not finished
    #[arg(long)]
    pub partial: bool,
}

/// One form for all results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ShapeChoice {
    /// OpenAI's batch output lines.
    Openai,
    /// Short results.
    Short,
}

impl From<ShapeChoice> for Shape {
    fn from(choice: ShapeChoice) -> Shape {
        match choice {
            ShapeChoice::Openai => Shape::OpenAi,
            ShapeChoice::Short => Shape::Short,
        }
    }
}

/// Writes the results of one batch.
pub async fn run(context: &Context, args: ExportArgs) -> Outcome {
    let destinations = Destinations::choose(&args.output, args.errors.as_deref(), None)?;
    let home = context.open_store().await?;
    let batch = batch_choice::find(home.store(), &args.id).await?;
    let unfinished = batch.counts.unfinished();
    if unfinished > 0 && destinations.results.file().is_some() && !args.partial {
        let (id, total) = (&batch.id, batch.counts.total);
        return Err(Failure::usage(format!(
            "{unfinished} of the {total} jobs of {id} have no result yet: run the same `rbee run` again to finish it, \
             or add --partial"
        )));
    }
    let rendering = Rendering {
        shape: args.format.map(Shape::from),
        with_stats: args.with_stats,
    };
    let kept = "interrupted: no file was written";
    let work = results::write(&home.batches, &batch.id, rendering, &destinations);
    let written = context.interrupt.or(kept, work).await?;
    home.close().await;
    if written.missing > 0 {
        context.talk.line(&written.gaps());
        return Ok(ExitCode::SomeFailed);
    }
    Ok(ExitCode::Success)
}
