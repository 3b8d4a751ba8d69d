//! Rows to types, for every kind of database.
//!
//! Owns what stands in which column and the checks of it. How a value is got out of a row is the
//! implementations' ([`Fields`]), and so is the SQL that selects it.

use super::StoreError;
use super::decide::{BatchNow, JobNow};
use super::jobs::{StoredJob, StoredResult};
use super::shared_answers::Follower;
use crate::batch::{Batch, BatchModel, BatchSpec, BatchTimes, Counts, Priority};
use crate::ids::{
    Attempt, BatchId, BatchNo, ContentHash, JobIndex, JobKey, JobRef, ModelNo, ModelSha,
    NodeInstance,
};
use crate::jsonl::Shape;
use crate::node::StoredNode;
use crate::queue::Held;
use crate::record::ResultRecord;
use crate::state::{BatchStatus, JobState};
use crate::store::PlacedJob;
use serde::de::DeserializeOwned;

/// The columns of [`batch`].
pub const BATCH_COLUMNS: &str = "batch_no, id, owner, name, idempotency_key, priority, pinned_node, on_done, \
     status, paused_reason, spec, shape, \
     total, succeeded, failed, last_finish_no, input_tokens, output_tokens, created_at_us, \
     finished_at_us, in_progress_at_us, cancelling_at_us, finalizing_at_us, expires_at_us, \
     asked, refused";

/// The condition of a batch that is older than `$2`, where that is given.
pub const OLDER: &str = "($2 IS NULL OR created_at_us <= (SELECT created_at_us FROM batches WHERE id = $2) \
     AND (created_at_us < (SELECT created_at_us FROM batches WHERE id = $2) OR id < $2))";

/// Losses without evidence after which a job runs alone.
const LOSSES_BEFORE_ALONE: i64 = 10;

/// The values of a row, by their columns' names.
pub trait Fields {
    /// A whole number of any width.
    fn int_or_null(&self, column: &str) -> Result<Option<i64>, StoreError>;
    /// A text.
    fn text_or_null(&self, column: &str) -> Result<Option<&str>, StoreError>;
    /// Bytes.
    fn bytes_or_null(&self, column: &str) -> Result<Option<&[u8]>, StoreError>;

    /// A whole number that is there.
    fn int(&self, column: &str) -> Result<i64, StoreError> {
        self.int_or_null(column)?.ok_or_else(|| missing(column))
    }

    /// A text that is there.
    fn text(&self, column: &str) -> Result<&str, StoreError> {
        self.text_or_null(column)?.ok_or_else(|| missing(column))
    }

    /// Bytes that are there.
    fn bytes(&self, column: &str) -> Result<&[u8], StoreError> {
        self.bytes_or_null(column)?.ok_or_else(|| missing(column))
    }

    /// A count: never negative.
    fn count(&self, column: &str) -> Result<u64, StoreError> {
        let value = self.int(column)?;
        u64::try_from(value)
            .map_err(|_| StoreError::damaged(format!("column {column} is negative: {value}")))
    }

    /// A digest.
    fn digest(&self, column: &str) -> Result<[u8; 32], StoreError> {
        digest(self.bytes(column)?, column)
    }
}

fn missing(column: &str) -> StoreError {
    StoreError::damaged(format!("column {column} is null"))
}

fn digest(bytes: &[u8], column: &str) -> Result<[u8; 32], StoreError> {
    bytes
        .try_into()
        .map_err(|_| StoreError::damaged(format!("column {column} is no sha256")))
}

fn owned(text: Option<&str>) -> Option<String> {
    text.map(str::to_owned)
}

fn json_or_null<T: DeserializeOwned>(
    row: &impl Fields,
    column: &str,
) -> Result<Option<T>, StoreError> {
    row.text_or_null(column)?
        .map(serde_json::from_str)
        .transpose()
        .map_err(|error| StoreError::damaged(format!("column {column}: {error}")))
}

pub fn status(row: &impl Fields) -> Result<BatchStatus, StoreError> {
    let word = row.text("status")?;
    BatchStatus::from_word(word)
        .ok_or_else(|| StoreError::damaged(format!("a batch is in the unknown state {word:?}")))
}

fn priority(row: &impl Fields) -> Result<Priority, StoreError> {
    let word = row.text("priority")?;
    Priority::from_word(word)
        .ok_or_else(|| StoreError::damaged(format!("a batch has the unknown priority {word:?}")))
}

pub fn job_state(row: &impl Fields) -> Result<JobState, StoreError> {
    let number = row.int("state")?;
    JobState::from_number(number)
        .ok_or_else(|| StoreError::damaged(format!("a job is in the unknown state {number}")))
}

pub fn shape_word(shape: Shape) -> &'static str {
    match shape {
        Shape::OpenAi => "openai",
        Shape::Short => "short",
    }
}

pub fn batch_id(text: &str) -> Result<BatchId, StoreError> {
    text.parse()
        .map_err(|error| StoreError::damaged(format!("{error}")))
}

pub fn instance(text: &str) -> Result<NodeInstance, StoreError> {
    text.parse()
        .map_err(|error| StoreError::damaged(format!("{error}")))
}

pub fn batch(row: &impl Fields, models: Vec<BatchModel>) -> Result<Batch, StoreError> {
    let id = row.text("id")?;
    let spec: BatchSpec = serde_json::from_str(row.text("spec")?)
        .map_err(|error| StoreError::damaged(format!("the spec of {id}: {error}")))?;
    Ok(Batch {
        id: batch_id(id)?,
        no: BatchNo(row.int("batch_no")?),
        owner: row.text("owner")?.to_owned(),
        name: owned(row.text_or_null("name")?),
        key: owned(row.text_or_null("idempotency_key")?),
        priority: priority(row)?,
        pinned_node: owned(row.text_or_null("pinned_node")?),
        on_done: owned(row.text_or_null("on_done")?),
        spec,
        shape: match row.text_or_null("shape")? {
            Some("openai") => Shape::OpenAi,
            _ => Shape::Short,
        },
        status: status(row)?,
        paused_reason: owned(row.text_or_null("paused_reason")?),
        counts: Counts {
            total: row.count("total")?,
            succeeded: row.count("succeeded")?,
            failed: row.count("failed")?,
        },
        input_tokens: row.count("input_tokens")?,
        output_tokens: row.count("output_tokens")?,
        last_finish_no: row.count("last_finish_no")?,
        created_at_us: row.int("created_at_us")?,
        finished_at_us: row.int_or_null("finished_at_us")?,
        times: BatchTimes {
            in_progress_us: row.int_or_null("in_progress_at_us")?,
            cancelling_us: row.int_or_null("cancelling_at_us")?,
            finalizing_us: row.int_or_null("finalizing_at_us")?,
            expires_us: row.int_or_null("expires_at_us")?,
        },
        asked: json_or_null(row, "asked")?,
        refused: json_or_null(row, "refused")?.unwrap_or_default(),
        models,
    })
}

pub fn model(row: &impl Fields) -> Result<BatchModel, StoreError> {
    Ok(BatchModel {
        no: model_no(row.int("model_no")?)?,
        requested: row.text("requested")?.to_owned(),
        sha256: row
            .bytes_or_null("sha256")?
            .map(|bytes| digest(bytes, "sha256").map(ModelSha))
            .transpose()?,
        revision: owned(row.text_or_null("revision")?),
        numerics: owned(row.text_or_null("numerics")?),
    })
}

pub fn model_no(number: i64) -> Result<ModelNo, StoreError> {
    u32::try_from(number)
        .map(ModelNo)
        .map_err(|_| StoreError::damaged(format!("model_no is {number}")))
}

pub fn job_ref(row: &impl Fields) -> Result<JobRef, StoreError> {
    Ok(JobRef {
        batch: BatchNo(row.int("batch_no")?),
        index: JobIndex(row.count("idx")?),
    })
}

pub fn job_now(row: &impl Fields) -> Result<JobNow, StoreError> {
    Ok(JobNow {
        state: job_state(row)?,
        attempt: row.int("attempt")?,
        crashes: row.int("crashes")?,
        model: row.int_or_null("model_no")?,
        finish_no: row.int_or_null("finish_no")?,
        leads: row.int("leads")? != 0,
    })
}

/// A job that waits for another one's answer, and that one.
pub fn follower(row: &impl Fields) -> Result<Follower, StoreError> {
    let job = job_ref(row)?;
    Ok(Follower {
        leader: JobRef {
            index: JobIndex(row.count("same_as")?),
            ..job
        },
        job,
        now: job_now(row)?,
    })
}

pub fn batch_now(row: &impl Fields) -> Result<BatchNow, StoreError> {
    Ok(BatchNow {
        status: status(row)?,
        paused: row.text_or_null("paused_reason")?.is_some(),
        any_numerics: row.int("any_numerics")? != 0,
    })
}

pub fn job_key(row: &impl Fields) -> Result<JobKey, StoreError> {
    let content = ContentHash(row.digest("content")?);
    Ok(JobKey::new(&content, row.count("occurrence")?))
}

/// Whether a job runs without mates.
pub fn alone(row: &impl Fields) -> Result<bool, StoreError> {
    Ok(row.int("blamed")? > 0 || row.int("losses")? >= LOSSES_BEFORE_ALONE)
}

pub fn stored_job(row: &impl Fields) -> Result<StoredJob, StoreError> {
    let state = job_state(row)?;
    Ok(StoredJob {
        index: JobIndex(row.count("idx")?),
        line_number: row.count("line_no")?,
        line: owned(row.text_or_null("line")?).unwrap_or_default(),
        key: job_key(row)?,
        model: row.int_or_null("model_no")?.map(model_no).transpose()?,
        state,
        attempt: Attempt(row.count("attempt")?),
        node: row.text_or_null("node")?.map(instance).transpose()?,
        alone: alone(row)?,
        result: match state.is_terminal() {
            true => Some(stored_result(row)?),
            false => None,
        },
    })
}

pub fn stored_result(row: &impl Fields) -> Result<StoredResult, StoreError> {
    let record = row
        .text_or_null("record")?
        .ok_or_else(|| StoreError::damaged("a finished job has no result"))?;
    Ok(StoredResult {
        record: ResultRecord::from_json(record)
            .map_err(|error| StoreError::damaged(error.to_string()))?,
        stats: row
            .text_or_null("stats")?
            .map(serde_json::from_str)
            .transpose()
            .map_err(|error| StoreError::damaged(format!("a job's statistics: {error}")))?,
        finished_at_us: row.int("finished_at_us")?,
    })
}

pub fn placed_job(row: &impl Fields) -> Result<PlacedJob, StoreError> {
    Ok(PlacedJob {
        held: Held {
            job: job_ref(row)?,
            attempt: Attempt(row.count("attempt")?),
        },
        node: instance(row.text("node")?)?,
    })
}

pub fn stored_node(row: &impl Fields, now_us: i64) -> Result<StoredNode, StoreError> {
    Ok(StoredNode {
        instance: instance(row.text("instance")?)?,
        report: serde_json::from_str(row.text("report")?)
            .map_err(|error| StoreError::damaged(format!("a node's report: {error}")))?,
        lease_left_us: row.int("lease_until_us")? - now_us,
        silent_us: now_us - row.int("renewed_at_us")?,
        joined_at_us: row.int("joined_at_us")?,
        lost: row.int("lost")? != 0,
        drain_wanted: row.int("drain")? != 0,
    })
}
