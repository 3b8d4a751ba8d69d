//! `rbee export`: the results of a batch, in input order.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use rbee_queue::BatchStatus;
use rbee_queue::jsonl::{Rendering, Shape};
use rbee_scheduler::http::types::BatchView;

use crate::batch_choice;
use crate::client::{Client, ExportQuery, Remote};
use crate::commands::Context;
use crate::exit_code::ExitCode;
use crate::failure::{Failure, Outcome};
use crate::results::{self, Destinations, Written};

/// Write the results of a batch, in the order of its input
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Examples:
  rbee export last > results.jsonl
  rbee export batch_019a -o results.jsonl --errors failed.jsonl
  rbee export last --follow | jq .text
  rbee export last | head

Of a batch that is not finished, stdout gets the results there are, stderr says which are missing,
and the exit code is 3. A file gets them only with --partial; with --follow it is
written when the batch is finished.")]
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
    #[arg(long, conflicts_with = "follow")]
    pub partial: bool,

    /// Wait for what is not finished; results still come in the order of the input
    #[arg(long)]
    pub follow: bool,
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

impl ShapeChoice {
    fn word(self) -> &'static str {
        match self {
            ShapeChoice::Openai => "openai",
            ShapeChoice::Short => "short",
        }
    }
}

/// Writes the results of one batch.
pub async fn run(context: &Context, args: ExportArgs) -> Outcome {
    let destinations = Destinations::choose(&args.output, args.errors.as_deref(), None)?;
    let kept = "interrupted: no file was written";
    let work = async {
        match context.server() {
            Some(_) => of_server(context, &args, &destinations).await,
            None => of_embedded(context, &args, &destinations).await,
        }
    };
    let written = context.interrupt.or(kept, work).await?;
    if written.missing > 0 {
        context.talk.line(&written.gaps());
        return Ok(ExitCode::SomeFailed);
    }
    Ok(ExitCode::Success)
}

async fn of_embedded(
    context: &Context,
    args: &ExportArgs,
    destinations: &Destinations,
) -> Result<Written, Failure> {
    let home = context.open_store().await?;
    let batch = batch_choice::find(home.store(), &args.id).await?;
    let advice = "run the same `rbee run` again to finish it";
    check(args, &BatchView::from(&batch), destinations, advice)?;
    let rendering = Rendering {
        shape: args.format.map(Shape::from),
        with_stats: args.with_stats,
        ..Rendering::default()
    };
    let written = match args.follow {
        true => results::follow(&home.batches, &batch, rendering, destinations).await?,
        false => results::write(&home.batches, &batch.id, rendering, destinations).await?,
    };
    home.close().await;
    Ok(written)
}

async fn of_server(
    context: &Context,
    args: &ExportArgs,
    destinations: &Destinations,
) -> Result<Written, Failure> {
    let client = Client::open(context)?;
    let batch = client.batch(&args.id).await?;
    let advice = "wait for it with --follow";
    check(args, &batch, destinations, advice)?;
    let remote = Remote {
        client: &client,
        id: batch.id.as_str(),
        query: ExportQuery {
            format: args.format.map(ShapeChoice::word),
            with_stats: args.with_stats,
            follow: args.follow,
            ..ExportQuery::default()
        },
        talk: &context.talk,
    };
    remote.write(destinations).await
}

/// A file is complete, unless somebody asked for less.
fn check(
    args: &ExportArgs,
    batch: &BatchView,
    destinations: &Destinations,
    advice: &str,
) -> Result<(), Failure> {
    let unfinished = batch.request_counts.unfinished();
    if batch.status == BatchStatus::Validating && !args.follow {
        return Err(Failure::usage(format!(
            "which lines {} has is not known yet, since its file is being read: wait for it with --follow",
            batch.id
        )));
    }
    let whole = args.follow || args.partial || destinations.results.file().is_none();
    if unfinished > 0 && !whole {
        let (id, total) = (&batch.id, batch.request_counts.total);
        return Err(Failure::usage(format!(
            "{unfinished} of the {total} jobs of {id} have no result yet: {advice}, or add --partial"
        )));
    }
    Ok(())
}
