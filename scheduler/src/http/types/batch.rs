//! A batch as clients see it: OpenAI's batch object with what rbee adds.

use super::RequestCounts;
use rbee_queue::file::{OutputPart, RefusedLine};
use rbee_queue::{Batch, BatchId, BatchModel, BatchStatus, Endpoint, FileId, Priority};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

/// Microseconds of a second.
const US_A_SECOND: i64 = 1_000_000;

/// Tokens of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenCounts {
    /// Of all prompts that were answered.
    pub input_tokens: u64,
    /// Of all answers.
    pub output_tokens: u64,
}

/// Tokens of a batch in OpenAI's form.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BatchUsage {
    /// Of all prompts that were answered.
    pub input_tokens: u64,
    /// Of those.
    #[serde(default)]
    pub input_tokens_details: InputTokensDetails,
    /// Of all answers.
    pub output_tokens: u64,
    /// Of those.
    #[serde(default)]
    pub output_tokens_details: OutputTokensDetails,
    /// Both.
    #[serde(default)]
    pub total_tokens: u64,
}

/// What is told of prompt tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InputTokensDetails {
    /// Always 0: what was not computed again differs between two equal runs.
    pub cached_tokens: u64,
}

/// What is told of generated tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OutputTokensDetails {
    /// Always 0: they are not told apart.
    pub reasoning_tokens: u64,
}

/// Why a batch is refused as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BatchErrors {
    /// Always `list`.
    pub object: String,
    /// The reasons.
    #[schema(value_type = Vec<Value>)]
    pub data: Vec<RefusedLine>,
}

/// A batch as clients see it. Times without `us` in their names are Unix seconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BatchView {
    /// Its id.
    #[schema(value_type = String)]
    pub id: BatchId,
    /// Always `batch`.
    #[serde(default = "batch_word")]
    pub object: String,
    /// The route of its jobs.
    #[serde(default = "usual_endpoint")]
    #[schema(value_type = String)]
    pub endpoint: Endpoint,
    /// Its model, where it has only one.
    #[serde(default)]
    pub model: Option<String>,
    /// Why it is refused as a whole, where it failed.
    #[serde(default)]
    pub errors: Option<BatchErrors>,
    /// The file that it was made of.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub input_file_id: Option<FileId>,
    /// How long it may take.
    #[serde(default)]
    pub completion_window: Option<String>,
    /// A name for people.
    pub name: Option<String>,
    /// The idempotency key that it holds.
    #[serde(default)]
    pub key: Option<String>,
    /// Its state.
    #[schema(value_type = String)]
    pub status: BatchStatus,
    /// The file with its answers, once it has ended.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub output_file_id: Option<FileId>,
    /// The file with its errors, once it has ended.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub error_file_id: Option<FileId>,
    /// When it was made.
    pub created_at: i64,
    /// When all its lines were stored.
    #[serde(default)]
    pub in_progress_at: Option<i64>,
    /// When its completion window passes.
    #[serde(default)]
    pub expires_at: Option<i64>,
    /// When its last job finished, or its completion window passed.
    #[serde(default)]
    pub finalizing_at: Option<i64>,
    /// When it was done.
    #[serde(default)]
    pub completed_at: Option<i64>,
    /// When it was refused.
    #[serde(default)]
    pub failed_at: Option<i64>,
    /// When its last job ended after its completion window had passed.
    #[serde(default)]
    pub expired_at: Option<i64>,
    /// When somebody wanted it to stop.
    #[serde(default)]
    pub cancelling_at: Option<i64>,
    /// When it had stopped.
    #[serde(default)]
    pub cancelled_at: Option<i64>,
    /// Its jobs.
    pub request_counts: RequestCounts,
    /// Its tokens.
    pub usage: BatchUsage,
    /// Notes of its client.
    #[serde(default)]
    #[schema(value_type = Option<HashMap<String, String>>)]
    pub metadata: Option<Map<String, Value>>,
    /// Why it does not go on, where it is paused.
    pub paused_reason: Option<String>,
    /// Why its jobs wait, where they do.
    #[serde(default)]
    pub waiting: Option<String>,
    /// Whose jobs go first.
    #[schema(value_type = String)]
    pub priority: Priority,
    /// The only node that may run it.
    pub node: Option<String>,
    /// Who is told when it is done.
    pub on_done: Option<String>,
    /// Its models.
    #[schema(value_type = Vec<Value>)]
    pub models: Vec<BatchModel>,
    /// The seed of jobs that have none.
    pub seed: u64,
    /// The type of its cache.
    pub kv: String,
    /// The day that templates see.
    pub template_date: String,
    /// The promise of equal bytes is given up.
    pub any_numerics: bool,
    /// The number of its last result.
    pub last_finish_no: u64,
    /// Microseconds since 1970.
    pub created_at_us: i64,
    /// When its last job finished, in microseconds since 1970.
    pub finished_at_us: Option<i64>,
}

fn batch_word() -> String {
    "batch".to_owned()
}

fn usual_endpoint() -> Endpoint {
    Endpoint::ChatCompletions
}

impl From<&Batch> for BatchView {
    fn from(batch: &Batch) -> BatchView {
        let asked = batch.asked.as_ref();
        let seconds = |us: Option<i64>| us.map(|us| us.div_euclid(US_A_SECOND));
        let ended = |status| seconds(batch.finished_at_us.filter(|_| batch.status == status));
        let output = |part, jobs| {
            let there = asked.is_some() && batch.status.is_terminal() && jobs > 0;
            there.then(|| FileId::of_output(&batch.id, part))
        };
        let (input_tokens, output_tokens) = (batch.input_tokens, batch.output_tokens);
        BatchView {
            id: batch.id.clone(),
            object: batch_word(),
            endpoint: asked.map_or(usual_endpoint(), |asked| asked.endpoint),
            model: match &batch.models[..] {
                [only] => Some(only.requested.clone()),
                _ => None,
            },
            errors: (!batch.refused.is_empty()).then(|| BatchErrors {
                object: "list".to_owned(),
                data: batch.refused.clone(),
            }),
            input_file_id: asked.map(|asked| asked.input_file_id.clone()),
            completion_window: asked.map(|asked| asked.completion_window.clone()),
            name: batch.name.clone(),
            key: batch.key.clone(),
            status: batch.status,
            output_file_id: output(OutputPart::Answers, batch.counts.succeeded),
            error_file_id: output(OutputPart::Errors, batch.counts.failed),
            created_at: batch.created_at_us.div_euclid(US_A_SECOND),
            in_progress_at: seconds(batch.times.in_progress_us),
            expires_at: seconds(batch.times.expires_us),
            finalizing_at: seconds(batch.times.finalizing_us),
            completed_at: ended(BatchStatus::Completed),
            failed_at: ended(BatchStatus::Failed),
            expired_at: ended(BatchStatus::Expired),
            cancelling_at: seconds(batch.times.cancelling_us),
            cancelled_at: ended(BatchStatus::Cancelled),
            request_counts: batch.counts.into(),
            usage: BatchUsage {
                input_tokens,
                output_tokens,
                total_tokens: input_tokens + output_tokens,
                ..BatchUsage::default()
            },
            metadata: asked.and_then(|asked| asked.metadata.clone()),
            paused_reason: batch.paused_reason.clone(),
            waiting: None,
            priority: batch.priority,
            node: batch.pinned_node.clone(),
            on_done: batch.on_done.clone(),
            models: batch.models.clone(),
            seed: batch.spec.seed,
            kv: batch.spec.kv.clone(),
            template_date: batch.spec.template_date.clone(),
            any_numerics: batch.spec.any_numerics,
            last_finish_no: batch.last_finish_no,
            created_at_us: batch.created_at_us,
            finished_at_us: batch.finished_at_us,
        }
    }
}
