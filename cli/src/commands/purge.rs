//! `rbee purge`: batches are deleted with all that belongs to them.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use clap::Args;
use rbee_queue::Batch;
use rbee_queue::batches::PurgeError;
use rbee_scheduler::http::types::{BatchView, Listing};
use reqwest::Method;
use serde_json::Value;

use crate::age;
use crate::batch_choice;
use crate::batch_view::{self, Runner};
use crate::batches_home::BatchesHome;
use crate::client::Client;
use crate::commands::{Context, list};
use crate::exit_code::ExitCode;
use crate::failure::{Failure, Outcome};
use crate::moment;
use crate::table;

/// Batches that one page of a server's listing has.
const PAGE: &str = "500";

/// Delete batches with their prompts and results
///
/// Shows what would go and asks first; outside a terminal it wants --yes. A batch that runs is never deleted: cancel it
/// before. --older-than takes finished batches only, by the time of their end.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Examples:
  rbee purge batch_019a
  rbee purge --older-than 30d --dry-run
  rbee purge --older-than 12h --yes

Without RBEE_SERVER it is the store of this machine; with it, the server's. `rbee serve --keep 30d` does the same by
itself.")]
pub struct PurgeArgs {
    /// The batches: ids, beginnings of ids, or `last`
    #[arg(value_name = "ID", required_unless_present = "older_than")]
    pub ids: Vec<String>,

    /// All that finished longer ago than this: 90s, 10m, 12h, 30d, 2w
    #[arg(long, value_name = "TIME", value_parser = age::parse, conflicts_with = "ids")]
    pub older_than: Option<Duration>,

    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,

    /// Only show what would go
    #[arg(long, conflicts_with = "yes")]
    pub dry_run: bool,

    /// Show each batch as one JSON object a line
    #[arg(long)]
    pub json: bool,
}

/// Deletes the batches.
pub async fn run(context: &Context, args: PurgeArgs) -> Outcome {
    let place = Place::open(context).await?;
    let doomed = place.find(&args).await?;
    let done = purge(context, &args, &place, doomed).await;
    place.close().await;
    done
}

async fn purge(context: &Context, args: &PurgeArgs, place: &Place, doomed: Vec<Doomed>) -> Outcome {
    if doomed.is_empty() {
        context.talk.note("no batch is old enough: nothing goes");
        return Ok(ExitCode::Success);
    }
    show(&doomed, args.json)?;
    let many = match doomed.len() {
        1 => "1 batch".to_owned(),
        several => format!("{several} batches"),
    };
    if args.dry_run {
        context.talk.note(&format!("{many} would go"));
        return Ok(ExitCode::Success);
    }
    refuse_running(&doomed)?;
    if !args.yes && !confirm(&many)? {
        context.talk.note("nothing was deleted");
        return Ok(ExitCode::Success);
    }
    for batch in &doomed {
        place.purge(batch).await?;
    }
    context.talk.note(&format!("{many} deleted"));
    Ok(ExitCode::Success)
}

/// Where batches are deleted.
enum Place {
    Embedded(BatchesHome),
    Server(Client),
}

/// A batch that is to go.
struct Doomed {
    view: BatchView,
    runner: Runner,
    /// As the embedded store has it.
    stored: Option<Batch>,
}

impl Doomed {
    fn runs(&self) -> bool {
        match self.runner {
            // A `rbee run` that was stopped or killed: nobody has it now.
            Runner::Nobody => false,
            Runner::Process(_) | Runner::Server => !self.view.status.is_terminal(),
        }
    }
}

impl Place {
    async fn open(context: &Context) -> Result<Place, Failure> {
        Ok(match context.server() {
            Some(_) => Place::Server(Client::open(context)?),
            None => Place::Embedded(context.open_store().await?),
        })
    }

    /// The batches that were named, each once, or those that are old.
    async fn find(&self, args: &PurgeArgs) -> Result<Vec<Doomed>, Failure> {
        let Some(age) = args.older_than else {
            let mut found: Vec<Doomed> = Vec::new();
            for id in &args.ids {
                let one = self.one(id).await?;
                if found.iter().all(|known| known.view.id != one.view.id) {
                    found.push(one);
                }
            }
            return Ok(found);
        };
        match self {
            Place::Embedded(home) => {
                let ended = home.store().batch_ended(None, age, usize::MAX).await?;
                Ok(ended.into_iter().map(|batch| stored(home, batch)).collect())
            }
            Place::Server(client) => ended_at(client, age).await,
        }
    }

    async fn one(&self, id: &str) -> Result<Doomed, Failure> {
        match self {
            Place::Embedded(home) => {
                let batch = batch_choice::find(home.store(), id).await?;
                Ok(stored(home, batch))
            }
            Place::Server(client) => Ok(served(client.batch(id).await?)),
        }
    }

    async fn purge(&self, doomed: &Doomed) -> Result<(), Failure> {
        match (self, &doomed.stored) {
            (Place::Embedded(home), Some(batch)) => match home.batches.purge(batch).await {
                Ok(()) => Ok(()),
                Err(error @ (PurgeError::Lock(_) | PurgeError::Open { .. })) => {
                    Err(Failure::usage(error.to_string()))
                }
                Err(PurgeError::Store(error)) => Err(error.into()),
            },
            (Place::Server(client), _) => {
                let id = doomed.view.id.as_str();
                let request = client.request(Method::DELETE, &["v1", "batches", id]);
                client.json::<Value>(request).await.map(drop)
            }
            (Place::Embedded(_), None) => unreachable!("an embedded batch was read from its store"),
        }
    }

    async fn close(self) {
        if let Place::Embedded(home) = self {
            home.close().await;
        }
    }
}

fn stored(home: &BatchesHome, batch: Batch) -> Doomed {
    Doomed {
        view: BatchView::from(&batch),
        runner: home.runner(&batch),
        stored: Some(batch),
    }
}

fn served(view: BatchView) -> Doomed {
    Doomed {
        view,
        runner: Runner::Server,
        stored: None,
    }
}

/// The batches of a server that ended longer ago than `age`, by this machine's clock; oldest first.
async fn ended_at(client: &Client, age: Duration) -> Result<Vec<Doomed>, Failure> {
    let age_us = i64::try_from(age.as_micros()).unwrap_or(i64::MAX);
    let before = moment::now_micros().saturating_sub(age_us);
    let mut found = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let mut query = vec![("limit", PAGE)];
        query.extend(after.as_deref().map(|after| ("after", after)));
        let request = client.asking(Method::GET, &["v1", "batches"], &query);
        let page: Listing<BatchView> = client.json(request).await?;
        let old = page.data.into_iter().filter(|batch| {
            let ended = batch.finished_at_us.is_some_and(|at| at <= before);
            batch.status.is_terminal() && ended
        });
        found.extend(old.map(served));
        after = page.last_id.filter(|_| page.has_more);
        if after.is_none() {
            found.reverse();
            return Ok(found);
        }
    }
}

fn show(doomed: &[Doomed], json: bool) -> Result<(), Failure> {
    if json {
        let line = |one: &Doomed| batch_view::json(&one.view, one.runner).to_string();
        return table::print(doomed.iter().map(line));
    }
    let rows: Vec<(BatchView, Runner)> = (doomed.iter())
        .map(|one| (one.view.clone(), one.runner))
        .collect();
    table::print(list::table_of(&rows))
}

fn refuse_running(doomed: &[Doomed]) -> Result<(), Failure> {
    let running: Vec<&str> = (doomed.iter())
        .filter(|one| one.runs())
        .map(|one| one.view.id.as_str())
        .collect();
    match running.as_slice() {
        [] => Ok(()),
        [one] => Err(Failure::usage(format!(
            "{one} is not finished: cancel it first. Nothing was deleted"
        ))),
        several => Err(Failure::usage(format!(
            "{} are not finished: cancel them first. Nothing was deleted",
            several.join(", ")
        ))),
    }
}

/// Asks a person; without one, nothing is deleted.
fn confirm(many: &str) -> Result<bool, Failure> {
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Err(Failure::usage(format!(
            "nothing was deleted: add --yes to delete {many}"
        )));
    }
    eprint!("delete {many} with all prompts and results? [y/N] ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    let answer = answer.trim().to_ascii_lowercase();
    Ok(["y", "yes"].contains(&answer.as_str()))
}
