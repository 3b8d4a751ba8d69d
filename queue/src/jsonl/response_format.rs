//! `response_format`: OpenAI's forms, and two of rbee's own (`regex` and `grammar`).
//!
//! Owns the reading of the member. Whether a schema can be kept to is the worker's to say.

use super::line_error::LineError;
use crate::response_format::{MAX_FORMAT_BYTES, ResponseFormat};
use serde_json::{Map, Value};

const NAME: &str = "response_format";
/// The code of a format that is longer than a format may be.
const TOO_LARGE: &str = "response_format_too_large";

/// Reads it; a text of any form is `None`.
pub(super) fn read(value: &Value) -> Result<Option<ResponseFormat>, LineError> {
    let given = value
        .as_object()
        .ok_or_else(|| LineError::wrong_type(NAME, "an object", value))?;
    let kind = given.get("type").unwrap_or(&Value::Null);
    let format = match kind.as_str() {
        Some("text") => return Ok(None),
        // Some clients write a schema beside `json_object`.
        Some("json_object") => match given.get("schema").filter(|schema| !schema.is_null()) {
            Some(schema) => of_schema(schema)?,
            None => ResponseFormat::JsonObject,
        },
        Some("json_schema") => of_schema(schema_of(given)?)?,
        Some("regex") => ResponseFormat::Regex(text_of(given, "regex")?),
        Some("grammar") => ResponseFormat::Grammar(text_of(given, "grammar")?),
        Some(_) => {
            let why = "type must be text, json_object, json_schema, regex or grammar";
            return Err(LineError::invalid(NAME, why));
        }
        None => {
            return Err(LineError::wrong_type(
                "response_format.type",
                "a text",
                kind,
            ));
        }
    };
    match format.bytes() {
        bytes if bytes > MAX_FORMAT_BYTES => {
            let message = format!("{NAME} has {bytes} bytes; {MAX_FORMAT_BYTES} are possible");
            Err(LineError::new(TOO_LARGE, message).about(NAME))
        }
        _ => Ok(Some(format)),
    }
}

/// `{"name", "description", "strict", "schema"}`. The schema holds whatever `strict` says.
fn schema_of(given: &Map<String, Value>) -> Result<&Value, LineError> {
    let member = given.get("json_schema").unwrap_or(&Value::Null);
    let named = member
        .as_object()
        .ok_or_else(|| LineError::wrong_type("response_format.json_schema", "an object", member))?;
    for (name, value) in named {
        let (fits, wanted) = match name.as_str() {
            "schema" => (true, ""),
            "name" | "description" => (value.is_string() || value.is_null(), "a text"),
            "strict" => (value.is_boolean() || value.is_null(), "true or false"),
            _ => {
                let why = format!("json_schema has no member {name}");
                return Err(LineError::invalid(NAME, &why));
            }
        };
        if !fits {
            let name = format!("response_format.json_schema.{name}");
            return Err(LineError::wrong_type(&name, wanted, value));
        }
    }
    named
        .get("schema")
        .ok_or_else(|| LineError::missing("response_format.json_schema.schema"))
}

fn of_schema(schema: &Value) -> Result<ResponseFormat, LineError> {
    match schema {
        Value::Object(_) | Value::Bool(_) => Ok(ResponseFormat::JsonSchema(schema.clone())),
        other => Err(LineError::wrong_type(
            "response_format.json_schema.schema",
            "a JSON schema",
            other,
        )),
    }
}

fn text_of(given: &Map<String, Value>, name: &str) -> Result<String, LineError> {
    let value = given.get(name).unwrap_or(&Value::Null);
    match value.as_str() {
        Some(text) if !text.is_empty() => Ok(text.to_owned()),
        Some(_) => Err(LineError::invalid(NAME, &format!("{name} is empty"))),
        None => Err(LineError::wrong_type(
            &format!("response_format.{name}"),
            "a text",
            value,
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn forms_of_openai_and_our_own_are_read() {
        let schema = json!({"type": "object", "properties": {"b": {}, "a": {}}});
        let named = |schema: &Value| json!({"name": "x", "strict": true, "schema": schema});
        let read = |value: Value| read(&value).unwrap();
        assert_eq!(read(json!({"type": "text"})), None);
        assert_eq!(
            read(json!({"type": "json_object"})),
            Some(ResponseFormat::JsonObject)
        );
        let whole = Some(ResponseFormat::JsonSchema(schema.clone()));
        assert_eq!(
            read(json!({"type": "json_schema", "json_schema": named(&schema)})),
            whole
        );
        assert_eq!(
            read(json!({"type": "json_object", "schema": schema})),
            whole
        );
        assert_eq!(
            read(json!({"type": "regex", "regex": "[0-9]+"})),
            Some(ResponseFormat::Regex("[0-9]+".into()))
        );
        assert_eq!(
            read(json!({"type": "grammar", "grammar": "start: \"a\""})),
            Some(ResponseFormat::Grammar("start: \"a\"".into()))
        );
    }

    #[test]
    fn what_is_no_form_is_refused_by_name() {
        for (value, wanted) in [
            (json!("json"), "response_format must be an object"),
            (json!({}), "response_format.type"),
            (json!({"type": "xml"}), "json_schema, regex or grammar"),
            (
                json!({"type": "json_schema"}),
                "response_format.json_schema",
            ),
            (
                json!({"type": "json_schema", "json_schema": {"name": "x"}}),
                "schema is missing",
            ),
            (
                json!({"type": "json_schema", "json_schema": {"schema": 5}}),
                "a JSON schema",
            ),
            (
                json!({"type": "json_schema", "json_schema": {"schema": {}, "strict": 1}}),
                "true or false",
            ),
            (
                json!({"type": "json_schema", "json_schema": {"schemas": {}}}),
                "no member schemas",
            ),
            (json!({"type": "regex"}), "response_format.regex"),
            (json!({"type": "regex", "regex": ""}), "regex is empty"),
            (
                json!({"type": "regex", "regex": "a".repeat(MAX_FORMAT_BYTES + 1)}),
                "262145 bytes",
            ),
        ] {
            let error = read(&value).unwrap_err();
            assert!(error.message.contains(wanted), "{}", error.message);
        }
    }
}
