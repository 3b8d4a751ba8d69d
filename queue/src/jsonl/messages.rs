//! Chat messages and prompts of a line: their checks.
//!
//! Owns what a message may look like. What is accepted is kept as given, for the template.

use super::line_error::LineError;
use serde_json::{Map, Value};

/// Greatest length of a role's name.
const MAX_ROLE_CHARS: usize = 64;

/// Checks the `messages` of a body.
pub fn read_messages(value: Value) -> Result<Vec<Map<String, Value>>, LineError> {
    let Value::Array(items) = value else {
        return Err(LineError::wrong_type(
            "messages",
            "an array of messages",
            &value,
        ));
    };
    if items.is_empty() {
        return Err(LineError::invalid("messages", "there is no message"));
    }
    items
        .into_iter()
        .enumerate()
        .map(|(at, item)| read_message(at, item))
        .collect()
}

fn read_message(at: usize, item: Value) -> Result<Map<String, Value>, LineError> {
    let Value::Object(message) = item else {
        return Err(LineError::wrong_type(
            &format!("messages[{at}]"),
            "an object",
            &item,
        ));
    };
    let role = match message.get("role") {
        Some(Value::String(role)) if !role.is_empty() && role.chars().count() <= MAX_ROLE_CHARS => {
            role
        }
        Some(Value::String(_)) => {
            return Err(LineError::invalid(
                &format!("messages[{at}].role"),
                &format!("it has 1 to {MAX_ROLE_CHARS} characters"),
            ));
        }
        Some(other) => {
            return Err(LineError::wrong_type(
                &format!("messages[{at}].role"),
                "a text",
                other,
            ));
        }
        None => return Err(LineError::missing(&format!("messages[{at}].role"))),
    };
    match message.get("content") {
        Some(Value::String(_)) => {}
        Some(Value::Array(parts)) => {
            for (part_at, part) in parts.iter().enumerate() {
                check_part(&format!("messages[{at}].content[{part_at}]"), part)?;
            }
        }
        // An assistant's tool call has no content.
        None | Some(Value::Null) if role == "assistant" => {}
        None | Some(Value::Null) => {
            return Err(LineError::missing(&format!("messages[{at}].content")));
        }
        Some(other) => {
            return Err(LineError::wrong_type(
                &format!("messages[{at}].content"),
                "a text or an array of parts",
                other,
            ));
        }
    }
    Ok(message)
}

fn check_part(place: &str, part: &Value) -> Result<(), LineError> {
    match (part.get("type").and_then(Value::as_str), part.get("text")) {
        (Some("text"), Some(Value::String(_))) => Ok(()),
        (Some("text"), _) => Err(LineError::missing(&format!("{place}.text"))),
        (Some(kind), _) => Err(LineError::unsupported(
            place,
            &format!("a part of type {kind:?} is not supported, only text is"),
        )),
        (None, _) => Err(LineError::missing(&format!("{place}.type"))),
    }
}

/// The one text of a `prompt`: a string, or an array of one string.
pub fn read_prompt(value: Value) -> Result<String, LineError> {
    match value {
        Value::String(text) => Ok(text),
        Value::Array(mut items) => match (items.len(), items.pop()) {
            (1, Some(Value::String(text))) => Ok(text),
            (_, Some(Value::String(_))) => Err(LineError::unsupported(
                "prompt",
                "several prompts in one line are not supported: write one line each",
            )),
            (_, Some(Value::Number(_) | Value::Array(_))) => Err(LineError::unsupported(
                "prompt",
                "a prompt of token ids is not supported: write its text",
            )),
            (_, last) => Err(LineError::wrong_type(
                "prompt",
                "a text",
                &last.unwrap_or(Value::Array(Vec::new())),
            )),
        },
        other => Err(LineError::wrong_type("prompt", "a text", &other)),
    }
}

/// Puts a system message first, unless there is one.
pub fn with_system(
    mut messages: Vec<Map<String, Value>>,
    system: Option<&str>,
) -> Vec<Map<String, Value>> {
    let has_own = messages
        .first()
        .and_then(|message| message.get("role"))
        .is_some_and(|role| role == "system" || role == "developer");
    if let (Some(text), false) = (system, has_own) {
        messages.insert(0, message("system", text));
    }
    messages
}

/// A message of a role and a text.
pub fn message(role: &str, text: &str) -> Map<String, Value> {
    Map::from_iter([
        ("role".to_owned(), Value::from(role)),
        ("content".to_owned(), Value::from(text)),
    ])
}
