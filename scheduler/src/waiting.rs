//! What waits, as placement sees it.

use crate::placement::{Numerics, WaitingModel};
use rbee_queue::record::JobError;
use rbee_queue::store::{JobSummary, MAX_COUNTED};
use rbee_queue::{Batch, BatchModel, ModelNo};
use std::time::Duration;

/// The waiting jobs of a batch by model, or the error with which they fail.
pub(crate) fn waiting_models(
    batch: &Batch,
    summaries: &[JobSummary],
) -> Vec<(ModelNo, Result<WaitingModel, JobError>)> {
    let uncounted = uncounted(batch, summaries);
    let waiting = summaries.iter().filter(|summary| summary.queued > 0);
    waiting
        .map(|summary| (summary.model, waiting_model(batch, summary, uncounted)))
        .collect()
}

fn waiting_model(
    batch: &Batch,
    summary: &JobSummary,
    uncounted: u64,
) -> Result<WaitingModel, JobError> {
    let model = (batch.models.iter()).find(|model| model.no == summary.model);
    let resolved = model.and_then(|model| model.sha256.map(|sha| (model, sha)));
    let Some((model, sha)) = resolved else {
        let name = model.map_or("of the line", |model| model.requested.as_str());
        let message = format!("the model {name} could not be found");
        return Err(JobError::new("model_not_found", message));
    };
    let beyond = if is_capped(summary) { uncounted } else { 0 };
    Ok(WaitingModel {
        batch: batch.no,
        no: summary.model,
        model: sha,
        queued: summary.queued + beyond,
        placed: summary.placed,
        waited: Duration::ZERO,
        numerics: numerics(batch, model),
        kv: batch.spec.kv.clone(),
        pinned: batch.pinned_node.clone(),
        priority: batch.priority,
    })
}

fn is_capped(summary: &JobSummary) -> bool {
    summary.queued >= MAX_COUNTED
}

/// Jobs of each model whose counting stopped early that were not counted, on average: how long the
/// work lasts decides how many nodes load its model.
fn uncounted(batch: &Batch, summaries: &[JobSummary]) -> u64 {
    let capped = summaries
        .iter()
        .filter(|summary| is_capped(summary))
        .count() as u64;
    let counted: u64 = (summaries.iter())
        .map(|summary| summary.queued + summary.placed)
        .sum();
    let beyond = batch.counts.unfinished().saturating_sub(counted);
    beyond.checked_div(capped).unwrap_or(0)
}

fn numerics(batch: &Batch, model: &BatchModel) -> Numerics {
    match &model.numerics {
        _ if batch.spec.any_numerics => Numerics::Any,
        Some(pinned) => Numerics::Pinned(pinned.clone()),
        None => Numerics::Open,
    }
}
