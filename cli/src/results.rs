//! Writing a batch's results: from the store, in input order, to where they are wanted.

use std::path::Path;
use std::time::Duration;

use rbee_queue::batches::PageRenderer;
use rbee_queue::jsonl::Rendering;
use rbee_queue::{Batch, BatchId, Batches, JobIndex, StoreError};

use crate::batch_view::{counted, input_lines};
use crate::failure::Failure;
use crate::output::{Sink, Target};

/// Missing lines that are named; beyond that they are counted.
pub const GAPS_NAMED: usize = 10;
/// Jobs of one read while a batch is followed.
const PAGE_JOBS: usize = 1_000;

/// Where the lines go.
#[derive(Debug, Clone)]
pub struct Destinations {
    pub results: Target,
    /// Failed lines go here instead of among the results.
    pub errors: Option<Target>,
}

impl Destinations {
    /// The places that were named, refused if one would destroy another or the `input`.
    pub fn choose(
        results: &Path,
        errors: Option<&Path>,
        input: Option<&Path>,
    ) -> Result<Destinations, Failure> {
        let chosen = Destinations {
            results: Target::new(results)?,
            errors: errors.map(Target::new).transpose()?,
        };
        for target in chosen.errors.iter().chain([&chosen.results]) {
            if let Some(input) = input.filter(|input| target.is_same_as(input)) {
                let input = input.display();
                return Err(Failure::usage(format!(
                    "{input} holds the prompts: the results must go to another file"
                )));
            }
        }
        if let (Some(errors), Some(results)) = (&chosen.errors, chosen.results.file())
            && errors.is_same_as(results)
        {
            let results = results.display();
            return Err(Failure::usage(format!(
                "{results} is named for results and for errors: name two files"
            )));
        }
        Ok(chosen)
    }

    /// Opens all of them for writing.
    pub fn open(&self) -> Result<Sinks, Failure> {
        Ok(Sinks {
            results: self.results.open()?,
            errors: self.errors.as_ref().map(Target::open).transpose()?,
        })
    }

    /// Fails if a file could not be put in its place, before hours are spent on what should go in.
    pub fn check_writable(&self) -> Result<(), Failure> {
        self.results.check_writable()?;
        Ok(self
            .errors
            .as_ref()
            .map_or(Ok(()), Target::check_writable)?)
    }
}

/// Where the lines go, open. Nothing counts before [`Sinks::finish`].
pub struct Sinks {
    pub results: Sink,
    pub errors: Option<Sink>,
}

impl Sinks {
    /// Hands over what is buffered; files appear under their names now.
    pub fn finish(self) -> Result<(), Failure> {
        // The errors first: a results file that is there means that all of it is there.
        if let Some(errors) = self.errors {
            errors.finish()?;
        }
        self.results.finish()
    }

    fn line(&mut self, line: &str, failed: bool) -> Result<(), Failure> {
        match &mut self.errors {
            Some(errors) if failed => errors.line(line),
            _ => self.results.line(line),
        }
    }
}

/// What was written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Written {
    pub results: u64,
    pub failed: u64,
    /// Jobs without a result yet.
    pub missing: u64,
    /// Input line numbers of the first of those.
    pub missing_lines: Vec<u64>,
}

impl Written {
    /// Counts a job without a result.
    fn miss(&mut self, line_number: u64) {
        self.missing += 1;
        if self.missing_lines.len() < GAPS_NAMED {
            self.missing_lines.push(line_number);
        }
    }

    /// What is missing, in words.
    pub fn gaps(&self) -> String {
        let (missing, at) = (
            counted(self.missing, "result"),
            input_lines(&self.missing_lines, self.missing),
        );
        let verb = if self.missing == 1 { "is" } else { "are" };
        format!("{missing} {verb} missing, of {at}")
    }
}

/// Writes every result there is. A file gets its name only when all was written.
pub async fn write(
    batches: &Batches,
    batch: &BatchId,
    rendering: Rendering,
    to: &Destinations,
) -> Result<Written, Failure> {
    write_into(batches, batch, rendering, to.open()?).await
}

/// The same to what is open already.
pub async fn write_into(
    batches: &Batches,
    batch: &BatchId,
    rendering: Rendering,
    mut to: Sinks,
) -> Result<Written, Failure> {
    let mut written = Written::default();
    let mut export = batches.export(batch, rendering).await?;
    while let Some(page) = export.next_page().await? {
        for line in page {
            let Some(rendered) = line.rendered else {
                written.miss(line.line_number);
                continue;
            };
            written.results += 1;
            written.failed += u64::from(rendered.failed);
            to.line(&rendered.line, rendered.failed)?;
        }
    }
    to.finish()?;
    Ok(written)
}

/// How often a batch that is followed is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Writes every result in input order, and waits at each gap until it is closed or the batch is done.
pub async fn follow(
    batches: &Batches,
    batch: &Batch,
    rendering: Rendering,
    to: &Destinations,
) -> Result<Written, Failure> {
    let mut to = to.open()?;
    let mut written = Written::default();
    let mut from = Some(JobIndex(0));
    while let Some(start) = from {
        // Whatever was finished when the batch was, is on the page that is read afterwards.
        let now = batches.store().batch_get(&batch.id).await?;
        let done = now.is_none_or(|batch| batch.status.is_terminal());
        let page = batches
            .store()
            .results_page(batch.no, start, PAGE_JOBS)
            .await?;
        // Read after the page: placements since may have pinned the numerics that lines show.
        let now = batches.store().batch_get(&batch.id).await?;
        let renderer = PageRenderer::new(now.ok_or(StoreError::NoSuchBatch)?, rendering);
        from = page.next;
        for job in &page.jobs {
            let Some(rendered) = renderer.render(job) else {
                if done {
                    written.miss(job.line_number);
                    continue;
                }
                from = Some(job.index);
                break;
            };
            written.results += 1;
            written.failed += u64::from(rendered.failed);
            to.line(&rendered.line, rendered.failed)?;
        }
        if from.is_some() && !done {
            to.results.flush()?;
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
    to.finish()?;
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_file_is_written_over_another_of_the_same_run() {
        let dir = tempfile::tempdir().unwrap();
        let input = dir.path().join("prompts.jsonl");
        std::fs::write(&input, "{}\n").unwrap();
        let (other, third) = (dir.path().join("a"), dir.path().join("b"));
        assert!(Destinations::choose(&other, Some(&third), Some(&input)).is_ok());
        assert!(Destinations::choose(&input, None, Some(&input)).is_err());
        assert!(Destinations::choose(&other, Some(&input), Some(&input)).is_err());
        assert!(Destinations::choose(&other, Some(&other), Some(&input)).is_err());
        assert!(Destinations::choose(Path::new("-"), Some(&other), None).is_ok());
    }

    #[test]
    fn gaps_name_the_first_lines() {
        let written = Written {
            missing: 3,
            missing_lines: vec![4, 5],
            ..Written::default()
        };
        assert_eq!(
            written.gaps(),
            "3 results are missing, of input lines 4, 5, …"
        );
    }
}
