//! What of a result line is compared: the answer, in one form for both shapes of lines.
//!
//! Left out is what two equal answers may differ in: ids, the place in the file, fields that the input line carries
//! along, times and fingerprints.

use serde_json::{Map, Value, json};

/// One result line.
#[derive(Debug, Clone, PartialEq)]
pub struct ResultLine {
    /// The id that the line shows: its own, or its place.
    pub id: String,
    /// Its place in its batch, counted from 0.
    pub index: u64,
    /// What its request is known by; files do not say it.
    pub job_key: Option<String>,
    /// What was answered.
    pub answer: Answer,
}

/// An answer by the names of its parts; parts that are absent or null are left out.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Answer(pub Map<String, Value>);

impl ResultLine {
    /// Reads a line; `place` is how many lines came before it. `Err` says what is wrong with it.
    pub fn read(line: &str, place: u64) -> Result<ResultLine, String> {
        let value: Map<String, Value> =
            serde_json::from_str(line).map_err(|error| error.to_string())?;
        match value.contains_key("response") {
            true => openai(&value, place),
            false => short(&value, place),
        }
    }

    /// Whether the id is only the line's place.
    pub fn is_unnamed(&self) -> bool {
        self.id == self.index.to_string()
    }
}

impl Answer {
    fn set(&mut self, name: &str, value: Option<&Value>) {
        if let Some(value) = value.filter(|value| !value.is_null()) {
            self.0.insert(name.to_owned(), value.clone());
        }
    }

    /// The first choice's text.
    pub fn text(&self) -> Option<&str> {
        self.0.get("text").and_then(Value::as_str)
    }

    /// The names of the parts in which two answers differ.
    pub fn differences(&self, other: &Answer) -> Vec<String> {
        let names = self.0.keys();
        let more = other.0.keys().filter(|name| !self.0.contains_key(*name));
        names
            .chain(more)
            .filter(|name| self.0.get(*name) != other.0.get(*name))
            .cloned()
            .collect()
    }
}

fn short(line: &Map<String, Value>, place: u64) -> Result<ResultLine, String> {
    let index = line.get("index").and_then(Value::as_u64).unwrap_or(place);
    let mut answer = Answer::default();
    for part in [
        "text",
        "finish_reason",
        "logprobs",
        "tool_calls",
        "choices",
        "embedding",
    ] {
        answer.set(part, line.get(part));
    }
    if !line.contains_key("text") && !line.contains_key("error") && answer.0.is_empty() {
        return Err("it has neither an answer nor an error".to_owned());
    }
    answer.set("usage", usage(line.get("usage")).as_ref());
    answer.set("error", error(line.get("error")).as_ref());
    Ok(ResultLine {
        id: id(line.get("id"), index),
        index,
        job_key: line
            .get("job_key")
            .and_then(Value::as_str)
            .map(str::to_owned),
        answer,
    })
}

fn openai(line: &Map<String, Value>, place: u64) -> Result<ResultLine, String> {
    let mut answer = Answer::default();
    answer.set("error", error(line.get("error")).as_ref());
    let body = line
        .get("response")
        .and_then(|response| response.get("body"));
    if let Some(body) = body {
        answer.set("error", error(body.get("error")).as_ref());
        answer.set("usage", usage(body.get("usage")).as_ref());
        answer.set("embedding", body.pointer("/data/0/embedding"));
        let choices: Vec<Value> = body
            .get("choices")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .map(choice)
            .collect();
        for part in ["text", "finish_reason", "logprobs", "tool_calls"] {
            answer.set(part, choices.first().and_then(|choice| choice.get(part)));
        }
        if choices.len() > 1 {
            answer.set("choices", Some(&Value::Array(choices)));
        }
    }
    if answer.0.is_empty() {
        return Err("it has neither an answer nor an error".to_owned());
    }
    Ok(ResultLine {
        id: id(line.get("custom_id"), place),
        index: place,
        job_key: None,
        answer,
    })
}

/// A choice of OpenAI's in the short form.
fn choice(choice: &Value) -> Value {
    let message = choice.get("message");
    let text = message.and_then(|message| message.get("content"));
    let mut short = json!({
        "index": choice.get("index"),
        "text": text.or_else(|| choice.get("text")),
        "finish_reason": choice.get("finish_reason"),
    });
    let logprobs = choice.get("logprobs");
    let logprobs = logprobs
        .and_then(|logprobs| logprobs.get("content"))
        .or(logprobs);
    let tool_calls = message.and_then(|message| message.get("tool_calls"));
    for (name, part) in [("logprobs", logprobs), ("tool_calls", tool_calls)] {
        if let Some(part) = part.filter(|part| !part.is_null()) {
            short[name] = part.clone();
        }
    }
    short
}

/// The counts that every shape has.
fn usage(usage: Option<&Value>) -> Option<Value> {
    let usage = usage.filter(|usage| usage.is_object())?;
    Some(json!({
        "prompt_tokens": usage.get("prompt_tokens"),
        "completion_tokens": usage.get("completion_tokens"),
    }))
}

/// An error without the line that it is about.
fn error(error: Option<&Value>) -> Option<Value> {
    let error = error.filter(|error| error.is_object())?;
    Some(json!({"code": error.get("code"), "message": error.get("message")}))
}

fn id(shown: Option<&Value>, index: u64) -> String {
    match shown {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => index.to_string(),
        Some(other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: Value) -> ResultLine {
        ResultLine::read(&line.to_string(), 7).unwrap()
    }

    #[test]
    fn both_shapes_of_one_answer_are_equal() {
        let usage = json!({"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5});
        let short = read(json!({
            "id": "a", "index": 4, "text": "yes", "finish_reason": "stop", "usage": usage,
            "error": null, "metadata": {"source": 1}, "job_key": "00",
        }));
        let openai = read(json!({
            "id": "batch_req_1", "custom_id": "a", "error": null,
            "response": {"status_code": 200, "request_id": "r", "body": {
                "id": "chatcmpl-1", "created": 0, "model": "m", "usage": usage,
                "choices": [{"index": 0, "message": {"role": "assistant", "content": "yes", "refusal": null},
                             "logprobs": null, "finish_reason": "stop"}]}},
        }));
        assert_eq!(short.answer, openai.answer);
        assert_eq!((short.id, openai.id), ("a".to_owned(), "a".to_owned()));
        assert_eq!((short.index, openai.index), (4, 7));
    }

    #[test]
    fn errors_are_equal_wherever_their_lines_stand() {
        let line = |line: u64, code: &str| {
            read(
                json!({"id": "1", "index": 1, "text": null, "finish_reason": null, "usage": null,
                        "error": {"code": code, "message": "m", "line": line}, "metadata": {}}),
            )
        };
        assert_eq!(line(1, "a").answer, line(9, "a").answer);
        let differences = line(1, "a").answer.differences(&line(1, "b").answer);
        assert_eq!(differences, ["error"]);
        assert!(line(1, "a").is_unnamed());
    }

    #[test]
    fn what_is_no_result_is_refused() {
        for line in ["", "[]", "{}", r#"{"prompt":"p"}"#, "{\"response\":null}"] {
            assert!(ResultLine::read(line, 0).is_err(), "{line} was taken");
        }
    }
}
