//! `rbee verify`: computes some jobs of a batch again and compares the bytes.

use std::collections::BTreeMap;

use anyhow::{Context as _, anyhow};
use clap::{Args, ValueEnum};
use rbee_queue::jsonl::parse_line;
use rbee_queue::store::{Store, StoredJob};
use rbee_queue::{Batch, BatchModel, JobIndex, JobRef, ModelNo, Outcome as JobOutcome};
use rbee_worker::engine::{EngineEvent, EngineJob, Priority};
use serde_json::json;

use crate::batch_choice;
use crate::batch_view::{counted, input_lines};
use crate::commands::Context;
use crate::engine_args::{EngineArgs, EngineKind, KvChoice, MachineArgs};
use crate::engine_host::{EngineHost, Source, stub_model};
use crate::exit_code::ExitCode;
use crate::failure::{Failure, Outcome};
use crate::table;

/// Jobs that the engine gets at once.
const JOBS_WITH_ENGINE: usize = 256;
/// Jobs of the sample that are read at once.
const JOBS_A_READ: usize = 1000;
/// Line numbers that are told.
const LINES_SHOWN: usize = 20;

/// Compute some jobs of a batch again and compare the bytes with what is kept
///
/// Exits with 0 if every result is the same, with 1 if one differs.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Examples:
  rbee verify last --sample 1%
  rbee verify batch_019a --sample 20 --threads 1")]
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

/// How much of a batch is looked at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Sample {
    /// A share, above 0 and at most 1.
    Share(f64),
    /// A number of jobs.
    Jobs(u64),
}

impl std::str::FromStr for Sample {
    type Err = String;

    fn from_str(text: &str) -> Result<Sample, String> {
        let bad = || "must be a share such as 1% or a number of jobs such as 20".to_owned();
        if let Some(percent) = text.strip_suffix('%') {
            let percent: f64 = percent.trim().parse().map_err(|_| bad())?;
            if !(percent > 0.0 && percent <= 100.0) {
                return Err("must be above 0% and at most 100%".to_owned());
            }
            return Ok(Sample::Share(percent / 100.0));
        }
        match text.parse() {
            Ok(0) | Err(_) => Err(bad()),
            Ok(jobs) => Ok(Sample::Jobs(jobs)),
        }
    }
}

impl Sample {
    /// Of `total` jobs at least one, at most all.
    pub fn count(self, total: u64) -> u64 {
        let wanted = match self {
            Sample::Share(share) => (total as f64 * share).ceil() as u64,
            Sample::Jobs(jobs) => jobs,
        };
        wanted.max(1).min(total)
    }

    /// Which of `total` jobs, spread evenly: the same ones each time.
    pub fn positions(self, total: u64) -> impl Iterator<Item = u64> {
        let count = self.count(total);
        (0..count).map(move |i| (u128::from(i) * u128::from(total) / u128::from(count)) as u64)
    }
}

/// Computes the sample again.
pub async fn run(context: &Context, args: VerifyArgs) -> Outcome {
    let home = context.open_store().await?;
    let batch = batch_choice::find(home.store(), &args.id).await?;
    let jobs = sampled(home.store(), &batch, args.sample).await?;
    let mut found = Found {
        skipped: jobs.skipped,
        ..Found::default()
    };
    let work = async {
        for (no, jobs) in jobs.by_model {
            let model = batch.models.iter().find(|model| model.no == no);
            let model = model.context(
                "the store is damaged: a job names a model that its batch does not have",
            )?;
            Again {
                context,
                machine: &args.machine,
                batch: &batch,
                model,
            }
            .compare(jobs, &mut found)
            .await?;
        }
        Ok(())
    };
    context
        .interrupt
        .or("interrupted: nothing was changed", work)
        .await?;
    home.close().await;
    found.tell(context, &batch, args.json)?;
    Ok(if found.different.is_empty() {
        ExitCode::Success
    } else {
        ExitCode::Error
    })
}

/// The jobs of a sample that have something to compare.
#[derive(Default)]
struct Sampled {
    by_model: BTreeMap<ModelNo, Vec<StoredJob>>,
    /// Bad lines, and jobs without a result.
    skipped: u64,
}

async fn sampled(store: &dyn Store, batch: &Batch, sample: Sample) -> Result<Sampled, Failure> {
    let positions: Vec<u64> = sample.positions(batch.counts.total).collect();
    let mut sampled = Sampled::default();
    for chunk in positions.chunks(JOBS_A_READ) {
        let refs: Vec<JobRef> = chunk
            .iter()
            .map(|index| JobRef {
                batch: batch.no,
                index: JobIndex(*index),
            })
            .collect();
        for job in store.job_get(&refs).await? {
            match job {
                Some(job) if can_compare(&job) => {
                    let model = job.model.expect("a job that can be compared has a model");
                    sampled.by_model.entry(model).or_default().push(job);
                }
                _ => sampled.skipped += 1,
            }
        }
    }
    Ok(sampled)
}

/// Whether a job has a model and a verdict about itself; failures of circumstance say nothing about bytes.
fn can_compare(job: &StoredJob) -> bool {
    let verdict = job
        .result
        .as_ref()
        .is_some_and(|result| match &result.record.outcome {
            JobOutcome::Completed(_) => true,
            JobOutcome::Failed(error) => !error.is_circumstance(),
        });
    verdict && job.model.is_some()
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
    fn tell(&self, context: &Context, batch: &Batch, json: bool) -> Result<(), Failure> {
        if json {
            let value = json!({"id": batch.id, "same": self.same, "different": self.different.len(),
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
    batch: &'a Batch,
    model: &'a BatchModel,
}

impl Again<'_> {
    async fn compare(&self, jobs: Vec<StoredJob>, found: &mut Found) -> Result<(), Failure> {
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
                let stored = job.result.as_ref().map(|result| result.record.to_json());
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

    fn engine_job(&self, id: u64, job: &StoredJob) -> Result<EngineJob, Failure> {
        let request = parse_line(job.line.as_bytes(), &self.batch.spec.options).request;
        let request = request.map_err(|error| anyhow!("line {}: {error}", job.line_number))?;
        Ok(EngineJob {
            id,
            request,
            job_key: job.key,
            batch_seed: self.batch.spec.seed,
            template_date: self.batch.spec.template_date.clone(),
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
        let kv = KvChoice::from_str(&self.batch.spec.kv, false).map_err(|error| anyhow!(error))?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sample_is_a_share_or_a_number() {
        assert_eq!("1%".parse(), Ok(Sample::Share(0.01)));
        assert_eq!("100%".parse(), Ok(Sample::Share(1.0)));
        assert_eq!("20".parse(), Ok(Sample::Jobs(20)));
        for text in ["", "%", "0", "0%", "101%", "-1%", "NaN%", "1.5", "some"] {
            assert!(text.parse::<Sample>().is_err(), "{text} was taken");
        }
    }

    #[test]
    fn sample_takes_at_least_one_job_and_at_most_all() {
        assert_eq!(Sample::Share(0.01).count(24), 1);
        assert_eq!(Sample::Share(0.01).count(250), 3);
        assert_eq!(Sample::Jobs(100).count(24), 24);
        assert_eq!(Sample::Jobs(1).count(0), 0);
    }

    #[test]
    fn sample_is_spread_and_names_no_job_twice() {
        assert_eq!(
            Sample::Jobs(4).positions(10).collect::<Vec<_>>(),
            [0, 2, 5, 7]
        );
        assert_eq!(
            Sample::Share(1.0).positions(3).collect::<Vec<_>>(),
            [0, 1, 2]
        );
    }
}
