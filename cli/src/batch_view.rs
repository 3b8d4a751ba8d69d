//! A batch as `list`, `status` and `run` show it: as JSON and in words.

use rbee_queue::batch::{Batch, BatchModel};
use serde_json::{Value, json};

use crate::moment;

/// Hex digits of a sha256 in text for people.
const SHORT_DIGEST: usize = 12;

/// The batch as one JSON object, for `--json`. Where OpenAI's batch object has a word for something, it is used.
pub fn json(batch: &Batch, runner: Option<u32>) -> Value {
    let spec = &batch.spec;
    json!({
        "id": batch.id,
        "name": batch.name,
        "status": batch.status,
        "running_pid": runner,
        "paused_reason": batch.paused_reason,
        "request_counts": {
            "total": batch.counts.total,
            "completed": batch.counts.succeeded,
            "failed": batch.counts.failed,
        },
        "usage": {"input_tokens": batch.input_tokens, "output_tokens": batch.output_tokens},
        "models": batch.models.iter().map(model_json).collect::<Vec<_>>(),
        "seed": spec.seed,
        "kv": spec.kv,
        "template_date": spec.template_date,
        "any_numerics": spec.any_numerics,
        "created_at": moment::utc(batch.created_at_us),
        "finished_at": batch.finished_at_us.map(moment::utc),
    })
}

fn model_json(model: &BatchModel) -> Value {
    json!({
        "requested": model.requested,
        "sha256": model.sha256,
        "revision": model.revision,
        "numerics": model.numerics,
    })
}

/// `running`, `interrupted`, or the batch's own status: what a person wants to know of it.
pub fn state(batch: &Batch, runner: Option<u32>) -> String {
    match (batch.status.is_terminal(), runner) {
        (true, _) => batch.status.to_string(),
        (false, Some(_)) => "running".to_owned(),
        (false, None) => "interrupted".to_owned(),
    }
}

/// `24/24`, with the failures behind it.
pub fn jobs(batch: &Batch) -> String {
    let counts = batch.counts;
    let done = counts.total - counts.unfinished();
    match counts.failed {
        0 => format!("{done}/{}", counts.total),
        failed => format!("{done}/{} ({failed} failed)", counts.total),
    }
}

/// The models' names, as requested.
pub fn models(batch: &Batch) -> String {
    let names: Vec<&str> = batch
        .models
        .iter()
        .map(|model| model.requested.as_str())
        .collect();
    names.join(", ")
}

/// `1 job`, `2 jobs`.
pub fn counted(count: u64, noun: &str) -> String {
    match count {
        1 => format!("1 {noun}"),
        _ => format!("{count} {noun}s"),
    }
}

/// `input line 2`, `input lines 1, 4, …`: the first numbers of `total`.
pub fn input_lines(first: &[u64], total: u64) -> String {
    let numbers: Vec<String> = first.iter().map(u64::to_string).collect();
    let noun = if total == 1 { "line" } else { "lines" };
    let more = if total > first.len() as u64 {
        ", …"
    } else {
        ""
    };
    format!("input {noun} {}{more}", numbers.join(", "))
}

/// The first digits of a digest.
pub fn short(digest: &str) -> &str {
    digest.get(..SHORT_DIGEST).unwrap_or(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_not_plural() {
        assert_eq!(counted(1, "job"), "1 job");
        assert_eq!(counted(0, "job"), "0 jobs");
        assert_eq!(input_lines(&[2], 1), "input line 2");
        assert_eq!(input_lines(&[1, 4], 3), "input lines 1, 4, …");
    }
}
