//! A batch on a terminal: a bar, and errors above it as they come.

use rbee_queue::BatchStatus;
use rbee_scheduler::http::types::{
    BatchView, ProgressEvent, ResultEvent, TextPiece, WatchedNode, event,
};

use super::job::Told;
use super::tails::Tails;
use super::{code_of, trouble};
use crate::batch_view::{self, Runner, counted};
use crate::client::{Client, Followed};
use crate::failure::{Failure, Outcome};
use crate::progress::BatchProgress;
use crate::talk::Talk;

/// Errors that are shown each; more are counted only.
const ERRORS_SHOWN: usize = 20;

/// Shows a batch until it ends. Nothing goes to stdout.
pub async fn show(client: &Client, talk: &Talk, id: &str, all: bool) -> Outcome {
    let batch = client.batch(id).await?;
    talk.note(&title(&batch));
    let earlier = batch.request_counts.failed;
    if earlier > 0 && !batch.status.is_terminal() {
        let jobs = counted(earlier, "job");
        talk.note(&format!(
            "{jobs} failed before: `rbee status {}` shows why",
            batch.id
        ));
    }
    // Errors as they come, from here on.
    let after = batch.last_finish_no.to_string();
    let mut query = vec![("results", "errors"), ("after", after.as_str())];
    if all {
        // Each result ends its job's text.
        query[0].1 = "all";
        query.push(("tokens", "all"));
    }
    let path = ["v1", "batches", batch.id.as_str(), "events"];
    let mut events = Followed::new(client, talk, &path, &query);
    let mut view = View {
        talk,
        progress: BatchProgress::new(talk),
        tails: Tails::new(talk),
        told: Told::default(),
        errors: 0,
        waited_for: None,
    };
    loop {
        let event = events.next().await?;
        match event.name.as_str() {
            event::RESULT => view.result(&serde_json::from_value(event.body)?),
            event::PROGRESS => view.progress(&serde_json::from_value(event.body)?),
            event::TEXT | event::RESET => {
                for event in view.told.take(event) {
                    match event.name.as_str() {
                        event::TEXT => view
                            .tails
                            .add(&serde_json::from_value::<TextPiece>(event.body)?),
                        _ => view.tails.reset(event.body["index"].as_u64().unwrap_or(0)),
                    }
                }
            }
            event::ERROR => return Err(trouble(&event.body)),
            event::END => return view.end(&serde_json::from_value(event.body)?),
            _ => {}
        }
    }
}

fn title(batch: &BatchView) -> String {
    let name = batch.name.as_deref().map(|name| format!(" {name}"));
    let jobs = counted(batch.request_counts.total, "job");
    format!(
        "{}{}: {jobs}, {}, {}",
        batch.id,
        name.unwrap_or_default(),
        batch_view::models(batch),
        batch_view::state(batch, Runner::Server)
    )
}

struct View<'a> {
    talk: &'a Talk,
    progress: BatchProgress,
    tails: Tails,
    told: Told,
    errors: usize,
    waited_for: Option<String>,
}

impl View<'_> {
    fn result(&mut self, result: &ResultEvent) {
        self.tails.end(result.index);
        let Some(error) = &result.error else {
            return;
        };
        self.errors += 1;
        match self.errors {
            ..=ERRORS_SHOWN => {
                let (code, message) = (&error.code, &error.message);
                let job = result.index;
                self.talk.note(&format!("job {job}: {code}: {message}"));
            }
            _ if self.errors == ERRORS_SHOWN + 1 => {
                self.talk
                    .note("more jobs fail: `rbee status` counts them by their errors");
            }
            _ => {}
        }
    }

    fn progress(&mut self, progress: &ProgressEvent) {
        // Where no bar can be drawn a reason to wait is said once.
        if progress.waiting != self.waited_for
            && !self.talk.is_terminal()
            && let Some(reason) = &progress.waiting
        {
            self.talk.note(&format!("waits: {reason}"));
        }
        self.waited_for.clone_from(&progress.waiting);
        let counts = progress.request_counts;
        self.progress
            .show(counts.done(), counts.total, &describe(progress));
    }

    fn end(mut self, batch: &BatchView) -> Outcome {
        self.tails.clear();
        self.progress.clear();
        let counts = batch.request_counts;
        let tokens = batch.usage.output_tokens;
        let took = (batch.finished_at_us)
            .and_then(|finished| u64::try_from(finished - batch.created_at_us).ok())
            .map(|micros| {
                let took = std::time::Duration::from_micros(micros);
                format!(" in {}", crate::progress::taken(took))
            });
        self.talk.note(&format!(
            "{}: {} of {} succeeded, {} failed, {tokens} tokens{}",
            batch.status,
            counts.completed,
            counted(counts.total, "job"),
            counts.failed,
            took.unwrap_or_default()
        ));
        for reason in batch_view::refused(batch) {
            self.talk.note(&reason);
        }
        if counts.failed > 0 && batch.status == BatchStatus::Completed {
            self.talk
                .note(&format!("`rbee status {}` shows why", batch.id));
        }
        Ok::<_, Failure>(code_of(batch))
    }
}

/// Speed, time left, failures, nodes, and why it waits, in a few words.
fn describe(progress: &ProgressEvent) -> String {
    let mut words = vec![format!("{:.1} tokens/s", progress.tokens_per_s)];
    if let Some(eta) = progress.eta_s.filter(|eta| eta.is_finite() && *eta >= 0.0) {
        // A time of centuries is as good as none.
        if let Ok(eta) = std::time::Duration::try_from_secs_f64(eta) {
            words.push(format!("ETA {}", crate::progress::clock(eta)));
        }
    }
    if progress.request_counts.failed > 0 {
        words.push(format!("{} failed", progress.request_counts.failed));
    }
    if !progress.nodes.is_empty() {
        let node = |node: &WatchedNode| format!("{} ({})", node.name, node.jobs);
        let nodes: Vec<String> = progress.nodes.iter().map(node).collect();
        words.push(format!("on {}", nodes.join(", ")));
    }
    // While nodes work on it, that others wait their turn is no news.
    if let Some(reason) = progress
        .waiting
        .as_ref()
        .filter(|_| progress.nodes.is_empty())
    {
        words.push(format!("waits: {reason}"));
    }
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use rbee_queue::NodeState;
    use rbee_scheduler::http::types::{RequestCounts, TokenCounts};

    #[test]
    fn progress_says_speed_rest_failures_and_nodes() {
        let mut progress = ProgressEvent {
            status: BatchStatus::InProgress,
            request_counts: RequestCounts {
                total: 10,
                completed: 3,
                failed: 1,
            },
            usage: TokenCounts::default(),
            last_finish_no: 4,
            jobs_per_s: 1.0,
            tokens_per_s: 12.34,
            eta_s: Some(6.0),
            waiting: None,
            nodes: vec![WatchedNode {
                name: "one".into(),
                state: NodeState::Busy,
                jobs: 4,
            }],
        };
        assert_eq!(
            describe(&progress),
            "12.3 tokens/s, ETA 0:06, 1 failed, on one (4)"
        );
        progress.nodes.clear();
        (progress.eta_s, progress.waiting) = (None, Some("no node is alive".into()));
        assert_eq!(
            describe(&progress),
            "12.3 tokens/s, 1 failed, waits: no node is alive"
        );
    }
}
