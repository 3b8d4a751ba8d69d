//! A batch as `list`, `status` and `run` show it: as JSON and in words.

use rbee_queue::BatchStatus;
use rbee_queue::batch::BatchModel;
use rbee_scheduler::http::types::BatchView;
use serde_json::{Value, json};

use crate::moment;

/// Hex digits of a sha256 in text for people.
const SHORT_DIGEST: usize = 12;
/// Reasons to refuse a batch that are shown to people.
const REASONS_SHOWN: usize = 5;

/// Who runs a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runner {
    /// A process of this machine, which holds the batch's lock.
    Process(u32),
    /// Nobody now.
    Nobody,
    /// The server that was asked.
    Server,
}

/// The batch as one JSON object, for `--json`. Where OpenAI's batch object has a word for something, it is used.
pub fn json(batch: &BatchView, runner: Runner) -> Value {
    json!({
        "id": batch.id,
        "name": batch.name,
        "status": batch.status,
        "running_pid": match runner {
            Runner::Process(pid) => Some(pid),
            Runner::Nobody | Runner::Server => None,
        },
        "paused_reason": batch.paused_reason,
        "waiting": batch.waiting,
        "refused": batch.errors.as_ref().map(|errors| &errors.data),
        "priority": batch.priority,
        "node": batch.node,
        "request_counts": batch.request_counts,
        "usage": batch.usage,
        "models": batch.models.iter().map(model_json).collect::<Vec<_>>(),
        "seed": batch.seed,
        "kv": batch.kv,
        "template_date": batch.template_date,
        "any_numerics": batch.any_numerics,
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

/// `running`, `interrupted`, `paused`, or the batch's own status: what a person wants to know of it.
pub fn state(batch: &BatchView, runner: Runner) -> String {
    match runner {
        _ if batch.status.is_terminal() => batch.status.to_string(),
        _ if batch.paused_reason.is_some() => "paused".to_owned(),
        Runner::Process(_) => "running".to_owned(),
        Runner::Nobody => "interrupted".to_owned(),
        Runner::Server => match batch.status {
            BatchStatus::InProgress => "running".to_owned(),
            status => status.to_string(),
        },
    }
}

/// `24/24`, with the failures behind it.
pub fn jobs(batch: &BatchView) -> String {
    let counts = batch.request_counts;
    match counts.failed {
        0 => format!("{}/{}", counts.done(), counts.total),
        failed => format!("{}/{} ({failed} failed)", counts.done(), counts.total),
    }
}

/// The models' names, as requested.
pub fn models(batch: &BatchView) -> String {
    let names: Vec<&str> = batch
        .models
        .iter()
        .map(|model| model.requested.as_str())
        .collect();
    names.join(", ")
}

/// Why it is refused as a whole, where it is: the first reasons, in sentences.
pub fn refused(batch: &BatchView) -> Vec<String> {
    let reasons = batch.errors.iter().flat_map(|errors| &errors.data);
    let told = reasons.take(REASONS_SHOWN).map(|reason| match reason.line {
        Some(line) => format!("line {line}: {}", reason.message),
        None => reason.message.clone(),
    });
    told.collect()
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
