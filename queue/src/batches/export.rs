//! A batch's results as output lines, in input order.
//!
//! Owns the paging: short reads, bounded memory, whatever the batch's size. Where the lines go is
//! the caller's.

use super::Batches;
use crate::batch::Batch;
use crate::ids::{BatchId, JobIndex};
use crate::jsonl::{Answer, Rendered, Renderer, Rendering};
use crate::store::{StoreError, StoredJob};

/// Jobs of one read.
const PAGE_JOBS: usize = 1_000;
/// Microseconds of a second.
const US_A_SECOND: i64 = 1_000_000;

/// One job of an export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportLine {
    /// Its place.
    pub index: JobIndex,
    /// Its physical input line.
    pub line_number: u64,
    /// Its output line; `None`: it has no result yet.
    pub rendered: Option<Rendered>,
}

/// An export under way.
pub struct Export<'a> {
    batches: &'a Batches,
    renderer: PageRenderer,
    next: Option<JobIndex>,
}

/// Turns stored jobs of one batch into output lines. It needs no store, so that pages can be rendered on other threads.
pub struct PageRenderer {
    batch: Batch,
    renderer: Renderer,
}

impl Batches {
    /// Begins an export of a batch from its first job on.
    pub async fn export(
        &self,
        batch: &BatchId,
        rendering: Rendering,
    ) -> Result<Export<'_>, StoreError> {
        // Read anew: placements since may have pinned the numerics that lines show.
        let batch = self
            .store
            .batch_get(batch)
            .await?
            .ok_or(StoreError::NoSuchBatch)?;
        Ok(Export {
            batches: self,
            renderer: PageRenderer::new(batch, rendering),
            next: Some(JobIndex(0)),
        })
    }
}

impl Export<'_> {
    /// The next jobs in input order; `None` after the last.
    pub async fn next_page(&mut self) -> Result<Option<Vec<ExportLine>>, StoreError> {
        let Some(from) = self.next else {
            return Ok(None);
        };
        let page = self
            .batches
            .store
            .results_page(self.renderer.batch.no, from, PAGE_JOBS)
            .await?;
        self.next = page.next;
        Ok(Some(page.jobs.iter().map(|job| self.line(job)).collect()))
    }

    fn line(&self, job: &StoredJob) -> ExportLine {
        ExportLine {
            index: job.index,
            line_number: job.line_number,
            rendered: self.renderer.render(job),
        }
    }
}

impl PageRenderer {
    /// A renderer for a batch. Lines show the numerics that `batch` has now.
    pub fn new(batch: Batch, rendering: Rendering) -> PageRenderer {
        let options = batch.spec.options.clone();
        let renderer = Renderer::new(options, batch.spec.seed, batch.shape, rendering);
        PageRenderer { batch, renderer }
    }

    /// A job's output line; `None`: it has no result yet.
    pub fn render(&self, job: &StoredJob) -> Option<Rendered> {
        let model = job
            .model
            .and_then(|no| self.batch.models.iter().find(|model| model.no == no));
        job.result.as_ref().map(|result| {
            self.renderer.render(&Answer {
                index: job.index,
                number: job.line_number,
                text: &job.line,
                key: job.key,
                model: model.and_then(|model| model.sha256),
                numerics: model.and_then(|model| model.numerics.as_deref()),
                record: &result.record,
                stats: result.stats.as_ref(),
                finished_at_s: result.finished_at_us / US_A_SECOND,
            })
        })
    }
}
