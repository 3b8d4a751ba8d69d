//! Rows to types.
//!
//! Owns the columns that each kind of read selects, and the checks of what stands in them.

use super::super::jobs::{StoredJob, StoredResult};
use super::StoreError;
use crate::batch::{Batch, BatchModel, BatchSpec, Counts, Priority};
use crate::ids::{Attempt, BatchNo, ContentHash, JobIndex, JobKey, ModelNo, ModelSha};
use crate::jsonl::Shape;
use crate::record::ResultRecord;
use crate::state::{BatchStatus, JobState};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

/// The columns of [`batch`].
pub const BATCH_COLUMNS: &str = "batch_no, id, owner, name, priority, pinned_node, on_done, \
     status, paused_reason, spec, shape, \
     total, succeeded, failed, last_finish_no, input_tokens, output_tokens, created_at_us, \
     finished_at_us";

/// The columns of [`stored_job`], of `jobs j`, `payloads p` and `results r`.
pub const JOB_COLUMNS: &str = "j.idx, j.line_no, p.line, j.content, j.occurrence, j.model_no, \
     j.state, j.attempt, j.node, j.blamed, j.losses, r.record, r.stats, r.finished_at_us";

/// Losses without evidence after which a job runs alone.
const LOSSES_BEFORE_ALONE: i64 = 10;

/// The joins of [`JOB_COLUMNS`].
pub const JOB_TABLES: &str = "jobs j \
     LEFT JOIN payloads p ON p.batch_no = j.batch_no AND p.idx = j.idx \
     LEFT JOIN results r ON r.batch_no = j.batch_no AND r.idx = j.idx";

/// Any value of a row, by its column's name.
pub fn get<'r, T>(row: &'r SqliteRow, column: &str) -> Result<T, StoreError>
where
    T: sqlx::Decode<'r, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>,
{
    row.try_get(column)
        .map_err(|error| StoreError::damaged(format!("column {column}: {error}")))
}

/// A count: never negative.
pub fn count(row: &SqliteRow, column: &str) -> Result<u64, StoreError> {
    let value: i64 = get(row, column)?;
    u64::try_from(value)
        .map_err(|_| StoreError::damaged(format!("column {column} is negative: {value}")))
}

pub fn digest(bytes: &[u8], column: &str) -> Result<[u8; 32], StoreError> {
    bytes
        .try_into()
        .map_err(|_| StoreError::damaged(format!("column {column} is no sha256")))
}

pub fn status(row: &SqliteRow) -> Result<BatchStatus, StoreError> {
    let word: &str = get(row, "status")?;
    BatchStatus::from_word(word)
        .ok_or_else(|| StoreError::damaged(format!("a batch is in the unknown state {word:?}")))
}

fn priority(row: &SqliteRow) -> Result<Priority, StoreError> {
    let word: &str = get(row, "priority")?;
    Priority::from_word(word)
        .ok_or_else(|| StoreError::damaged(format!("a batch has the unknown priority {word:?}")))
}

pub fn job_state(row: &SqliteRow) -> Result<JobState, StoreError> {
    let number: i64 = get(row, "state")?;
    JobState::from_number(number)
        .ok_or_else(|| StoreError::damaged(format!("a job is in the unknown state {number}")))
}

pub fn shape_word(shape: Shape) -> &'static str {
    match shape {
        Shape::OpenAi => "openai",
        Shape::Short => "short",
    }
}

pub fn batch(row: &SqliteRow, models: Vec<BatchModel>) -> Result<Batch, StoreError> {
    let id: &str = get(row, "id")?;
    let spec: &str = get(row, "spec")?;
    let spec: BatchSpec = serde_json::from_str(spec)
        .map_err(|error| StoreError::damaged(format!("the spec of {id}: {error}")))?;
    Ok(Batch {
        id: id
            .parse()
            .map_err(|error| StoreError::damaged(format!("{error}")))?,
        no: BatchNo(get(row, "batch_no")?),
        owner: get(row, "owner")?,
        name: get(row, "name")?,
        priority: priority(row)?,
        pinned_node: get(row, "pinned_node")?,
        on_done: get(row, "on_done")?,
        spec,
        shape: match get::<Option<&str>>(row, "shape")? {
            Some("openai") => Shape::OpenAi,
            _ => Shape::Short,
        },
        status: status(row)?,
        paused_reason: get(row, "paused_reason")?,
        counts: Counts {
            total: count(row, "total")?,
            succeeded: count(row, "succeeded")?,
            failed: count(row, "failed")?,
        },
        input_tokens: count(row, "input_tokens")?,
        output_tokens: count(row, "output_tokens")?,
        last_finish_no: count(row, "last_finish_no")?,
        created_at_us: get(row, "created_at_us")?,
        finished_at_us: get(row, "finished_at_us")?,
        models,
    })
}

pub fn model(row: &SqliteRow) -> Result<BatchModel, StoreError> {
    let sha256: Option<&[u8]> = get(row, "sha256")?;
    Ok(BatchModel {
        no: model_no(get(row, "model_no")?)?,
        requested: get(row, "requested")?,
        sha256: sha256
            .map(|bytes| digest(bytes, "sha256").map(ModelSha))
            .transpose()?,
        revision: get(row, "revision")?,
        numerics: get(row, "numerics")?,
    })
}

pub fn model_no(number: i64) -> Result<ModelNo, StoreError> {
    u32::try_from(number)
        .map(ModelNo)
        .map_err(|_| StoreError::damaged(format!("model_no is {number}")))
}

pub fn job_key(row: &SqliteRow) -> Result<JobKey, StoreError> {
    let content = ContentHash(digest(get(row, "content")?, "content")?);
    Ok(JobKey::new(&content, count(row, "occurrence")?))
}

/// Whether a job runs without mates.
pub fn alone(row: &SqliteRow) -> Result<bool, StoreError> {
    Ok(get::<i64>(row, "blamed")? > 0 || get::<i64>(row, "losses")? >= LOSSES_BEFORE_ALONE)
}

pub fn stored_job(row: &SqliteRow) -> Result<StoredJob, StoreError> {
    let state = job_state(row)?;
    let model: Option<i64> = get(row, "model_no")?;
    let line: Option<String> = get(row, "line")?;
    Ok(StoredJob {
        index: JobIndex(count(row, "idx")?),
        line_number: count(row, "line_no")?,
        line: line.unwrap_or_default(),
        key: job_key(row)?,
        model: model.map(model_no).transpose()?,
        state,
        attempt: Attempt(count(row, "attempt")?),
        node: get::<Option<&str>>(row, "node")?
            .map(|node| node.parse())
            .transpose()
            .map_err(|error| StoreError::damaged(format!("{error}")))?,
        alone: alone(row)?,
        result: match state.is_terminal() {
            true => Some(stored_result(row)?),
            false => None,
        },
    })
}

pub fn stored_result(row: &SqliteRow) -> Result<StoredResult, StoreError> {
    let record: Option<&str> = get(row, "record")?;
    let record = record.ok_or_else(|| StoreError::damaged("a finished job has no result"))?;
    let stats: Option<&str> = get(row, "stats")?;
    Ok(StoredResult {
        record: ResultRecord::from_json(record)
            .map_err(|error| StoreError::damaged(error.to_string()))?,
        stats: stats
            .map(serde_json::from_str)
            .transpose()
            .map_err(|error| StoreError::damaged(format!("a job's statistics: {error}")))?,
        finished_at_us: get(row, "finished_at_us")?,
    })
}
