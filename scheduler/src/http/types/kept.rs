//! Jobs as the store keeps them: what it takes to compute them again.

use rbee_queue::store::StoredJob;
use rbee_queue::{BatchModel, BatchSpec, JobIndex, JobKey, JobState, ModelNo, ResultRecord};
use serde::{Deserialize, Serialize};

/// Some jobs of a batch, with what they were made with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeptJobs {
    /// What decides its bytes.
    pub spec: BatchSpec,
    /// Its models, with the numerics that they are pinned to now.
    pub models: Vec<BatchModel>,
    /// The jobs, in the order in which they were asked for.
    pub jobs: Vec<KeptJob>,
}

/// A job as the store keeps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeptJob {
    /// Its place.
    pub index: JobIndex,
    /// Its physical line.
    pub line_number: u64,
    /// Its line verbatim; empty where it was unreadable.
    pub line: String,
    /// Its key.
    pub key: JobKey,
    /// Its model; `None` for a bad line.
    pub model: Option<ModelNo>,
    /// Its state.
    pub state: JobState,
    /// Its result, once it is terminal.
    pub record: Option<ResultRecord>,
}

impl From<StoredJob> for KeptJob {
    fn from(job: StoredJob) -> KeptJob {
        KeptJob {
            index: job.index,
            line_number: job.line_number,
            line: job.line,
            key: job.key,
            model: job.model,
            state: job.state,
            record: job.result.map(|result| result.record),
        }
    }
}
