//! What waits, as placement sees it.

use crate::placement::{Numerics, WaitingModel};
use rbee_queue::record::JobError;
use rbee_queue::store::JobSummary;
use rbee_queue::{Batch, BatchModel};

/// The waiting jobs of a model of a batch, or the error with which they fail.
pub(crate) fn waiting_model(batch: &Batch, summary: &JobSummary) -> Result<WaitingModel, JobError> {
    let model = (batch.models.iter()).find(|model| model.no == summary.model);
    let resolved = model.and_then(|model| model.sha256.map(|sha| (model, sha)));
    let Some((model, sha)) = resolved else {
        let name = model.map_or("of the line", |model| model.requested.as_str());
        let message = format!("the model {name} could not be found");
        return Err(JobError::new("model_not_found", message));
    };
    Ok(WaitingModel {
        batch: batch.no,
        no: summary.model,
        model: sha,
        queued: summary.queued,
        numerics: numerics(batch, model),
        pinned: batch.pinned_node.clone(),
        priority: batch.priority,
    })
}

fn numerics(batch: &Batch, model: &BatchModel) -> Numerics {
    match &model.numerics {
        _ if batch.spec.any_numerics => Numerics::Any,
        Some(pinned) => Numerics::Pinned(pinned.clone()),
        None => Numerics::Open,
    }
}
