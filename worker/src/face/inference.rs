//! `POST /v1/inference`: one request, answered as it is computed.
//!
//! The body is a line as a batch has it, short or OpenAI's; `model` is a name of a model in memory, its sha256, or
//! absent. The answer is `started`, `token`s, then `end` or `error`, and `[DONE]` on both ways.

use super::Shared;
use super::error::{FaceError, face_code};
use crate::node::{Answer, Ask, PIECES_WAITING};
use axum::body::Bytes;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::{Stream, stream};
use rbee_queue::jsonl::{LineOptions, parse_line};
use rbee_queue::{FinishReason, JobError, JobKey, JobStats, Outcome, Request, ResultRecord};
use serde_json::{Value, json};
use std::convert::Infallible;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

/// Answers it.
pub async fn post(
    State(shared): State<Shared>,
    body: Bytes,
) -> Result<impl IntoResponse, FaceError> {
    let permit = shared.streams.clone().try_acquire_owned();
    let permit = permit.map_err(|_| FaceError::busy())?;
    let line = parse_line(&body, &LineOptions::new(""));
    let key = JobKey::new(&line.content(&body), 0);
    let request = line
        .request
        .map_err(|error| FaceError::from(JobError::from(error)))?;
    if request.params.n > 1 {
        return Err(FaceError::bad("n is 1 here: send several requests"));
    }
    let stops = Stops::of(&request);
    let (answer, mut pieces) = mpsc::channel(PIECES_WAITING);
    let ask = Ask {
        model: Some(request.model.clone()).filter(|name| !name.is_empty()),
        request,
        key,
        template_date: (shared.face.today)(),
        answer,
    };
    shared.face.node.ask(ask).await;
    // What is refused at once gets a status of its own.
    let first = match pieces.recv().await {
        Some(Answer::Refused(error)) => return Err(error.into()),
        Some(first) => first,
        None => return Err(gone().into()),
    };
    let telling = Telling {
        pieces,
        first: Some(first),
        stops,
        stage: Stage::Answering,
        _permit: permit,
    };
    Ok(Sse::new(telling.events()).keep_alive(KeepAlive::default()))
}

/// What may end an answer beside its length.
#[derive(Clone, Copy)]
struct Stops {
    texts: bool,
}

impl Stops {
    fn of(request: &Request) -> Stops {
        Stops {
            texts: !request.params.stop.is_empty(),
        }
    }

    /// The engine does not tell an end token from a stop text: where texts were given, they are named.
    fn reason(self, reason: FinishReason) -> &'static str {
        match reason {
            FinishReason::Length => "MAX_TOKENS",
            FinishReason::Stop if self.texts => "STOP_SEQUENCE",
            FinishReason::Stop => "EOS",
        }
    }
}

enum Stage {
    Answering,
    Done,
    Over,
}

struct Telling {
    pieces: mpsc::Receiver<Answer>,
    first: Option<Answer>,
    stops: Stops,
    stage: Stage,
    _permit: OwnedSemaphorePermit,
}

impl Telling {
    fn events(self) -> impl Stream<Item = Result<Event, Infallible>> {
        stream::unfold(self, |mut telling| async move {
            let text = telling.next().await?;
            Some((Ok(Event::default().data(text)), telling))
        })
    }

    async fn next(&mut self) -> Option<String> {
        match self.stage {
            Stage::Over => return None,
            Stage::Done => {
                self.stage = Stage::Over;
                return Some("[DONE]".to_owned());
            }
            Stage::Answering => {}
        }
        let piece = match self.first.take() {
            Some(first) => Some(first),
            None => self.pieces.recv().await,
        };
        let (told, over) = match piece {
            Some(Answer::Started { prompt_tokens }) => (
                json!({"event": "started", "prompt_tokens": prompt_tokens}),
                false,
            ),
            Some(Answer::Text { first_token, text }) => (
                json!({"event": "token", "t": text, "i": first_token}),
                false,
            ),
            Some(Answer::Ended { record, stats }) => (self.end(&record, &stats), true),
            Some(Answer::Refused(error)) => (failure(&error), true),
            None => (failure(&gone()), true),
        };
        if over {
            self.stage = Stage::Done;
        }
        Some(told.to_string())
    }

    fn end(&self, record: &ResultRecord, stats: &JobStats) -> Value {
        match &record.outcome {
            Outcome::Failed(error) => failure(error),
            Outcome::Completed(completed) => {
                let reason = completed.choices.first().map(|choice| choice.finish_reason);
                json!({
                    "event": "end",
                    "tokens_out": completed.usage.completion_tokens,
                    "decode_time_ms": stats.total_ms.saturating_sub(stats.first_token_ms),
                    "stop_reason": reason.map(|reason| self.stops.reason(reason)),
                })
            }
        }
    }
}

fn failure(error: &JobError) -> Value {
    let stop_reason = match error.code.as_str() {
        "cancelled" => "CANCELLED",
        _ => "ERROR",
    };
    json!({
        "event": "error",
        "stop_reason": stop_reason,
        "error": {"code": face_code(&error.code), "message": error.message},
    })
}

fn gone() -> JobError {
    JobError::new(
        "backend_unavailable",
        "The node ended before the answer did.",
    )
}
