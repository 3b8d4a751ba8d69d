//! `rbee run`: answers a file of prompts on this machine.
//!
//! The way: input and flags -> survey -> models -> claim (new, resumed or finished batch) -> compute -> results file ->
//! summary. What is finished is in the store at every moment; everything here can be stopped and begun again.

mod args;
mod claim;
mod compute;
pub mod input;
pub mod models;
mod summary;
mod watch;

pub use args::RunArgs;

use std::path::PathBuf;

use rbee_queue::batches::Submission;
use rbee_queue::jsonl::{ReadError, Rendering, Survey, survey};
use rbee_queue::{Batch, BatchSpec, Priority, RunKey};

use crate::args::Global;
use crate::batch_args::FormatChoice;
use crate::batch_spec::batch_spec;
use crate::batches_home::{BatchesHome, OWNER};
use crate::blame::blame;
use crate::commands::Context;
use crate::crash_journal::CrashJournal;
use crate::engine_args::EngineKind;
use crate::engine_host;
use crate::exit_code::ExitCode;
use crate::failure::{Failure, Outcome};
use crate::models_home;
use crate::output::{DASH, default_results_path};
use crate::paths::DataDir;
use crate::results::{self, Destinations, Written};
use crate::supervisor::{self, Child, Supervised};
use crate::talk::Talk;
use claim::{Claim, Start, Wanted, claim};
use compute::Compute;
use input::Input;
use models::RunModels;
use summary::Summary;

/// What Ctrl-C means before the batch is in the store.
const NOTHING_KEPT: &str = "interrupted before anything was computed";
/// What it means while jobs run.
const RESUMES: &str =
    "interrupted: what is finished is kept, and the same command goes on from there";
const RESUMES_WITHOUT_FRESH: &str = "interrupted: what is finished is kept, and the same command \
     without --fresh goes on from there";

/// The parent's part: reads what can be read only once, and starts the child that runs the file.
pub async fn supervise(global: &Global, args: &RunArgs, talk: &Talk) -> Outcome {
    batch_spec(&args.batch, args.engine.kv)?;
    let data = DataDir::open(global.data_dir.as_deref())?;
    let spooled = Input::open(&args.input, &data)?.into_spooled();
    supervisor::supervise(talk, Supervised::run(spooled)).await
}

/// The child's part: runs the file, or goes on where the same command stopped.
pub async fn run(context: &Context, args: RunArgs, child: Child) -> Outcome {
    let spec = batch_spec(&args.batch, args.engine.kv)?;
    let input = if child.input_on_stdin {
        Input::spooled()?
    } else {
        Input::open(&args.input, &context.data()?)?
    };
    let destinations = destinations(&args, &input)?;
    destinations.check_writable()?;
    let home = context.open_store().await?;
    let start = match (child.after_crash, args.fresh) {
        (true, _) => Start::AfterCrash,
        (false, true) => Start::Fresh,
        (false, false) => Start::Usual,
    };
    let run = Run {
        context,
        args: &args,
        spec,
        input,
        destinations,
        home: &home,
        start,
    };
    let (journal, running_at_crash) = CrashJournal::open(child.journal)?;
    blame(&home.batches, &running_at_crash, &context.talk).await?;
    let code = run.perform(journal).await?;
    home.close().await;
    Ok(code)
}

fn destinations(args: &RunArgs, input: &Input) -> Result<Destinations, Failure> {
    let output = match (&args.output, input.path()) {
        (Some(given), _) => given.clone(),
        (None, Some(path)) => default_results_path(path),
        (None, None) => PathBuf::from(DASH),
    };
    Destinations::choose(&output, args.errors.as_deref(), input.path())
}

/// One run, checked and ready to begin.
struct Run<'a> {
    context: &'a Context,
    args: &'a RunArgs,
    spec: BatchSpec,
    input: Input,
    destinations: Destinations,
    home: &'a BatchesHome,
    start: Start,
}

impl Run<'_> {
    async fn perform(&self, journal: CrashJournal) -> Outcome {
        let talk = &self.context.talk;
        self.home.batches.sweep().await?;
        let (survey, models) = self.context.interrupt.or(NOTHING_KEPT, self.look()).await?;
        let claim = self
            .context
            .interrupt
            .or(NOTHING_KEPT, self.claim(&survey, &models))
            .await?;
        announce(talk, &claim, self.start);
        let id = claim.batch().id.clone();
        let mut summary = Summary::new(claim.resumed());
        if let Claim::Open { batch, lock, .. } = claim {
            let compute = Compute {
                context: self.context,
                args: &self.args.engine,
                batches: &self.home.batches,
                sources: models.sources,
                kept: self.kept(),
            };
            summary.computed = compute.run(&batch, journal).await?;
            drop(lock);
        }
        let batch = claim::reload(&self.home.batches, &id).await?;
        let written = self.write(&batch).await?;
        summary.tell(talk, &batch, &written, &self.destinations);
        if self.args.json {
            summary.print(talk, &batch, &written, &self.destinations)?;
        }
        Ok(if written.failed > 0 {
            ExitCode::SomeFailed
        } else {
            ExitCode::Success
        })
    }

    /// What Ctrl-C means while jobs run.
    fn kept(&self) -> &'static str {
        if self.args.fresh {
            RESUMES_WITHOUT_FRESH
        } else {
            RESUMES
        }
    }

    /// Reads the input once and resolves the models that it asks for.
    async fn look(&self) -> Result<(Survey, RunModels), Failure> {
        let (reader, options) = (
            self.input.reader(&self.context.talk, "reading")?,
            self.spec.options.clone(),
        );
        let survey = tokio::task::spawn_blocking(move || survey(reader, &options))
            .await?
            .map_err(|error| read_failure(error, &self.input))?;
        if self.args.engine.engine == EngineKind::Stub {
            let models = RunModels::stubs(&survey.models);
            return Ok((survey, models));
        }
        let store = models_home::open(&self.context.data()?)?;
        let usual = &self.spec.options.model;
        let models = RunModels::resolve(&store, &survey.models, usual, &self.context.talk).await?;
        Ok((survey, models))
    }

    async fn claim(&self, survey: &Survey, models: &RunModels) -> Result<Claim, Failure> {
        let numerics = engine_host::numerics(&self.args.engine);
        let identities = models.identities();
        let key = RunKey {
            input: &survey.digest,
            spec: &self.spec,
            models: &identities,
            numerics: (!self.spec.any_numerics).then_some(numerics.as_str()),
        };
        let submission = Submission {
            owner: OWNER.to_owned(),
            name: Some(self.input.name()),
            key: Some(key.to_key()),
            priority: Priority::Batch,
            pinned_node: None,
            on_done: None,
            spec: self.spec.clone(),
            models: models.list.clone(),
            digest: Some(survey.digest),
        };
        claim(
            &self.home.batches,
            Wanted {
                submission,
                input: &self.input,
                talk: &self.context.talk,
                start: self.start,
            },
        )
        .await
    }

    async fn write(&self, batch: &Batch) -> Result<Written, Failure> {
        let shape = self.args.batch.format.and_then(FormatChoice::shape);
        let rendering = Rendering {
            shape,
            with_stats: self.args.with_stats,
            ..Rendering::default()
        };
        let work = results::write(&self.home.batches, &batch.id, rendering, &self.destinations);
        self.context.interrupt.or(self.kept(), work).await
    }
}

fn announce(talk: &Talk, claim: &Claim, start: Start) {
    let counts = claim.batch().counts;
    let done = counts.total - counts.unfinished();
    match claim {
        Claim::Finished(batch) => talk.note(&format!(
            "the results of all {} jobs are kept already, in {}: nothing is computed; --fresh computes anew",
            counts.total, batch.id
        )),
        Claim::Open { resumed: true, .. } => {
            talk.note(&format!("resumed: {done} of {} already done", counts.total));
        }
        Claim::Open { resumed: false, batch, .. } => {
            let anew = if start == Start::Fresh { " anew" } else { "" };
            talk.note(&format!("{} jobs{anew}, {}", counts.total, batch.id));
        }
    }
}

/// An input that is no list of jobs is wrong usage; one that cannot be read is an error.
pub fn read_failure(error: ReadError, input: &Input) -> Failure {
    let sentence = format!("{}: {error}", input.name());
    match error {
        ReadError::Io(_) => Failure::Program(anyhow::anyhow!(sentence)),
        _ => Failure::usage(sentence),
    }
}
