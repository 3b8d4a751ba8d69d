//! Spans of what happens to requests and batches, for whoever collects them.
//!
//! Owns their form and the one way out of this process. Where nobody collects, nothing is made. The ids of a batch's spans
//! come of the batch's id: every process knows them, and nothing of them travels. Spans hold ids, counts and times; never
//! a prompt, an answer or a secret.

use crate::batch::Batch;
use crate::ids::{Attempt, BatchId, JobIndex};
use crate::state::BatchStatus;
use sha2::{Digest, Sha256};
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

/// Names a trace.
pub type TraceId = [u8; 16];
/// Names a span within its trace.
pub type SpanId = [u8; 8];

/// Something that took its time.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// What it was.
    pub name: String,
    /// The trace that it belongs to.
    pub trace: TraceId,
    /// Its own id.
    pub id: SpanId,
    /// What it was a part of.
    pub parent: Option<SpanId>,
    /// It answered somebody else's request.
    pub serves: bool,
    /// Microseconds since 1970, by this process's clock; for a whole batch by the store's.
    pub began_us: i64,
    /// The same.
    pub ended_us: i64,
    /// The code of its error, where it failed.
    pub error: Option<String>,
    /// More about it.
    pub attributes: Vec<(&'static str, Value)>,
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// An id, a name, a code.
    Text(String),
    /// A count, or a time.
    Number(u64),
}

impl From<u64> for Value {
    fn from(number: u64) -> Value {
        Value::Number(number)
    }
}

impl From<String> for Value {
    fn from(text: String) -> Value {
        Value::Text(text)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::Text(text.to_owned())
    }
}

/// Which part of a batch's life a span is.
#[derive(Clone, Copy, Debug)]
pub enum Part<'a> {
    /// All of it.
    Batch,
    /// Its lines are read and stored.
    Load,
    /// Some of its jobs get their places on a node; named after the first of them.
    Place(JobIndex, Attempt),
    /// A node has one of its jobs.
    Attempt(JobIndex, Attempt),
    /// A node's results are stored, the first of which is this.
    Store(&'a str, JobIndex, Attempt),
}

impl Part<'_> {
    fn words(&self) -> (&'static str, String) {
        match self {
            Part::Batch => ("batch", String::new()),
            Part::Load => ("load", String::new()),
            Part::Place(index, attempt) => ("place", format!("{}.{}", index.0, attempt.0)),
            Part::Attempt(index, attempt) => ("attempt", format!("{}.{}", index.0, attempt.0)),
            Part::Store(node, index, attempt) => {
                ("store", format!("{node}.{}.{}", index.0, attempt.0))
            }
        }
    }
}

type Sink = Box<dyn Fn(Span) + Send + Sync>;

static SINK: OnceLock<Sink> = OnceLock::new();

/// Has all spans of this process collected from now on. False: they are already.
pub fn collect(sink: impl Fn(Span) + Send + Sync + 'static) -> bool {
    SINK.set(Box::new(sink)).is_ok()
}

/// Whether somebody collects.
pub fn is_on() -> bool {
    SINK.get().is_some()
}

/// Hands a span over, if somebody collects. It never waits.
pub fn tell(span: impl FnOnce() -> Span) {
    if let Some(sink) = SINK.get() {
        sink(span());
    }
}

/// This process's clock.
pub fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    i64::try_from(since.unwrap_or_default().as_micros()).unwrap_or(i64::MAX)
}

/// The trace of a batch.
pub fn trace_of(batch: &BatchId) -> TraceId {
    first(digest(&["trace", batch.as_str()]))
}

impl Span {
    /// A part of a batch's life, up to now.
    pub fn of_batch(batch: &BatchId, part: Part<'_>, began_us: i64) -> Span {
        let (name, _) = part.words();
        Span {
            name: name.to_owned(),
            trace: trace_of(batch),
            id: id_of(batch, part),
            parent: (!matches!(part, Part::Batch)).then(|| id_of(batch, Part::Batch)),
            serves: false,
            began_us,
            ended_us: now_us(),
            error: None,
            attributes: vec![("rbee.batch", batch.to_string().into())],
        }
    }

    /// The reading and storing of a batch's lines, which are there now.
    pub fn of_load(batch: &Batch, began_us: i64) -> Span {
        Span::of_batch(&batch.id, Part::Load, began_us).with("rbee.jobs", batch.counts.total)
    }

    /// All of a batch that has ended.
    pub fn of_ended(batch: &Batch) -> Span {
        let mut span = Span::of_batch(&batch.id, Part::Batch, batch.created_at_us)
            .with("rbee.status", batch.status.as_str())
            .with("rbee.jobs", batch.counts.total)
            .with("rbee.jobs_failed", batch.counts.failed)
            .with("rbee.prompt_tokens", batch.input_tokens)
            .with("rbee.completion_tokens", batch.output_tokens);
        span.ended_us = batch.finished_at_us.unwrap_or(span.ended_us);
        if batch.status != BatchStatus::Completed {
            span.error = Some(batch.status.to_string());
        }
        span
    }

    /// The answer to a request, up to now. Requests of one id share a trace.
    pub fn of_request(name: String, request: &str, began_us: i64) -> Span {
        let began = began_us.to_string();
        Span {
            name,
            trace: first(digest(&["request", request])),
            id: last(digest(&["request", request, &began])),
            parent: None,
            serves: true,
            began_us,
            ended_us: now_us(),
            error: None,
            attributes: Vec::new(),
        }
    }

    /// The same with one attribute more.
    pub fn with(mut self, name: &'static str, value: impl Into<Value>) -> Span {
        self.attributes.push((name, value.into()));
        self
    }
}

/// The id of a span of a batch.
fn id_of(batch: &BatchId, part: Part<'_>) -> SpanId {
    let (name, which) = part.words();
    last(digest(&["span", batch.as_str(), name, &which]))
}

fn digest(words: &[&str]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for word in words {
        hash.update(word.as_bytes());
        hash.update([0]);
    }
    hash.finalize().into()
}

fn first(digest: [u8; 32]) -> TraceId {
    std::array::from_fn(|at| digest[at])
}

fn last(digest: [u8; 32]) -> SpanId {
    std::array::from_fn(|at| digest[24 + at])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_processes_give_a_batchs_spans_the_same_ids() {
        let (one, other) = (BatchId::generate(), BatchId::generate());
        let whole = Span::of_batch(&one, Part::Batch, 0);
        assert_eq!(whole.parent, None);
        let again: BatchId = one.as_str().parse().unwrap();
        let attempt = Part::Attempt(JobIndex(3), Attempt(1));
        let there = Span::of_batch(&again, attempt, 0);
        assert_eq!((there.trace, there.parent), (whole.trace, Some(whole.id)));
        assert_eq!(there.id, Span::of_batch(&one, attempt, 5).id);
        let next = Span::of_batch(&one, Part::Attempt(JobIndex(3), Attempt(2)), 0);
        assert_ne!(there.id, next.id);
        assert_ne!(whole.trace, trace_of(&other));
    }
}
