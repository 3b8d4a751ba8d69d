//! `rbee verify`: computes some jobs of a batch again and compares the bytes.
//!
//! Owns the computing and the comparing. Which jobs is in `sample`, where they are read in `subject`.

mod sample;
pub mod subject;

use std::collections::BTreeMap;

use anyhow::{Context as _, anyhow};
use clap::{Args, ValueEnum};
use rbee_queue::jsonl::parse_line;
use rbee_queue::{BatchId, BatchModel, BatchSpec, ModelNo, Outcome as JobOutcome, ResultRecord};
use rbee_scheduler::http::types::KeptJob;
use rbee_worker::engine::{EngineEvent, EngineJob, Priority};
use serde_json::json;

use crate::batch_view::{counted, input_lines};
use crate::commands::Context;
use crate::engine_args::{EngineArgs, EngineKind, KvChoice, MachineArgs};
use crate::engine_host::{EngineHost, Source, stub_model};
use crate::exit_code::ExitCode;
use crate::failure::{Failure, Outcome};
use crate::table;
use sample::Sample;
use subject::Subject;

/// Jobs that the engine gets at once.
const JOBS_WITH_ENGINE: usize = 256;
/// Jobs of the sample that are read at once.
const JOBS_A_READ: usize = 100;
/// Line numbers that are told.
const LINES_SHOWN: usize = 20;

/// Compute some jobs of a batch again and compare the bytes with what is kept
///
/// It is computed on this machine, with the model that the batch was computed with, wherever the batch is kept. Exits
/// with 0 if every result is the same, with 1 if one differs.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Examples:
  rbee verify last --sample 1%
  rbee verify batch_019a --sample 20 --threads 1
  RBEE_SERVER=http://host:7835 rbee verify last      what other machines computed, computed again on this one")]
pub struct VerifyArgs {
    /// The batch: its id, the beginning of its id, or `last`
    #[arg(value_name = "ID")]
    pub id: String,

    /// How many jobs: a share of them or a number, spread evenly over the batch
    #[arg(long, value_name = "N%|N", default_value = "1%")]
    pub sample: Sample,

    /// Print what was found as one JSON object
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub machine: MachineArgs,
}

/// Computes the sample again.
pub async fn run(context: &Context, args: VerifyArgs) -> Outcome {
    let subject = Subject::open(context, &args.id).await?;
    let jobs = sampled(&subject, args.sample).await?;
    let mut found = Found {
        skipped: jobs.skipped,
        ..Found::default()
    };
    let work = async {
        for (no, of_model) in jobs.by_model {
            let model = jobs.models.iter().find(|model| model.no == no);
            let model = model.context(
                "the store is damaged: a job names a model that its batch does not have",
            )?;
            Again {
                context,
                machine: &args.machine,
                spec: jobs
                    .spec
                    .as_ref()
                    .expect("jobs come with their batch's spec"),
                model,
            }
            .compare(of_model, &mut found)
            .await?;
        }
        Ok(())
    };
    context
        .interrupt
        .or("interrupted: nothing was changed", work)
        .await?;
    found.tell(context, subject.id(), args.json)?;
    subject.close().await;
    Ok(if found.different.is_empty() {
        ExitCode::Success
    } else {
        ExitCode::Error
    })
}

/// The jobs of a sample that have something to compare, with what their batch was made with.
#[derive(Default)]
struct Sampled {
    by_model: BTreeMap<ModelNo, Vec<KeptJob>>,
    spec: Option<BatchSpec>,
    models: Vec<BatchModel>,
    /// Bad lines, and jobs without a result.
    skipped: u64,
}

async fn sampled(subject: &Subject, sample: Sample) -> Result<Sampled, Failure> {
    let positions: Vec<u64> = sample.positions(subject.total()).collect();
    let mut sampled = Sampled::default();
    for chunk in positions.chunks(JOBS_A_READ) {
        let read = subject.jobs(chunk).await?;
        sampled.spec = Some(read.spec);
        sampled.models = read.models;
        sampled.skipped += (chunk.len() - read.jobs.len()) as u64;
        for job in read.jobs {
            match job.model.filter(|_| can_compare(&job)) {
                Some(model) => sampled.by_model.entry(model).or_default().push(job),
                None => sampled.skipped += 1,
            }
        }
    }
    Ok(sampled)
}

/// Whether a job has a verdict about itself; failures of circumstance say nothing about bytes.
fn can_compare(job: &KeptJob) -> bool {
    (job.record.as_ref()).is_some_and(|record| match &record.outcome {
        JobOutcome::Completed(_) => true,
        JobOutcome::Failed(error) => !error.is_circumstance(),
    })
}

/// What came of it.
#[derive(Default)]
struct Found {
    same: u64,
    /// Input line numbers of jobs with other bytes.
    different: Vec<u64>,
    skipped: u64,
}

impl Found {
    fn tell(&self, context: &Context, id: &BatchId, json: bool) -> Result<(), Failure> {
        if json {
            let value = json!({"id": id, "same": self.same, "different": self.different.len(),
                               "different_lines": self.different, "skipped": self.skipped});
            return table::print([value.to_string()]);
        }
        let skipped = match self.skipped {
            0 => String::new(),
            skipped => format!(", {skipped} without an answer to compare"),
        };
        let same = counted(self.same, "job");
        if self.different.is_empty() {
            context
                .talk
                .note(&format!("{same} computed again: the same bytes{skipped}"));
            return Ok(());
        }
        let different = self.different.len() as u64;
        let shown = &self.different[..self.different.len().min(LINES_SHOWN)];
        let (at, different) = (input_lines(shown, different), counted(different, "job"));
        context.talk.line(&format!(
            "{different} with other bytes, of {at}; {same} with the same{skipped}"
        ));
        Ok(())
    }
}

/// One model of a batch, loaded to compute again.
struct Again<'a> {
    context: &'a Context,
    machine: &'a MachineArgs,
    spec: &'a BatchSpec,
    model: &'a BatchModel,
}

impl Again<'_> {
    async fn compare(&self, jobs: Vec<KeptJob>, found: &mut Found) -> Result<(), Failure> {
        let mut host = self.load().await?;
        let mut waiting = jobs.iter().enumerate();
        let mut running = 0;
        loop {
            while running < JOBS_WITH_ENGINE
                && let Some((id, job)) = waiting.next()
            {
                host.engine
                    .submit(self.engine_job(id as u64, job)?)
                    .map_err(anyhow::Error::from)?;
                running += 1;
            }
            if running == 0 {
                break;
            }
            let event = host
                .events
                .recv()
                .await
                .context("the engine stopped: RBEE_LOG=debug may show why")?;
            if let EngineEvent::Finished { id, record, .. } = event {
                running -= 1;
                let job = &jobs[id as usize];
                let stored = job.record.as_ref().map(ResultRecord::to_json);
                if stored.as_deref() == Some(record.to_json().as_str()) {
                    found.same += 1;
                } else {
                    found.different.push(job.line_number);
                }
            }
        }
        host.stop().await;
        Ok(())
    }

    fn engine_job(&self, id: u64, job: &KeptJob) -> Result<EngineJob, Failure> {
        let request = parse_line(job.line.as_bytes(), &self.spec.options).request;
        let request = request.map_err(|error| anyhow!("line {}: {error}", job.line_number))?;
        Ok(EngineJob {
            id,
            request,
            job_key: job.key,
            batch_seed: self.spec.seed,
            template_date: self.spec.template_date.clone(),
            priority: Priority::Batch,
            stream: false,
        })
    }

    /// The very model that the batch was computed with, on kernels that give the same bytes.
    async fn load(&self) -> Result<EngineHost, Failure> {
        let name = &self.model.requested;
        let wanted = self
            .model
            .sha256
            .with_context(|| format!("the model {name} was not to be had when the batch ran"))?;
        let kv = KvChoice::from_str(&self.spec.kv, false).map_err(|error| anyhow!(error))?;
        let engine = if wanted == stub_model(name) {
            EngineKind::Stub
        } else {
            EngineKind::Model
        };
        let args = EngineArgs {
            machine: self.machine.clone(),
            kv,
            engine,
            stub_token_us: 0,
        };
        let source = Source::resolve(self.context, name, &args).await?;
        if source.identity() != wanted {
            let now = source.identity();
            let advice = format!(
                "{name} is another file now (sha256 {now}, then {wanted}): bring the old one back"
            );
            return Err(anyhow!(advice).into());
        }
        let host = EngineHost::start(source, &args, &self.context.talk).await?;
        if let Some(then) = self
            .model
            .numerics
            .as_ref()
            .filter(|then| **then != host.numerics)
        {
            let now = &host.numerics;
            let advice = format!(
                "{name} was computed with numerics {then} and this machine has {now}: equal bytes are not to be expected"
            );
            return Err(anyhow!(advice).into());
        }
        Ok(host)
    }
}
