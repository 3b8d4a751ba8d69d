//! `rbee run`: answers a file of prompts on this machine.
//!
//! The way: input and flags -> survey -> models -> pilot, if one is wanted -> claim (new, resumed or finished batch) ->
//! compute -> results file -> summary. What is finished is in the store at every moment; everything here can be stopped
//! and begun again.

mod args;
mod claim;
mod compute;
pub mod input;
pub mod models;
mod order;
mod pilot;
mod summary;
mod watch;

pub use args::RunArgs;
pub use order::Order;

use std::fs::File;

use rbee_queue::batches::Submission;
use rbee_queue::jsonl::{ReadError, Rendering, Survey, survey};
use rbee_queue::{Batch, BatchSpec, Priority, RunKey};

use crate::args::Global;
use crate::batch_spec::batch_spec;
use crate::batch_view::counted;
use crate::batches_home::{BatchesHome, OWNER};
use crate::blame::blame;
use crate::commands::Context;
use crate::crash_journal::CrashJournal;
use crate::engine_args::EngineKind;
use crate::engine_host;
use crate::exit_code::ExitCode;
use crate::failure::{Failure, Outcome};
use crate::models_home;
use crate::paths::DataDir;
use crate::results::{self, Destinations, Written};
use crate::supervisor::{self, Child, Supervised};
use crate::talk::Talk;
use claim::{Claim, Start, Wanted, claim};
use compute::Compute;
use input::Input;
use models::RunModels;
use summary::Summary;
use watch::Computed;

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
    args.living.check()?;
    args.living.be_nice()?;
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
    perform(context, spec, input, Order::from(args), child).await
}

/// Runs an input with what its batch is made with.
pub async fn perform(
    context: &Context,
    spec: BatchSpec,
    input: Input,
    order: Order,
    child: Child,
) -> Outcome {
    let destinations = order.destinations(&input)?;
    destinations.check_writable()?;
    let home = context.open_store().await?;
    let start = match (child.after_crash, order.fresh) {
        (true, _) => Start::AfterCrash,
        (false, true) => Start::Fresh,
        (false, false) => Start::Usual,
    };
    let run = Run {
        context,
        order: &order,
        spec,
        input,
        destinations,
        home: &home,
        start,
        journal: child.journal,
    };
    let (_, running_at_crash) = run.journal()?;
    blame(&home.batches, &running_at_crash, &context.talk).await?;
    let code = run.perform().await?;
    home.close().await;
    Ok(code)
}

/// One run, checked and ready to begin.
struct Run<'a> {
    context: &'a Context,
    order: &'a Order,
    spec: BatchSpec,
    input: Input,
    destinations: Destinations,
    home: &'a BatchesHome,
    start: Start,
    /// What the next process finds after a crash.
    journal: File,
}

impl Run<'_> {
    async fn perform(&self) -> Outcome {
        let talk = &self.context.talk;
        self.home.batches.sweep().await?;
        let (survey, models) = self.context.interrupt.or(NOTHING_KEPT, self.look()).await?;
        self.check_models(&models)?;
        let key = self.key(&survey, &models);
        let pilot = self.pilot(&survey, &models, &key).await?;
        let submission = self.submission(&models, key, Some(survey.digest));
        let claim = self.claim(&self.input, submission);
        let claim = self.context.interrupt.or(NOTHING_KEPT, claim).await?;
        let mut summary = Summary::new(claim.resumed());
        if let Claim::Open { batch, .. } = &claim {
            let taking = self.take_over(batch, pilot.as_ref());
            summary.taken_over = self.context.interrupt.or(self.kept(), taking).await?;
        }
        announce(talk, &claim, self.start);
        let id = claim.batch().id.clone();
        if let Claim::Open { lock, .. } = claim {
            let batch = claim::reload(&self.home.batches, &id).await?;
            summary.computed = self.compute(&models, &batch).await?;
            drop(lock);
        }
        let batch = claim::reload(&self.home.batches, &id).await?;
        let written = self.write(&batch).await?;
        summary.tell(talk, &batch, &written, &self.destinations);
        if self.order.json {
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
        if self.order.fresh {
            RESUMES_WITHOUT_FRESH
        } else {
            RESUMES
        }
    }

    /// A journal with nothing in it, and what the process before this one left there.
    fn journal(&self) -> Result<(CrashJournal, Vec<rbee_queue::queue::Held>), Failure> {
        Ok(CrashJournal::open(self.journal.try_clone()?)?)
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
        if self.order.engine.engine == EngineKind::Stub {
            let models = RunModels::stubs(&survey.models);
            return Ok((survey, models));
        }
        let store = models_home::open(&self.context.data()?)?;
        let usual = &self.spec.options.model;
        let models = RunModels::resolve(&store, &survey.models, usual, &self.context.talk).await?;
        Ok((survey, models))
    }

    /// What is run again must be run with the very models of the first time.
    fn check_models(&self, models: &RunModels) -> Result<(), Failure> {
        let then = self.order.takes_over.iter().flat_map(|old| &old.models);
        for then in then.filter(|model| model.sha256.is_some()) {
            let name = &then.requested;
            let now = models.list.iter().find(|model| model.requested == *name);
            if now.is_some_and(|now| now.sha256 != then.sha256) {
                return Err(Failure::usage(format!(
                    "{name} is another file now than it was then: bring the old one back, or `rbee run` the prompts anew"
                )));
            }
        }
        Ok(())
    }

    /// Under which the same run is found again.
    fn key(&self, survey: &Survey, models: &RunModels) -> String {
        let numerics = engine_host::numerics(&self.order.engine);
        let identities = models.identities();
        let key = RunKey {
            input: &survey.digest,
            spec: &self.spec,
            models: &identities,
            numerics: (!self.spec.any_numerics).then_some(numerics.as_str()),
        };
        match &self.order.takes_over {
            Some(old) => format!("rerun:{}:{}", old.id, key.to_key()),
            None => key.to_key(),
        }
    }

    fn submission(&self, models: &RunModels, key: String, digest: Option<[u8; 32]>) -> Submission {
        Submission {
            owner: OWNER.to_owned(),
            name: Some(self.input.name()),
            key: Some(key),
            priority: Priority::Batch,
            pinned_node: None,
            on_done: None,
            spec: self.spec.clone(),
            models: models.list.clone(),
            digest,
            asked: None,
        }
    }

    async fn claim(&self, input: &Input, submission: Submission) -> Result<Claim, Failure> {
        claim(
            &self.home.batches,
            Wanted {
                submission,
                input,
                talk: &self.context.talk,
                start: self.start,
            },
        )
        .await
    }

    /// Answers that are kept already: of the pilot, and of the batch that is run again.
    async fn take_over(&self, batch: &Batch, pilot: Option<&Batch>) -> Result<u64, Failure> {
        let batches = &self.home.batches;
        let numerics = engine_host::numerics(&self.order.engine);
        let mut taken = 0;
        for old in pilot.into_iter().chain(&self.order.takes_over) {
            taken += batches.take_over(old, batch, Some(&numerics)).await?;
        }
        if let Some(pilot) = pilot {
            // All of it is in the batch now.
            batches.purge(pilot).await?;
        }
        if let Some(old) = self.order.takes_over.as_ref().filter(|_| pilot.is_none()) {
            let jobs = counted(taken, "answer");
            self.context
                .talk
                .note(&format!("{jobs} taken over from {}", old.id));
        }
        Ok(taken)
    }

    async fn compute(&self, models: &RunModels, batch: &Batch) -> Result<Computed, Failure> {
        let compute = Compute {
            context: self.context,
            args: &self.order.engine,
            living: &self.order.living,
            batches: &self.home.batches,
            sources: models.sources.clone(),
            kept: self.kept(),
        };
        let (journal, _) = self.journal()?;
        compute.run(batch, journal).await
    }

    async fn write(&self, batch: &Batch) -> Result<Written, Failure> {
        let rendering = Rendering {
            shape: self.order.shape,
            with_stats: self.order.with_stats,
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
            let jobs = counted(counts.total, "job");
            talk.note(&format!("{jobs}{anew}, {}", batch.id));
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
