//! Traces to a collector, by OTLP over HTTP.
//!
//! Owns when they are sent. Spans go through a bounded queue to a task of their own, which sends them in groups: a collector
//! that is slow or down costs spans, which are counted, and no job anything. What is left goes out when the process ends.

mod exporter;
mod sampler;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rbee_queue::trace::{self, Span};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::failure::Failure;
use exporter::Exporter;
use sampler::Sampler;

/// Spans between this process's work and the collector.
const SPANS_WAITING: usize = 16_384;
/// Spans of one request.
const SPANS_SENT: usize = 512;
/// How long a span waits for others at most.
const SENT_EVERY: Duration = Duration::from_secs(2);
/// How long the end of the process waits for the collector.
const END_PATIENCE: Duration = Duration::from_secs(5);

/// Where a collector is looked for if no setting names one; the first that is there.
const VARIABLES: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
];
/// Turns all of it off.
const OFF: &str = "OTEL_SDK_DISABLED";
/// What stands behind an endpoint that is for everything.
const TRACES: &str = "v1/traces";

enum Message {
    Span(Box<Span>),
    /// Send what there is, and say when that is done.
    Flush(oneshot::Sender<()>),
}

/// The way to the collector, for as long as a command runs.
pub struct Traces {
    spans: mpsc::Sender<Message>,
    lost: Arc<AtomicU64>,
}

impl Traces {
    /// Begins to collect this process's spans, where a setting or the environment names a collector. `who` is `serve`, `worker` or
    /// `run`.
    pub fn begin(setting: Option<&str>, who: &str) -> Result<Option<Traces>, Failure> {
        let Some(url) = endpoint(setting) else {
            return Ok(None);
        };
        let sampler = Sampler::of_environment().map_err(Failure::usage)?;
        let exporter = Exporter::new(&url, who)
            .map_err(|error| Failure::usage(format!("--otlp-endpoint {url}: {error}")))?;
        let (spans, coming) = mpsc::channel(SPANS_WAITING);
        let lost = Arc::new(AtomicU64::new(0));
        tokio::spawn(send(coming, exporter, Arc::clone(&lost)));
        let (way, dropped) = (spans.clone(), Arc::clone(&lost));
        trace::collect(move |span| {
            if sampler.takes(&span.trace) && way.try_send(Message::Span(Box::new(span))).is_err() {
                dropped.fetch_add(1, Ordering::Relaxed);
            }
        });
        Ok(Some(Traces { spans, lost }))
    }

    /// Sends what is left.
    pub async fn end(self) {
        let (done, heard) = oneshot::channel();
        let flushed = async {
            if self.spans.send(Message::Flush(done)).await.is_ok() {
                // The task is gone with the runtime only.
                let _ = heard.await;
            }
        };
        if tokio::time::timeout(END_PATIENCE, flushed).await.is_err() {
            tracing::warn!("the collector of traces does not answer, what was left is lost");
        }
        match self.lost.load(Ordering::Relaxed) {
            0 => {}
            lost => tracing::warn!(lost, "spans were lost on their way to the collector"),
        }
    }
}

/// The URL that spans are sent to.
fn endpoint(setting: Option<&str>) -> Option<String> {
    if let Some(setting) = setting {
        return Some(for_traces(setting));
    }
    let given = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    if given(OFF).is_some_and(|off| off.eq_ignore_ascii_case("true")) {
        return None;
    }
    let [exact, general] = VARIABLES;
    given(exact).or_else(|| given(general).map(|url| for_traces(&url)))
}

fn for_traces(url: &str) -> String {
    format!("{}/{TRACES}", url.trim_end_matches('/'))
}

/// Sends spans in groups until nobody is left who tells any.
async fn send(mut coming: mpsc::Receiver<Message>, exporter: Exporter, lost: Arc<AtomicU64>) {
    let mut spans = Vec::with_capacity(SPANS_SENT);
    let mut due = Instant::now();
    loop {
        if spans.is_empty() {
            due = Instant::now() + SENT_EVERY;
        }
        let flushed = match tokio::time::timeout_at(due, coming.recv()).await {
            Ok(Some(Message::Span(span))) => {
                spans.push(*span);
                if spans.len() < SPANS_SENT {
                    continue;
                }
                None
            }
            Ok(Some(Message::Flush(done))) => Some(done),
            Ok(None) => return,
            Err(_) => None,
        };
        let count = spans.len() as u64;
        if count > 0
            && let Err(error) = exporter.send(std::mem::take(&mut spans)).await
        {
            lost.fetch_add(count, Ordering::Relaxed);
            tracing::debug!(%error, count, "the collector took no spans");
        }
        if let Some(done) = flushed {
            let _ = done.send(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoint_for_everything_has_a_path_for_traces() {
        assert_eq!(for_traces("http://c:4318"), "http://c:4318/v1/traces");
        assert_eq!(for_traces("http://c:4318/x/"), "http://c:4318/x/v1/traces");
        let setting = endpoint(Some("http://c:4318"));
        assert_eq!(setting.as_deref(), Some("http://c:4318/v1/traces"));
    }
}
