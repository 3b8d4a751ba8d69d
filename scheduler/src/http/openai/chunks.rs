//! The chunks of a streamed answer, in OpenAI's form.
//!
//! Each choice begins with its role, goes on with its text and ends with its reason; then the usage comes, where it is
//! wanted, and the word that ends a stream. With log-probabilities the text comes at the end, since those are in the result
//! only: token by token, so far as a token ends where a character does.

use super::super::error::ApiError;
use super::super::types::TextPiece;
use axum::response::sse::Event;
use serde_json::{Value, json};
use std::ops::Range;

/// What ends a stream that is whole.
const DONE: &str = "[DONE]";

/// What all chunks of an answer say.
pub struct Head {
    /// The answer's id.
    pub id: String,
    /// A chat, not a text.
    pub chat: bool,
    /// Unix seconds.
    pub created: i64,
    /// The model as requested.
    pub model: String,
}

/// What is known only once an answer is whole: its text then comes at the end.
#[derive(Clone, Copy)]
pub struct Wholes {
    /// Log-probabilities are asked for: they are in the result.
    pub logprobs: bool,
    /// Tools may be called: what is text and what a call shows at the end.
    pub tools: bool,
}

/// How much of a choice was sent.
#[derive(Clone, Copy, Default)]
struct Sent {
    begun: bool,
    /// Bytes of its text that the client has.
    bytes: usize,
    /// Bytes of its text that the attempt which runs has said.
    said: usize,
}

/// Makes the chunks of one answer.
pub struct Chunks {
    head: Head,
    wholes: Wholes,
    usage: bool,
    sent: Vec<Sent>,
}

impl Chunks {
    /// Of an answer with so many choices.
    pub fn new(head: Head, choices: u32, wholes: Wholes, usage: bool) -> Chunks {
        Chunks {
            head,
            wholes,
            usage,
            sent: vec![Sent::default(); choices as usize],
        }
    }

    /// The last event of a stream that cannot go on.
    pub fn error(error: &ApiError) -> Event {
        data(&json!(error.body()))
    }

    /// More text of a choice.
    pub fn text(&mut self, piece: &TextPiece, events: &mut Vec<Event>) {
        let choice = piece.choice as usize;
        if self.wholes.logprobs || self.wholes.tools || choice >= self.sent.len() {
            return;
        }
        let sent = &mut self.sent[choice];
        sent.said += piece.text.len();
        // A later attempt says the same again.
        let new = sent.said.saturating_sub(sent.bytes).min(piece.text.len());
        let text = piece.text.get(piece.text.len() - new..).unwrap_or_default();
        if !text.is_empty() {
            sent.bytes = sent.said;
            self.send(choice, text, Value::Null, events);
        }
    }

    /// What these choices said so far comes again.
    pub fn begins_anew(&mut self, choices: Range<usize>) {
        for sent in self.sent.get_mut(choices).into_iter().flatten() {
            sent.said = 0;
        }
    }

    /// All that is missing, once the whole answer is known.
    pub fn end(&mut self, body: &Value, events: &mut Vec<Event>) {
        let choices = body["choices"].as_array().map_or(&[][..], Vec::as_slice);
        for (at, choice) in choices.iter().enumerate().take(self.sent.len()) {
            let text = match self.head.chat {
                true => &choice["message"]["content"],
                false => &choice["text"],
            };
            let text = text.as_str().unwrap_or_default();
            let calls = choice["message"]["tool_calls"].as_array();
            match self.wholes.logprobs && calls.is_none() {
                true => self.tokens(at, text, &choice["logprobs"], events),
                false => {
                    let rest = text.get(self.sent[at].bytes..).unwrap_or_default();
                    if !rest.is_empty() || !self.sent[at].begun {
                        self.send(at, rest, Value::Null, events);
                    }
                }
            }
            for (number, call) in calls.into_iter().flatten().enumerate() {
                self.call(at, number, call, events);
            }
            let reason = &choice["finish_reason"];
            let last = match self.head.chat {
                true => {
                    json!({"index": at, "delta": {}, "logprobs": null, "finish_reason": reason})
                }
                false => {
                    json!({"index": at, "text": "", "logprobs": null, "finish_reason": reason})
                }
            };
            events.push(self.chunk(json!([last]), Value::Null));
        }
        if self.usage {
            events.push(self.chunk(json!([]), body["usage"].clone()));
        }
        events.push(Event::default().data(DONE));
    }

    /// A call: which it is, then its arguments.
    fn call(&self, choice: usize, number: usize, call: &Value, events: &mut Vec<Event>) {
        let function = &call["function"];
        let begin = json!({
            "index": number,
            "id": call["id"],
            "type": call["type"],
            "function": {"name": function["name"], "arguments": ""},
        });
        let rest = json!({"index": number, "function": {"arguments": function["arguments"]}});
        for part in [begin, rest] {
            let delta = json!({"tool_calls": [part]});
            let entry =
                json!({"index": choice, "delta": delta, "logprobs": null, "finish_reason": null});
            events.push(self.chunk(json!([entry]), Value::Null));
        }
    }

    fn send(&mut self, choice: usize, text: &str, logprobs: Value, events: &mut Vec<Event>) {
        if self.head.chat && !self.sent[choice].begun {
            let delta = json!({"role": "assistant", "content": "", "refusal": null});
            let first =
                json!({"index": choice, "delta": delta, "logprobs": null, "finish_reason": null});
            events.push(self.chunk(json!([first]), Value::Null));
        }
        self.sent[choice].begun = true;
        if text.is_empty() && logprobs.is_null() {
            return;
        }
        let entry = match self.head.chat {
            true => json!({
                "index": choice,
                "delta": {"content": text},
                "logprobs": logprobs,
                "finish_reason": null,
            }),
            false => json!({
                "index": choice,
                "text": text,
                "logprobs": logprobs,
                "finish_reason": null,
            }),
        };
        events.push(self.chunk(json!([entry]), Value::Null));
    }

    /// The text token by token, each with its log-probability.
    fn tokens(&mut self, choice: usize, text: &str, logprobs: &Value, events: &mut Vec<Event>) {
        if !self.head.chat {
            self.send(choice, text, logprobs.clone(), events);
            return;
        }
        let (mut bytes, mut sent) = (0, 0);
        for token in logprobs["content"].as_array().into_iter().flatten() {
            bytes += token["bytes"].as_array().map_or(0, Vec::len);
            // The text ends before a stop text does.
            let mut end = bytes.min(text.len());
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            let logprobs = json!({"content": [token], "refusal": null});
            self.send(choice, &text[sent..end], logprobs, events);
            sent = end;
        }
        self.send(choice, &text[sent..], Value::Null, events);
    }

    fn chunk(&self, choices: Value, usage: Value) -> Event {
        let head = &self.head;
        let object = match head.chat {
            true => "chat.completion.chunk",
            false => "text_completion",
        };
        let mut chunk = json!({
            "id": head.id,
            "object": object,
            "created": head.created,
            "model": head.model,
            "choices": choices,
        });
        if self.usage {
            chunk["usage"] = usage;
        }
        data(&chunk)
    }
}

fn data(value: &Value) -> Event {
    Event::default().data(value.to_string())
}
