//! A request's JSON as template values, with the user's strings marked on the way.

use minijinja::Value as TemplateValue;
use serde_json::{Map, Value};

use super::mark::Marks;

/// Roles that templates know: they build control tokens from them and compare them.
const ROLES: &[&str] = &[
    "system",
    "user",
    "assistant",
    "tool",
    "developer",
    "function",
    "ipython",
    "model",
    "tool_response",
    "tool_call",
    "documents",
    "environment",
    "platform",
    "observation",
    "latest_reminder",
];

/// Values of `type` fields: of content parts, tools and JSON schemas.
const TYPES: &[&str] = &[
    "text",
    "function",
    "object",
    "string",
    "number",
    "integer",
    "boolean",
    "array",
    "null",
    "image",
    "image_url",
    "audio",
    "video",
];

/// Whether a string is one of the words that templates compare, and so is left alone.
fn is_known_word(key: &str, text: &str) -> bool {
    match key {
        "role" => ROLES.contains(&text),
        "type" => TYPES.contains(&text),
        _ => false,
    }
}

/// Whether a key of a map could be one that templates look up.
fn is_plain_key(key: &str) -> bool {
    key.bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

/// The template value of `value`, with its strings marked if there are `marks`.
pub(super) fn template_value(value: &Value, marks: Option<&Marks<'_>>) -> TemplateValue {
    keyed_value("", value, marks)
}

fn keyed_value(key: &str, value: &Value, marks: Option<&Marks<'_>>) -> TemplateValue {
    match value {
        Value::Null => TemplateValue::from(()),
        Value::Bool(flag) => TemplateValue::from(*flag),
        Value::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(signed), _, _) => TemplateValue::from(signed),
            (_, Some(unsigned), _) => TemplateValue::from(unsigned),
            (_, _, float) => TemplateValue::from(float),
        },
        Value::String(text) => match marks {
            Some(marks) if !is_known_word(key, text) => TemplateValue::from(marks.mark(text)),
            _ => TemplateValue::from(text.as_str()),
        },
        // A list's strings stand under the list's key: `"type": ["string", "null"]`.
        Value::Array(items) => TemplateValue::from(
            items
                .iter()
                .map(|item| keyed_value(key, item, marks))
                .collect::<Vec<TemplateValue>>(),
        ),
        Value::Object(fields) => map_value(fields, marks),
    }
}

/// As [`template_value`], for the fields of an object.
pub(super) fn map_value(fields: &Map<String, Value>, marks: Option<&Marks<'_>>) -> TemplateValue {
    TemplateValue::from_pairs(fields.iter().map(|(key, value)| {
        let name = match marks {
            Some(marks) if !is_plain_key(key) => marks.mark(key),
            _ => key.clone(),
        };
        (name, keyed_value(key, value, marks))
    }))
}

/// Calls `visit` with every string and key of `value`.
pub(super) fn for_each_text(value: &Value, visit: &mut impl FnMut(&str)) {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
        Value::String(text) => visit(text),
        Value::Array(items) => items.iter().for_each(|item| for_each_text(item, visit)),
        Value::Object(fields) => {
            for (key, value) in fields {
                visit(key);
                for_each_text(value, visit);
            }
        }
    }
}
