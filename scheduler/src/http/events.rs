//! `GET /v1/batches/{id}/events`: a moving view of a batch.
//!
//! First the batch, then each result once in the order of finishing, with progress in between, and the batch as it
//! ended. `Last-Event-ID` or `?after=` goes on behind a result. With `?tokens=all` the text of running jobs comes too.

use super::Server;
use super::auth::Caller;
use super::error::ApiError;
use super::running_text::RunningText;
use super::sse;
use super::types::{BatchView, Count, event};
use crate::live::{LiveBatch, Seen, TooMany, Wanted, Wish};
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::response::Response;
use axum::response::sse::Event;
use futures_util::stream;
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Progress is told at most so often.
const PROGRESS_EVERY: Duration = Duration::from_millis(400);
/// Jobs whose text one watcher gets at once.
const MAX_TEXTS: usize = 64;
/// The wait after a read that failed.
const TROUBLE_PAUSE: Duration = Duration::from_millis(500);

impl From<TooMany> for ApiError {
    fn from(error: TooMany) -> ApiError {
        ApiError::too_many(error.to_string())
    }
}

/// What of a batch is watched.
#[derive(Debug, Default, Deserialize)]
pub struct EventsQuery {
    #[serde(default)]
    after: Option<Count>,
    #[serde(default)]
    results: Results,
    /// Of the errors that are there only the last so many.
    #[serde(default)]
    last: Option<Count>,
    #[serde(default)]
    tokens: Tokens,
}

/// Whose text is told as it grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Tokens {
    #[default]
    None,
    /// That of all running jobs, a bounded number at once.
    All,
}

/// Which results are told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Results {
    #[default]
    All,
    Errors,
    None,
}

impl From<Results> for Wanted {
    fn from(results: Results) -> Wanted {
        match results {
            Results::All => Wanted::All,
            Results::Errors => Wanted::Errors,
            Results::None => Wanted::Nothing,
        }
    }
}

/// Streams a batch's events.
pub async fn events(
    State(server): State<Server>,
    caller: Caller,
    Path(id): Path<String>,
    Query(query): Query<EventsQuery>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let batch = server.batch(&caller, &id).await?;
    let resumed = match sse::last_event_id(&headers) {
        None => query.after.map(|after| after.0),
        Some(id) => Some(id.parse().map_err(|_| {
            ApiError::bad(
                "invalid_event_id",
                "Last-Event-ID must be the id of an event of this batch: a number",
            )
            .about("Last-Event-ID")
        })?),
    };
    let resumed = match (resumed, query.last) {
        (None, Some(count)) => {
            let store = server.batches.store();
            let count = usize::try_from(count.0).unwrap_or(usize::MAX);
            Some(store.failed_before_last(batch.no, count).await?)
        }
        (resumed, _) => resumed,
    };
    let view = BatchView::from(&batch);
    let live = server.live_batches.follow(batch)?;
    let wanted = Wanted::from(query.results);
    let text = (query.tokens == Tokens::All).then(RunningText::default);
    let watcher = Watcher {
        seen: live.seen(),
        _wish: live.wish(wanted, text.is_some()),
        server: server.clone(),
        text,
        live,
        wanted,
        after: resumed.unwrap_or(0),
        greeting: Some(view),
        told: None,
        over: false,
    };
    sse::respond(&server, stream::unfold(watcher, Watcher::step))
}

/// One client's place in a batch.
struct Watcher {
    server: Server,
    text: Option<RunningText>,
    live: Arc<LiveBatch>,
    _wish: Wish,
    seen: watch::Receiver<Arc<Seen>>,
    wanted: Wanted,
    /// The number of the last result that was told, or passed over.
    after: u64,
    greeting: Option<BatchView>,
    /// When progress was told last, and which.
    told: Option<(Instant, Arc<str>)>,
    over: bool,
}

impl Watcher {
    async fn step(mut self) -> Option<(Vec<Event>, Watcher)> {
        if let Some(view) = self.greeting.take() {
            return Some((vec![sse::event(event::BATCH, &view)], self));
        }
        if self.over {
            return None;
        }
        loop {
            let seen = Arc::clone(&self.seen.borrow_and_update());
            match self.news(&seen).await {
                Some(events) if !events.is_empty() => return Some((events, self)),
                Some(_) => self.wait().await,
                None => tokio::time::sleep(TROUBLE_PAUSE).await,
            }
        }
    }

    /// What is new. `None`: the store did not answer.
    async fn news(&mut self, seen: &Seen) -> Option<Vec<Event>> {
        if seen.purged {
            self.over = true;
            return Some(vec![sse::trouble("not_found", "the batch was purged")]);
        }
        let read = self.live.results_after(self.after, self.wanted).await;
        let (lines, to) = match read {
            Ok(read) => read,
            Err(error) => {
                tracing::debug!(%error, "a watcher waits for the store");
                return None;
            }
        };
        let caught_up = to == self.after || to >= seen.batch.last_finish_no;
        self.after = to;
        let mut events = self.text(seen);
        for line in &lines {
            let rest = (self.text.as_mut()).and_then(|text| text.complete(&line.json));
            events.extend(rest);
            let id = line.finish_no.to_string();
            let event = Event::default().event(event::RESULT).id(id);
            events.push(event.data(line.json.as_ref()));
        }
        if !caught_up {
            // Between two pages without a result for this watcher there is progress to tell all the same.
            if events.is_empty() {
                events.push(self.progress(seen));
            }
            return Some(events);
        }
        if seen.batch.status.is_terminal() {
            self.over = true;
            events.push(self.progress(seen));
            events.push(sse::event(event::END, &BatchView::from(&seen.batch)));
        } else if self.is_due(seen) {
            events.push(self.progress(seen));
        }
        Some(events)
    }

    /// The text of running jobs that is new.
    fn text(&mut self, seen: &Seen) -> Vec<Event> {
        let Some(text) = &mut self.text else {
            return Vec::new();
        };
        if let Err(error) = text.follow(&self.server, &seen.batch, &seen.running, MAX_TEXTS) {
            // Its result brings the text of a job that is not followed.
            tracing::debug!(%error, "some text is not told as it grows");
        }
        text.news()
    }

    fn is_due(&self, seen: &Seen) -> bool {
        self.told
            .as_ref()
            .is_none_or(|(at, told)| at.elapsed() >= PROGRESS_EVERY && *told != seen.progress_json)
    }

    fn progress(&mut self, seen: &Seen) -> Event {
        let json = Arc::clone(&seen.progress_json);
        let id = self.after.to_string();
        let event = Event::default().event(event::PROGRESS).id(id);
        let event = event.data(json.as_ref());
        self.told = Some((Instant::now(), json));
        event
    }

    /// Waits for something new, or until progress that was held back is due.
    async fn wait(&mut self) {
        let held_back = self.told.as_ref().and_then(|(at, told)| {
            (*told != self.seen.borrow().progress_json).then_some(*at + PROGRESS_EVERY)
        });
        let due = async {
            match held_back {
                Some(due) => tokio::time::sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        let text = async {
            match &mut self.text {
                Some(text) => text.changed().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = due => {}
            () = text => {}
            changed = self.seen.changed() => {
                changed.expect("the live batch is held, and with it the sender");
            }
        }
    }
}
