//! One job: its text on stdout as it grows.

use std::collections::HashMap;
use std::io::Write;

use rbee_queue::JobState;
use rbee_scheduler::http::types::{JobView, TextPiece, event};
use serde_json::json;

use super::trouble;
use crate::client::{Client, Followed, ServerEvent};
use crate::exit_code::ExitCode;
use crate::failure::{Failure, Outcome, stdout_failure};
use crate::talk::Talk;

/// Prints a job's text until it ends.
pub async fn show(client: &Client, talk: &Talk, id: &str, index: u64) -> Outcome {
    let batch = client.batch(id).await?;
    let number = index.to_string();
    let path = [
        "v1",
        "batches",
        batch.id.as_str(),
        "jobs",
        &number,
        "events",
    ];
    let mut events = Followed::new(client, talk, &path, &[]);
    let (mut told, mut said) = (Told::default(), String::new());
    let mut at_line_start = true;
    loop {
        let event = events.next().await?;
        match event.name.as_str() {
            event::JOB => {
                let now = describe(&serde_json::from_value(event.body)?);
                if now != said {
                    talk.note(&now);
                    said = now;
                }
            }
            event::TEXT | event::RESET => {
                for event in told.take(event) {
                    if event.name == event::RESET {
                        talk.note("the text begins anew:");
                        continue;
                    }
                    let piece: TextPiece = serde_json::from_value(event.body)?;
                    // Other choices would come in between.
                    if piece.choice == 0 {
                        print(&piece.text)?;
                        at_line_start = piece.text.ends_with('\n');
                    }
                }
            }
            event::ERROR => return Err(trouble(&event.body)),
            event::END => {
                if !at_line_start {
                    print("\n")?;
                }
                return end(talk, &serde_json::from_value(event.body)?);
            }
            _ => {}
        }
    }
}

fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(stdout_failure)
}

fn describe(job: &JobView) -> String {
    match (job.state, &job.node, &job.waiting) {
        (JobState::Placed, Some(node), _) => format!("job {} is on {node}", job.index),
        (JobState::Queued, _, Some(reason)) => format!("job {} waits: {reason}", job.index),
        (JobState::Queued, ..) => format!("job {} waits", job.index),
        _ => format!("job {} has ended", job.index),
    }
}

fn end(talk: &Talk, job: &JobView) -> Outcome {
    if job.state == JobState::Succeeded {
        if let Some(stats) = &job.stats {
            let by = match stats.node.as_str() {
                "" => String::new(),
                node => format!(" by {node}"),
            };
            talk.note(&format!("answered{by}, {:.1} tokens/s", stats.tokens_per_s));
        }
        return Ok(ExitCode::Success);
    }
    let error = job.result.as_ref().map(|line| &line["error"]);
    let word = |name: &str| error.and_then(|error| error[name].as_str().map(str::to_owned));
    let code = word("code").unwrap_or_else(|| "failed".to_owned());
    let message = word("message").unwrap_or_default();
    talk.line(&format!("job {}: {code}: {message}", job.index));
    Ok(ExitCode::SomeFailed)
}

/// What was told of each job's text, so that nothing is told twice when a server sends it again: after another server
/// took over, or a stream began anew.
#[derive(Debug, Default)]
pub struct Told(HashMap<(u64, u32), Choice>);

#[derive(Debug, Default)]
struct Choice {
    text: String,
    /// Tokens that `text` accounts for.
    tokens: u32,
    /// The text comes again from its beginning: so much of it has come.
    again: Option<String>,
}

impl Told {
    /// The events that are news.
    pub fn take(&mut self, event: ServerEvent) -> Vec<ServerEvent> {
        match event.name.as_str() {
            event::RESET => self.reset(&event),
            _ => match serde_json::from_value::<TextPiece>(event.body.clone()) {
                Ok(piece) => self.piece(&piece),
                Err(_) => vec![event],
            },
        }
    }

    /// Whether the text becomes another one shows with the pieces that follow.
    fn reset(&mut self, event: &ServerEvent) -> Vec<ServerEvent> {
        let index = event.body["index"].as_u64().unwrap_or(0);
        for ((job, _), choice) in &mut self.0 {
            if *job == index {
                choice.again = Some(String::new());
            }
        }
        Vec::new()
    }

    fn piece(&mut self, piece: &TextPiece) -> Vec<ServerEvent> {
        let index = piece.index.unwrap_or(0);
        let choice = self.0.entry((index, piece.choice)).or_default();
        let end = piece.first_token.saturating_add(piece.tokens);
        if let Some(mut again) = choice.again.take() {
            again.push_str(&piece.text);
            if choice.text.starts_with(&again) {
                // All of it was told before.
                choice.again = (choice.text != again).then_some(again);
                choice.tokens = choice.tokens.max(end);
                return Vec::new();
            }
            return match again.strip_prefix(choice.text.as_str()) {
                Some(rest) => {
                    let (first, text) = (choice.tokens, rest.to_owned());
                    choice.add(piece, first, &text)
                }
                None => {
                    *choice = Choice::default();
                    let mut events = vec![reset(piece)];
                    events.extend(choice.add(piece, 0, &again));
                    events
                }
            };
        }
        if piece.first_token == 0 && choice.tokens > 0 {
            // Watchers of many jobs get each job's text from its beginning when they come back.
            choice.again = Some(String::new());
            return self.piece(piece);
        }
        choice.add(piece, piece.first_token, &piece.text)
    }
}

impl Choice {
    fn add(&mut self, piece: &TextPiece, first_token: u32, text: &str) -> Vec<ServerEvent> {
        let end = piece.first_token.saturating_add(piece.tokens);
        self.text.push_str(text);
        self.tokens = end;
        let piece = TextPiece {
            first_token,
            tokens: end.saturating_sub(first_token),
            text: text.to_owned(),
            ..piece.clone()
        };
        vec![ServerEvent {
            name: event::TEXT.to_owned(),
            body: json!(piece),
        }]
    }
}

fn reset(piece: &TextPiece) -> ServerEvent {
    let body = match piece.index {
        Some(index) => json!({"index": index, "attempt": piece.attempt}),
        None => json!({"attempt": piece.attempt}),
    };
    ServerEvent {
        name: event::RESET.to_owned(),
        body,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(first_token: u32, text: &str) -> ServerEvent {
        ServerEvent {
            name: event::TEXT.into(),
            body: json!({
                "attempt": 1, "choice": 0, "first_token": first_token,
                "tokens": text.len(), "text": text,
            }),
        }
    }

    fn joined(events: Vec<ServerEvent>) -> String {
        let word = |event: &ServerEvent| match event.name.as_str() {
            event::RESET => "!".to_owned(),
            _ => event.body["text"].as_str().unwrap().to_owned(),
        };
        events.iter().map(word).collect()
    }

    fn reset() -> ServerEvent {
        ServerEvent {
            name: event::RESET.into(),
            body: json!({"attempt": 2}),
        }
    }

    #[test]
    fn text_that_comes_again_is_told_once() {
        let mut told = Told::default();
        assert_eq!(joined(told.take(text(0, "ab"))), "ab");
        assert_eq!(joined(told.take(text(2, "cd"))), "cd");
        assert_eq!(joined(told.take(reset())), "");
        assert_eq!(joined(told.take(text(0, "abc"))), "");
        let rest = told.take(text(3, "def"));
        assert_eq!(
            (rest[0].body["first_token"].as_u64(), joined(rest)),
            (Some(4), "ef".into())
        );
        assert_eq!(joined(told.take(text(6, "g"))), "g");
        // A stream of many jobs that begins anew says no reset.
        assert_eq!(joined(told.take(text(0, "abcdefgh"))), "h");
    }

    #[test]
    fn text_that_becomes_another_one_is_told_from_its_beginning() {
        let mut told = Told::default();
        told.take(text(0, "abc"));
        assert_eq!(joined(told.take(reset())), "");
        assert_eq!(joined(told.take(text(0, "ab"))), "");
        assert_eq!(joined(told.take(text(2, "x"))), "!abx");
        assert_eq!(joined(told.take(text(3, "y"))), "y");
    }
}
