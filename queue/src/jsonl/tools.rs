//! `tools` and `tool_choice`: OpenAI's forms.
//!
//! Owns the reading of the two members. Whether a model can be shown tools is the worker's to say.

use super::line_error::LineError;
use crate::tools::{MAX_TOOLS, ToolChoice, Tools};
use serde_json::Value;

/// Greatest length of a tool's name.
const MAX_NAME: usize = 64;

/// Reads both; `None` where nothing may be called.
pub(super) fn read(
    tools: Option<&Value>,
    choice: Option<&Value>,
) -> Result<Option<Tools>, LineError> {
    let tools = match tools {
        None => Vec::new(),
        Some(Value::Array(tools)) if tools.len() <= MAX_TOOLS => tools.clone(),
        Some(Value::Array(_)) => {
            return Err(LineError::limit("tools", &format!("{MAX_TOOLS} tools")));
        }
        Some(other) => return Err(LineError::wrong_type("tools", "an array of tools", other)),
    };
    for (at, tool) in tools.iter().enumerate() {
        check(&format!("tools[{at}]"), tool)?;
    }
    let tools = Tools {
        tools,
        choice: ToolChoice::Auto,
    };
    let Some(choice) = read_choice(choice)? else {
        return Ok(None);
    };
    match &choice {
        ToolChoice::Auto => {}
        _ if tools.tools.is_empty() => {
            return Err(LineError::invalid("tool_choice", "there are no tools"));
        }
        ToolChoice::Named(name) if !tools.names().any(|known| known == name) => {
            return Err(LineError::invalid(
                "tool_choice",
                &format!("there is no tool {name}"),
            ));
        }
        _ => {}
    }
    Ok((!tools.tools.is_empty()).then_some(Tools { choice, ..tools }))
}

/// `None`: no tool may be called.
fn read_choice(choice: Option<&Value>) -> Result<Option<ToolChoice>, LineError> {
    let wrong = |value: &Value| {
        let wanted =
            "none, auto, required or {\"type\": \"function\", \"function\": {\"name\": …}}";
        LineError::wrong_type("tool_choice", wanted, value)
    };
    match choice {
        None => Ok(Some(ToolChoice::Auto)),
        Some(Value::String(word)) => match word.as_str() {
            "none" => Ok(None),
            "auto" => Ok(Some(ToolChoice::Auto)),
            "required" => Ok(Some(ToolChoice::Required)),
            _ => Err(wrong(&Value::from(word.as_str()))),
        },
        Some(value) => {
            let name = value
                .get("function")
                .and_then(|function| function.get("name"));
            let name = name.and_then(Value::as_str).ok_or_else(|| wrong(value))?;
            if value.get("type").and_then(Value::as_str) != Some("function") {
                return Err(wrong(value));
            }
            Ok(Some(ToolChoice::Named(name.to_owned())))
        }
    }
}

fn check(place: &str, tool: &Value) -> Result<(), LineError> {
    if tool.get("type").and_then(Value::as_str) != Some("function") {
        return Err(LineError::invalid(place, "its type must be function"));
    }
    let member = |name: &str| tool.get("function").and_then(|function| function.get(name));
    let name = member("name").and_then(Value::as_str).unwrap_or_default();
    let fits = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    if !(1..=MAX_NAME).contains(&name.len()) || !name.chars().all(fits) {
        let why = format!("function.name has 1 to {MAX_NAME} letters, digits, _, - or .");
        return Err(LineError::invalid(place, &why));
    }
    if let Some(other) = member("description").filter(|it| !it.is_string() && !it.is_null()) {
        let place = format!("{place}.function.description");
        return Err(LineError::wrong_type(&place, "a text", other));
    }
    match member("parameters") {
        None | Some(Value::Null | Value::Object(_)) => Ok(()),
        Some(other) => Err(LineError::wrong_type(
            &format!("{place}.function.parameters"),
            "a JSON schema",
            other,
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn choices_are_openais() {
        let tools = json!([{"type": "function", "function": {"name": "now"}}]);
        let choice =
            |choice: Value| read(Some(&tools), Some(&choice)).map(|tools| tools.map(|t| t.choice));
        assert_eq!(choice(json!("none")), Ok(None));
        assert_eq!(choice(json!("auto")), Ok(Some(ToolChoice::Auto)));
        assert_eq!(choice(json!("required")), Ok(Some(ToolChoice::Required)));
        let named = |name: &str| json!({"type": "function", "function": {"name": name}});
        assert_eq!(
            choice(named("now")),
            Ok(Some(ToolChoice::Named("now".into())))
        );
        assert!(
            choice(named("then"))
                .unwrap_err()
                .message
                .contains("no tool then")
        );
        assert!(choice(json!("any")).is_err());
        assert!(read(None, Some(&json!("required"))).is_err());
        assert_eq!(read(Some(&json!([])), None), Ok(None));
    }

    #[test]
    fn tool_that_is_none_is_refused_by_its_place() {
        for tool in [
            json!({"type": "web_search"}),
            json!({"type": "function"}),
            json!({"type": "function", "function": {"name": "a b"}}),
            json!({"type": "function", "function": {"name": "a", "parameters": []}}),
        ] {
            let error = read(Some(&json!([tool])), None).unwrap_err();
            assert!(error.message.contains("tools[0]"), "{}", error.message);
        }
    }
}
