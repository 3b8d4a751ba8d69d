//! A pilot: some jobs of an input, spread over it, computed first and shown, and the rest only on consent.
//!
//! The pilot is a batch of its own until the whole input has one, which takes its answers over: nothing is computed
//! twice, and a pilot whose rest was refused is kept for the day that it is not.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};

use anyhow::Context as _;
use rbee_queue::batches::{PageRenderer, Submission};
use rbee_queue::jsonl::{Lines, RawLine, Rendering, Shape, Survey};
use rbee_queue::{Batch, JobIndex};
use serde_json::Value;

use super::claim::{Claim, Start, reload};
use super::input::Input;
use super::models::RunModels;
use super::watch::Computed;
use super::{NOTHING_KEPT, Run};
use crate::batch_view::counted;
use crate::batches_home::OWNER;
use crate::failure::Failure;
use crate::progress::taken;

/// Jobs of a pilot that are shown.
const MOST_SHOWN: usize = 1_000;
/// Characters of a prompt or an answer that are shown.
const SHOWN_CHARS: usize = 100;
/// The user's terminal, wherever the prompts come from.
const TERMINAL: &str = "/dev/tty";

impl Run<'_> {
    /// Computes and shows the pilot, and asks. Returns the batch whose answers the whole one takes over: a pilot that is
    /// kept, whether one is wanted this time or not.
    pub(super) async fn pilot(
        &self,
        survey: &Survey,
        models: &RunModels,
        key: &str,
    ) -> Result<Option<Batch>, Failure> {
        let store = self.home.store();
        let pilot_key = format!("pilot:{key}");
        let mut kept = None;
        let mut begun = false;
        if self.start != Start::Fresh {
            kept = store.batch_by_key(OWNER, &pilot_key).await?;
            begun = store.batch_by_key(OWNER, key).await?.is_some();
        }
        let wish = self.order.pilot.filter(|wish| wish.jobs < survey.jobs);
        let Some(wish) = wish.filter(|_| !begun) else {
            return Ok(kept);
        };
        let picked = picked(survey.jobs, wish.jobs, self.spec.seed);
        let (input, lines) = self.gather(&picked)?;
        // A pilot of another size gives its answers to this one.
        let other = kept.filter(|kept| kept.counts.total != lines);
        if let Some(other) = &other {
            store.batch_free_key(other.no).await?;
        }
        let submission = Submission {
            name: Some(input.name()),
            ..self.submission(models, pilot_key, None)
        };
        let claim = self.claim(&input, submission);
        let claim = self.context.interrupt.or(NOTHING_KEPT, claim).await?;
        let id = claim.batch().id.clone();
        let mut computed = Computed::default();
        if let Claim::Open { batch, lock, .. } = claim {
            if let Some(other) = &other {
                self.take_over(&batch, Some(other)).await?;
            }
            let batch = reload(&self.home.batches, &id).await?;
            computed = self.compute(models, &batch).await?;
            drop(lock);
        }
        let pilot = reload(&self.home.batches, &id).await?;
        self.show(&pilot).await?;
        let rest = survey.jobs - wish.jobs;
        self.say_what_comes(computed, rest);
        if !wish.consent {
            self.ask(wish.jobs, rest).await?;
        }
        Ok(Some(pilot))
    }

    /// The picked lines in a file of their own, and how many they are.
    fn gather(&self, picked: &[u64]) -> Result<(Input, u64), Failure> {
        let spool = self.context.data()?.spool()?;
        let mut file = tempfile::tempfile_in(spool).context("cannot make a temporary file")?;
        let reader = self.input.reader(&self.context.talk, "reading")?;
        let mut lines = Lines::new(reader, self.spec.options.max_line_bytes);
        let mut wanted = picked.iter().copied().peekable();
        let (mut index, mut gathered) = (0, 0);
        while let Some(next) = wanted.peek().copied() {
            let Some((_, line)) = lines.next_line()? else {
                break;
            };
            if index == next {
                wanted.next();
                // A line over the limit is its own error in the whole batch, and tells nothing here.
                if let RawLine::Bytes(bytes) = line {
                    file.write_all(bytes)?;
                    file.write_all(b"\n")?;
                    gathered += 1;
                }
            }
            index += 1;
        }
        let label = format!("{} (pilot)", self.input.name());
        Ok((Input::gathered(file, label), gathered))
    }

    /// Each job and its answer, in a line or two on stderr.
    async fn show(&self, pilot: &Batch) -> Result<(), Failure> {
        let store = self.home.store();
        let page = store
            .results_page(pilot.no, JobIndex(0), MOST_SHOWN)
            .await?;
        let rendering = Rendering {
            shape: Some(Shape::Short),
            ..Rendering::default()
        };
        let renderer = PageRenderer::new(pilot.clone(), rendering);
        let talk = &self.context.talk;
        for job in &page.jobs {
            let Some(rendered) = renderer.render(job) else {
                continue;
            };
            let result: Value = serde_json::from_str(&rendered.line)?;
            let answer = match (&result["text"], &result["error"]["message"]) {
                (Value::String(text), _) => one_line(text),
                (_, Value::String(message)) => format!("error: {}", one_line(message)),
                _ => "no text".to_owned(),
            };
            talk.line(&format!("{}\n  {answer}", one_line(&job.line)));
        }
        Ok(())
    }

    fn say_what_comes(&self, computed: Computed, rest: u64) {
        if computed.jobs == 0 {
            return;
        }
        let a_job = computed.elapsed.div_f64(computed.jobs as f64);
        let all = a_job.mul_f64(rest as f64);
        let (jobs, rest) = (counted(computed.jobs, "job"), counted(rest, "job"));
        self.context.talk.line(&format!(
            "{jobs} in {}; the other {rest} may take about {}",
            taken(computed.elapsed),
            taken(all)
        ));
    }

    async fn ask(&self, jobs: u64, rest: u64) -> Result<(), Failure> {
        let terminal = File::options().read(true).write(true).open(TERMINAL);
        let terminal = terminal.ok().filter(|_| self.context.talk.is_terminal());
        let Some(terminal) = terminal else {
            return Err(Failure::usage(format!(
                "{} of the pilot are kept, and nobody can be asked about the other {rest}: the same command with --yes \
                 computes them",
                counted(jobs, "job")
            )));
        };
        let question = format!("compute the other {}? [y/N] ", counted(rest, "job"));
        let asking = async {
            let answer = tokio::task::spawn_blocking(move || -> std::io::Result<String> {
                (&terminal).write_all(question.as_bytes())?;
                let mut answer = String::new();
                BufReader::new(&terminal).read_line(&mut answer)?;
                Ok(answer)
            });
            Ok(answer.await?.context("cannot ask on the terminal")?)
        };
        let answer = self.context.interrupt.or(self.kept(), asking).await?;
        match answer.trim().to_lowercase().as_str() {
            "y" | "yes" => Ok(()),
            _ => Err(Failure::Interrupted(
                "stopped behind the pilot, whose answers are kept; the same command asks again"
                    .to_owned(),
            )),
        }
    }
}

/// Which of `total` jobs are picked: one of each of `count` equal parts of the input, by chance that the seed decides.
fn picked(total: u64, count: u64, seed: u64) -> Vec<u64> {
    let part = |at: u64| (u128::from(at) * u128::from(total) / u128::from(count)) as u64;
    (0..count)
        .map(|at| {
            let (from, to) = (part(at), part(at + 1));
            let chance = rbee_worker::engine::randomness::mix(seed ^ (at + 1));
            from + chance % (to - from).max(1)
        })
        .collect()
}

fn one_line(text: &str) -> String {
    crate::commands::diff::words::shortened(text, SHOWN_CHARS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_job_of_each_part_is_picked_and_the_seed_decides_which() {
        for (total, count) in [(1000, 20), (7, 3), (21, 20), (5, 1)] {
            let jobs = picked(total, count, 3);
            assert_eq!(jobs.len() as u64, count);
            assert!(jobs.is_sorted() && jobs.windows(2).all(|pair| pair[0] < pair[1]));
            assert!(jobs.iter().all(|job| *job < total), "{jobs:?}");
            for (at, job) in jobs.iter().enumerate() {
                let part = *job as u128 * u128::from(count) / u128::from(total);
                assert!((part as i64 - at as i64).abs() <= 1, "{jobs:?}");
            }
        }
        assert_eq!(picked(1000, 20, 3), picked(1000, 20, 3));
        assert_ne!(picked(1000, 20, 3), picked(1000, 20, 4));
    }
}
