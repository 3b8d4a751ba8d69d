//! The OpenAI output line: `{"id", "custom_id", "response", "error"}`.
//!
//! Owns the bodies of chat and text completions and of embeddings as OpenAI's batch API writes them.

use super::render::{Context, embedding, shortest, token_logprobs, usage};
use crate::record::{Choice, Completed, Outcome, TokenLogprob};
use crate::request::{Endpoint, Request};
use serde_json::{Map, Value, json};

/// Hex digits of each digest in `system_fingerprint`.
const FINGERPRINT_DIGITS: usize = 12;

pub(super) fn line(context: &Context<'_>) -> Map<String, Value> {
    let mut line = Map::new();
    line.insert("id".into(), context.ids.line().into());
    line.insert("custom_id".into(), context.custom_id());
    match &context.answer.record.outcome {
        Outcome::Completed(completed) => {
            let response = json!({
                "status_code": 200,
                "request_id": context.ids.request(),
                "body": body(context, completed),
            });
            line.insert("response".into(), response);
            line.insert("error".into(), Value::Null);
        }
        Outcome::Failed(error) => {
            line.insert("response".into(), Value::Null);
            line.insert("error".into(), context.error(error));
        }
    }
    context.add_stats(&mut line);
    line
}

fn body(context: &Context<'_>, completed: &Completed) -> Value {
    let request = context.parsed.request.as_ref().ok();
    if !completed.embeddings.is_empty() {
        return embedding_list(request, completed);
    }
    let text = request.is_some_and(|request| request.endpoint == Endpoint::Completions);
    let (id, object) = match text {
        true => (context.ids.completion(), "text_completion"),
        false => (context.ids.chat_completion(), "chat.completion"),
    };
    let choices: Vec<Value> = completed
        .choices
        .iter()
        .map(|choice| match text {
            true => text_choice(choice),
            false => chat_choice(context, choice),
        })
        .collect();
    let created = if context.with_stats {
        context.answer.finished_at_s
    } else {
        0
    };
    json!({
        "id": id,
        "object": object,
        "created": created,
        "model": request.map(|request| request.model.as_str()),
        "choices": choices,
        "usage": usage(completed),
        "system_fingerprint": fingerprint(context),
    })
}

fn embedding_list(request: Option<&Request>, completed: &Completed) -> Value {
    let numbered = completed.embeddings.iter().enumerate();
    let data: Vec<Value> = numbered
        .map(|(index, vector)| {
            json!({"object": "embedding", "index": index, "embedding": embedding(request, vector)})
        })
        .collect();
    let tokens = completed.usage.prompt_tokens;
    json!({
        "object": "list",
        "data": data,
        "model": request.map(|request| request.model.as_str()),
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    })
}

/// Numerics and model: equal fingerprints mean equal bytes for equal requests.
fn fingerprint(context: &Context<'_>) -> Option<String> {
    let mut model = context.answer.model?.to_hex();
    model.truncate(FINGERPRINT_DIGITS);
    let numerics: String = context
        .answer
        .numerics
        .unwrap_or("unknown")
        .chars()
        .take(FINGERPRINT_DIGITS)
        .collect();
    Some(format!("fp_{numerics}_{model}"))
}

fn chat_choice(context: &Context<'_>, choice: &Choice) -> Value {
    let said = context.said(choice);
    let logprobs = choice
        .logprobs
        .as_deref()
        .map(|tokens| json!({"content": token_logprobs(tokens), "refusal": null}));
    let mut message = json!({"role": "assistant", "content": said.text, "refusal": null});
    if let Some(calls) = said.calls {
        if said.text.is_empty() {
            message["content"] = Value::Null;
        }
        message["tool_calls"] = calls;
    }
    json!({
        "index": choice.index,
        "message": message,
        "logprobs": logprobs,
        "finish_reason": said.reason,
    })
}

fn text_choice(choice: &Choice) -> Value {
    json!({
        "text": choice.text,
        "index": choice.index,
        "logprobs": choice.logprobs.as_deref().map(text_logprobs),
        "finish_reason": choice.finish_reason.as_str(),
    })
}

/// The older form of completions: parallel arrays, offsets in characters of the text.
fn text_logprobs(tokens: &[TokenLogprob]) -> Value {
    let mut bytes = 0;
    let mut text = Vec::new();
    for token in tokens {
        text.extend_from_slice(&token.bytes);
    }
    let offsets: Vec<usize> = tokens
        .iter()
        .map(|token| {
            let offset = String::from_utf8_lossy(&text[..bytes]).chars().count();
            bytes += token.bytes.len();
            offset
        })
        .collect();
    let top: Vec<Value> = tokens
        .iter()
        .map(|token| {
            let entries = token
                .top
                .iter()
                .map(|top| (top.token.clone(), json!(shortest(top.logprob))));
            Value::Object(Map::from_iter(entries))
        })
        .collect();
    json!({
        "tokens": tokens.iter().map(|token| token.token.as_str()).collect::<Vec<_>>(),
        "token_logprobs": tokens.iter().map(|token| shortest(token.logprob)).collect::<Vec<_>>(),
        "top_logprobs": top,
        "text_offset": offsets,
    })
}
