//! From a stored job to what a node needs of it.

use crate::batch::Batch;
use crate::ids::Attempt;
use crate::jsonl::parse_line;
use crate::queue::Work;
use crate::record::JobError;
use crate::store::QueuedJob;

/// What the node needs of a placed job. The line was good when the batch was made; another
/// version of this program may see it differently, which is the job's error.
pub fn work_of(batch: &Batch, queued: &QueuedJob, attempt: Attempt) -> Result<Work, JobError> {
    let request = parse_line(queued.line.as_bytes(), &batch.spec.options).request?;
    let model = batch
        .models
        .iter()
        .find(|model| model.no == queued.model)
        .and_then(|model| model.sha256)
        .ok_or_else(|| JobError::new("model_not_found", "the job's model is not resolved"))?;
    Ok(Work {
        job: queued.job,
        attempt,
        request: Some(request),
        key: queued.key,
        seed: batch.spec.seed,
        template_date: batch.spec.template_date.clone(),
        model,
        alone: queued.alone,
        priority: batch.priority,
    })
}
