//! From a stored job to what a node needs of it.

use crate::batch::Batch;
use crate::ids::{Attempt, JobRef};
use crate::jsonl::parse_line;
use crate::queue::Work;
use crate::record::JobError;
use crate::request::Request;
use crate::store::{QueuedJob, Store, StoreError};

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

/// What placed jobs ask, read from the store: for work whose request was too large for the queue. `None`: the job or
/// its batch is not there or not open any more.
pub async fn requests_of(
    store: &dyn Store,
    jobs: &[JobRef],
) -> Result<Vec<Option<Result<Request, JobError>>>, StoreError> {
    let open = store.batch_open().await?;
    let stored = store.job_get(jobs).await?;
    let requests = jobs.iter().zip(stored).map(|(job, stored)| {
        let batch = open.iter().find(|batch| batch.no == job.batch)?;
        let parsed = parse_line(stored?.line.as_bytes(), &batch.spec.options);
        Some(parsed.request.map_err(JobError::from))
    });
    Ok(requests.collect())
}
