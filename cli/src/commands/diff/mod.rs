//! `rbee diff`: which results of two batches differ, and how.
//!
//! Owns the command. Where results come from is in `source`, what is compared of a line in `answer`, which lines belong
//! together in `pairs`, and how a difference is told in `show` and `words`.

mod answer;
mod kept;
mod pairs;
mod show;
mod source;
pub mod words;

use clap::{Args, ValueEnum};

use crate::batch_view::counted;
use crate::commands::Context;
use crate::exit_code::ExitCode;
use crate::failure::{Failure, Outcome};
use pairs::{Change, Compared};
use show::Shown;
use source::Side;

/// Show which results of two batches differ, and how
///
/// A and B are batches (an id, the beginning of an id, or `last`) or results files that were exported. Results that
/// have an id of their own are compared under it; those that have none with the result of the same request, else with
/// the one at the same place. The answers are compared, with their errors and token counts: not what the input lines
/// carry along, nor ids that rbee makes.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Examples:
  rbee diff batch_019a last
  rbee diff yesterday.jsonl last --only changed
  rbee diff a.jsonl b.jsonl --json | jq -r .id

The exit code is 0 where all results are equal, and 3 where some differ or are missing.")]
pub struct DiffArgs {
    /// The results before: a batch or an exported file
    #[arg(value_name = "A")]
    pub before: String,

    /// The results after: a batch or an exported file
    #[arg(value_name = "B")]
    pub after: String,

    /// Only these, with commas between them [default: changed,added,removed]
    #[arg(long, value_enum, value_delimiter = ',', value_name = "CHANGE")]
    pub only: Vec<Change>,

    /// One JSON object a line
    #[arg(long)]
    pub json: bool,
}

/// Compares, prints, and says by its exit code what it found.
pub async fn run(context: &Context, args: DiffArgs) -> Outcome {
    let work = async {
        let before = Side::open(context, &args.before).await?;
        let after = Side::open(context, &args.after).await?;
        compare(context, args, before, after).await
    };
    context.interrupt.or("interrupted", work).await
}

async fn compare(context: &Context, args: DiffArgs, before: Side, after: Side) -> Outcome {
    let missing = before.missing + after.missing;
    for side in [&before, &after] {
        if side.missing > 0 {
            let (name, missing) = (&side.name, counted(side.missing, "job"));
            context
                .talk
                .warn(&format!("{missing} of {name} have no result yet"));
        }
    }
    let shown = Shown::new(&args);
    let spool = context.data()?.spool()?;
    let compared = tokio::task::spawn_blocking(move || -> Result<Compared, Failure> {
        let mut shown = shown;
        let compared = pairs::compare(before, after, &spool, &mut |found| shown.take(&found))?;
        shown.finish()?;
        Ok(compared)
    })
    .await??;
    context.talk.note(&in_words(&compared));
    Ok(match compared.differ() || missing > 0 {
        true => ExitCode::SomeFailed,
        false => ExitCode::Success,
    })
}

fn in_words(compared: &Compared) -> String {
    let count = |change: Change| format!("{} {}", compared.count(change), change.word());
    let counts: Vec<String> = Change::value_variants()
        .iter()
        .map(|change| count(*change))
        .collect();
    format!("results: {}", counts.join(", "))
}
