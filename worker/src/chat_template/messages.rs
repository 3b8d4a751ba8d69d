//! Messages in the form that a template expects.
//!
//! Most templates take `content` as a string; a few iterate over typed parts. Requests may hold
//! either. Tool calls carry their arguments as JSON text in OpenAI's API and as an object in
//! templates.

use serde_json::{Map, Value, json};

/// Which form of `content` a template reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ContentForm {
    /// A string.
    Text,
    /// A list of `{"type": "text", "text": …}`.
    Parts,
}

/// What joins the text parts of a message where the template takes a string.
const PART_SEPARATOR: &str = "\n";

/// `messages` with content and tool arguments in the template's form.
pub(super) fn in_form(
    messages: &[Map<String, Value>],
    form: ContentForm,
) -> Vec<Map<String, Value>> {
    messages
        .iter()
        .map(|message| message_in_form(message, form))
        .collect()
}

fn message_in_form(message: &Map<String, Value>, form: ContentForm) -> Map<String, Value> {
    let mut message = message.clone();
    if let Some(content) = message.get_mut("content") {
        match (form, &*content) {
            (ContentForm::Parts, Value::String(text)) => {
                *content = json!([{"type": "text", "text": text}])
            }
            (ContentForm::Text, Value::Array(parts)) => {
                if let Some(text) = joined_text(parts) {
                    *content = Value::String(text);
                }
            }
            _ => {}
        }
    }
    if let Some(Value::Array(calls)) = message.get_mut("tool_calls") {
        calls.iter_mut().for_each(parse_arguments);
    }
    message
}

/// The text of parts that are all text.
fn joined_text(parts: &[Value]) -> Option<String> {
    let texts: Option<Vec<&str>> = parts
        .iter()
        .map(|part| part.get("text").and_then(Value::as_str))
        .collect();
    Some(texts?.join(PART_SEPARATOR))
}

fn parse_arguments(call: &mut Value) {
    let Some(arguments) = call
        .get_mut("function")
        .and_then(|function| function.get_mut("arguments"))
    else {
        return;
    };
    let parsed = arguments
        .as_str()
        .and_then(|text| serde_json::from_str::<Value>(text).ok());
    if let Some(object @ Value::Object(_)) = parsed {
        *arguments = object;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(message: Value, form: ContentForm) -> Value {
        let Value::Object(message) = message else {
            panic!("a message is an object")
        };
        Value::Object(in_form(&[message], form).remove(0))
    }

    #[test]
    fn content_takes_the_form_that_the_template_reads() {
        let parts = json!({"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]});
        assert_eq!(
            one(parts.clone(), ContentForm::Text),
            json!({"role": "user", "content": "a\nb"})
        );
        assert_eq!(one(parts.clone(), ContentForm::Parts), parts);
        let text = json!({"role": "user", "content": "a"});
        assert_eq!(one(text.clone(), ContentForm::Text), text);
        let expected = json!({"role": "user", "content": [{"type": "text", "text": "a"}]});
        assert_eq!(one(text, ContentForm::Parts), expected);
        let image = json!({"role": "user", "content": [{"type": "image_url", "image_url": {}}]});
        assert_eq!(one(image.clone(), ContentForm::Text), image);
    }

    #[test]
    fn tool_arguments_become_objects() {
        let call = |arguments: Value| json!({"role": "assistant", "tool_calls": [{"function": {"arguments": arguments}}]});
        assert_eq!(
            one(call(json!("{\"a\": 1}")), ContentForm::Text),
            call(json!({"a": 1}))
        );
        assert_eq!(
            one(call(json!("not json")), ContentForm::Text),
            call(json!("not json"))
        );
    }
}
