//! `rbee rerun`: a batch again, computing only what changed, is new, or failed; the rest is taken over.
//!
//! Here that is `rbee run` with the settings of the batch; on a server it is a submit that names the batch.

use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::PathBuf;

use anyhow::{Context as _, anyhow};
use clap::{Args, ValueEnum};
use rbee_queue::{BatchModel, BatchSpec, Priority};
use rbee_scheduler::http::types::{KnownModel, SubmitSpec};

use super::run::input::Input;
use super::run::{self, Order};
use super::verify::subject::Subject;
use crate::args::Global;
use crate::batch_choice;
use crate::batch_view::{self, Runner};
use crate::client::{self, Client, Prompts};
use crate::commands::Context;
use crate::commands::export::ShapeChoice;
use crate::engine_args::{EngineArgs, EngineKind, KvChoice, MachineArgs};
use crate::engine_host::stub_model;
use crate::exit_code::ExitCode;
use crate::failure::{Failure, Outcome};
use crate::living::LivingArgs;
use crate::paths::DataDir;
use crate::supervisor::{self, Child, Supervised};
use crate::table;
use crate::talk::Talk;

/// Jobs of the old batch that are read at once.
const JOBS_A_READ: u64 = 100;

/// Run a batch again: only lines that changed, are new, or failed; other answers are taken over
///
/// FILE is the new version of the prompts; without it the lines are those of the batch. Models, seed and parameters are
/// the batch's own. The results are those that a fresh run of FILE gives, byte for byte. With a server the batch is run
/// there, and the new batch's id is printed.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Examples:
  rbee rerun last prompts.jsonl                   results in prompts.results.jsonl
  rbee rerun batch_019a edited.jsonl -o new.jsonl
  rbee rerun last -o again.jsonl                  the failed lines once more, in a batch of their own

A line is known by its whole request and its id: whatever changes an answer makes it another line.")]
pub struct RerunArgs {
    /// The batch: its id, the beginning of its id, or `last`
    #[arg(value_name = "ID")]
    pub id: String,

    /// The prompts; `-` is stdin [default: the lines of the batch]
    #[arg(value_name = "FILE|-")]
    pub input: Option<PathBuf>,

    /// Where the results go; `-` is stdout [default: as of `rbee run`]
    #[arg(short, long, value_name = "FILE|-")]
    pub output: Option<PathBuf>,

    /// Write failed lines here instead of in their place among the results
    #[arg(long, value_name = "FILE")]
    pub errors: Option<PathBuf>,

    /// All results in this form [default: each in the form of its input line]
    #[arg(long, value_enum)]
    pub format: Option<ShapeChoice>,

    /// Print a summary as JSON; with a server, the new batch
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub machine: MachineArgs,
}

/// The parent's part: as of `rbee run`.
pub async fn supervise(global: &Global, args: &RerunArgs, talk: &Talk) -> Outcome {
    let data = DataDir::open(global.data_dir.as_deref())?;
    let spooled = match &args.input {
        Some(input) => Input::open(input, &data)?.into_spooled(),
        None => None,
    };
    supervisor::supervise(talk, Supervised::run(spooled)).await
}

/// The child's part: finds the batch and runs the lines.
pub async fn run(context: &Context, args: RerunArgs, child: Child) -> Outcome {
    let home = context.open_store().await?;
    let old = batch_choice::find(home.store(), &args.id).await?;
    home.close().await;
    let input = match &args.input {
        _ if child.input_on_stdin => Input::spooled()?,
        Some(input) => Input::open(input, &context.data()?)?,
        None => {
            let name = old.name.clone().unwrap_or_else(|| old.id.to_string());
            Input::gathered(lines_of(context, &args.id).await?, name)
        }
    };
    let order = Order {
        output: args.output,
        errors: args.errors,
        shape: args.format.map(Into::into),
        fresh: false,
        json: args.json,
        with_stats: false,
        engine: engine(&old.spec, &old.models, args.machine)?,
        living: LivingArgs::default(),
        pilot: None,
        takes_over: Some(old.clone()),
    };
    run::perform(context, old.spec, input, order, child).await
}

/// The engine that computed the batch.
fn engine(
    spec: &BatchSpec,
    models: &[BatchModel],
    machine: MachineArgs,
) -> Result<EngineArgs, Failure> {
    let is_stub = |model: &BatchModel| model.sha256 == Some(stub_model(&model.requested));
    Ok(EngineArgs {
        machine,
        kv: KvChoice::from_str(&spec.kv, false).map_err(|error| anyhow!(error))?,
        engine: match models.iter().any(is_stub) {
            true => EngineKind::Stub,
            false => EngineKind::Model,
        },
        stub_token_us: 0,
    })
}

/// The lines of a batch, in a file without a name, each under the number that it had.
async fn lines_of(context: &Context, id: &str) -> Result<File, Failure> {
    let subject = Subject::open(context, id).await?;
    let spool = context.data()?.spool()?;
    let file = tempfile::tempfile_in(spool).context("cannot make a temporary file")?;
    let mut out = BufWriter::new(file);
    let (total, mut number) = (subject.total(), 1);
    for from in (0..total).step_by(JOBS_A_READ as usize) {
        let indices: Vec<u64> = (from..total.min(from + JOBS_A_READ)).collect();
        for job in subject.jobs(&indices).await?.jobs {
            if job.line.is_empty() {
                return Err(Failure::usage(format!(
                    "line {} of {id} could not be kept, too long or no text: give the file",
                    job.line_number
                )));
            }
            // Blank lines were left out, and count.
            for _ in number..job.line_number {
                out.write_all(b"\n")?;
            }
            out.write_all(job.line.as_bytes())?;
            out.write_all(b"\n")?;
            number = job.line_number + 1;
        }
    }
    subject.close().await;
    let mut file = out
        .into_inner()
        .map_err(|error| anyhow!("cannot keep the lines: {error}"))?;
    file.seek(SeekFrom::Start(0))?;
    Ok(file)
}

/// With a server: submits the lines there, and names the batch whose answers they may have.
pub async fn submit(context: &Context, args: RerunArgs) -> Outcome {
    if args.output.is_some() || args.errors.is_some() || args.format.is_some() {
        return Err(Failure::usage(
            "a server keeps the results: `rbee export` writes them where you want them",
        ));
    }
    let client = Client::open(context)?;
    let work = async {
        let subject = Subject::open(context, &args.id).await?;
        let id = subject.id().to_string();
        let first = subject.jobs(&[0]).await?;
        let old = client.batch(&id).await?;
        let name = old.name.unwrap_or_else(|| id.clone());
        let (name, prompts) = match &args.input {
            Some(input) => {
                let prompts = Prompts::open(input).await?;
                (prompts.name().to_owned(), prompts)
            }
            None => {
                let lines = lines_of(context, &id).await?;
                (name.clone(), Prompts::gathered(lines, name))
            }
        };
        let known = first.models.into_iter().filter_map(|model| {
            Some(KnownModel {
                sha256: model.sha256?,
                requested: model.requested,
            })
        });
        let spec = SubmitSpec {
            spec: first.spec,
            name: Some(name),
            priority: Priority::Batch,
            key: None,
            new: false,
            on_done: None,
            node: None,
            models: known.collect(),
            takes_over: Some(id),
        };
        client::submit(&client, &spec, prompts, &context.talk).await
    };
    let submitted = (context.interrupt)
        .or("interrupted: the same command submits it again", work)
        .await?;
    for warning in &submitted.warnings {
        context.talk.warn(warning);
    }
    let batch = &submitted.batch;
    match args.json {
        true => table::print([batch_view::json(batch, Runner::Server).to_string()])?,
        false => table::print([batch.id.as_str()])?,
    }
    Ok(ExitCode::Success)
}
