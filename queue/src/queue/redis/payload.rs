//! How work, jobs and control messages are written in Redis.

use crate::ids::{Attempt, BatchNo, JobIndex, JobRef};
use crate::queue::{Control, Held, Work};

/// The version of payloads. A program takes no others: it gives their jobs back.
const VERSION: &str = "1";
/// That of requests with a form or tools: a program of before would give them any answer.
const VERSION_WITH_FORM: &str = "2";
/// Payloads over this many bytes go without their request: the node reads it from the store.
pub const MAX_PAYLOAD: usize = 64 << 10;

/// `version{json}`
pub fn encode(work: &Work) -> String {
    let whole = written(work);
    if whole.len() <= MAX_PAYLOAD || work.request.is_none() {
        return whole;
    }
    written(&Work {
        request: None,
        ..work.clone()
    })
}

fn written(work: &Work) -> String {
    let request = work.request.as_ref();
    let formed = request.is_some_and(|request| {
        request.params.response_format.is_some() || request.params.tools.is_some()
    });
    let mut text = if formed { VERSION_WITH_FORM } else { VERSION }.to_owned();
    text.push_str(&serde_json::to_string(work).expect("work has text keys only"));
    text
}

/// `None`: this program does not know the version.
pub fn decode(payload: &[u8]) -> Option<Work> {
    let text = [VERSION, VERSION_WITH_FORM]
        .iter()
        .find_map(|version| payload.strip_prefix(version.as_bytes()))?;
    serde_json::from_slice(text).ok()
}

/// `batch.index.attempt`
pub fn job_text(held: &Held) -> String {
    let JobRef { batch, index } = held.job;
    format!("{}.{}.{}", batch.0, index.0, held.attempt.0)
}

/// What [`job_text`] wrote.
pub fn job_of(text: &str) -> Option<Held> {
    let mut numbers = text.splitn(3, '.');
    let batch = BatchNo(numbers.next()?.parse().ok()?);
    let index = JobIndex(numbers.next()?.parse().ok()?);
    let attempt = Attempt(numbers.next()?.parse().ok()?);
    Some(Held {
        job: JobRef { batch, index },
        attempt,
    })
}

/// `j` and JSON. The other form, `c` and jobs, is written by cancel.lua.
pub fn control_text(message: &Control) -> String {
    let json = serde_json::to_string(message).expect("messages have text keys only");
    format!("j {json}")
}

/// A message with its number. A message that cannot be read is `None`.
pub fn control_of(text: &str) -> Option<(u64, Option<Control>)> {
    let (number, rest) = text.split_once(' ')?;
    let number = number.parse().ok()?;
    let message = match rest.split_once(' ')? {
        ("c", jobs) => Some(Control::Cancel(
            jobs.split(' ').filter_map(job_of).collect(),
        )),
        ("j", json) => serde_json::from_str(json).ok(),
        _ => None,
    };
    Some((number, message))
}
