//! The tools that a model may call, and the calls that an answer makes.
//!
//! Owns the types and the finding of calls in a text: a pure function, so that a stored answer is its text and calls are found
//! again whenever it is rendered. Owns no reading of bodies (that is `jsonl`).

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Most tools of one request.
pub const MAX_TOOLS: usize = 128;
/// What many models put around a call.
pub const CALL_BEGINS: &str = "<tool_call>";
/// … and behind it.
pub const CALL_ENDS: &str = "</tool_call>";
/// The words under which models write a call's arguments.
const ARGUMENTS: [&str; 2] = ["arguments", "parameters"];

/// The tools of a request. One that asks for none of its tools has none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tools {
    /// OpenAI's `{"type": "function", "function": {"name", "description", "parameters"}}`, as they were given: templates show them.
    pub tools: Vec<Value>,
    /// Whether they must be called.
    pub choice: ToolChoice,
}

/// Whether a tool must be called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolChoice {
    /// As the model likes.
    Auto,
    /// One of them.
    Required,
    /// This one.
    Named(String),
}

impl Tools {
    /// The names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tools.iter().filter_map(name_of)
    }

    /// The schema of the call that must be made; `None` if none must.
    pub fn schema(&self) -> Option<Value> {
        let wanted = |tool: &&Value| match &self.choice {
            ToolChoice::Auto => false,
            ToolChoice::Required => true,
            ToolChoice::Named(name) => name_of(tool) == Some(name),
        };
        let calls: Vec<Value> = self.tools.iter().filter(wanted).map(call_schema).collect();
        (!calls.is_empty()).then(|| serde_json::json!({"anyOf": calls}))
    }

    /// The text of an answer apart from its calls, and these.
    pub fn split(&self, text: &str) -> (String, Vec<ToolCall>) {
        let (rest, blocks) = marked(text);
        let found: Vec<ToolCall> = blocks
            .iter()
            .flat_map(|block| self.calls_of(block))
            .collect();
        if !found.is_empty() {
            return (rest.trim().to_owned(), found);
        }
        match self.calls_of(text) {
            calls if calls.is_empty() => (text.to_owned(), calls),
            calls => (String::new(), calls),
        }
    }

    /// The calls that a JSON text is: one, or an array of nothing but calls.
    fn calls_of(&self, text: &str) -> Vec<ToolCall> {
        let calls = match serde_json::from_str(text.trim()) {
            Ok(Value::Array(items)) => items.iter().map(|item| self.call_of(item)).collect(),
            Ok(value) => self.call_of(&value).map(|call| vec![call]),
            Err(_) => None,
        };
        calls.unwrap_or_default()
    }

    fn call_of(&self, value: &Value) -> Option<ToolCall> {
        let name = value.get("name")?.as_str()?;
        self.names().find(|known| *known == name)?;
        let mut given = ARGUMENTS.iter().filter_map(|word| value.get(word));
        let arguments = match given.next() {
            Some(Value::Object(arguments)) => arguments.clone(),
            None | Some(Value::Null) => Map::new(),
            // Some models write the text of an object.
            Some(Value::String(text)) => serde_json::from_str(text).ok()?,
            Some(_) => return None,
        };
        Some(ToolCall {
            name: name.to_owned(),
            arguments: Value::Object(arguments).to_string(),
        })
    }
}

/// A call that an answer makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolCall {
    /// The tool.
    pub name: String,
    /// A JSON object.
    pub arguments: String,
}

fn name_of(tool: &Value) -> Option<&str> {
    tool.get("function")?.get("name")?.as_str()
}

fn call_schema(tool: &Value) -> Value {
    let function = tool.get("function").unwrap_or(&Value::Null);
    let parameters = match function.get("parameters") {
        Some(Value::Object(parameters)) if !parameters.is_empty() => parameters.clone().into(),
        _ => serde_json::json!({"type": "object", "properties": {}, "additionalProperties": false}),
    };
    serde_json::json!({
        "type": "object",
        "properties": {"name": {"const": function.get("name")}, "arguments": parameters},
        "required": ["name", "arguments"],
        "additionalProperties": false,
    })
}

/// The text outside of the marks, and the texts inside. A last mark may lack its end.
fn marked(text: &str) -> (String, Vec<&str>) {
    let (mut rest, mut blocks, mut left) = (String::new(), Vec::new(), text);
    while let Some((before, inside)) = left.split_once(CALL_BEGINS) {
        rest.push_str(before);
        let (block, after) = inside.split_once(CALL_ENDS).unwrap_or((inside, ""));
        blocks.push(block);
        left = after;
    }
    rest.push_str(left);
    (rest, blocks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn tools(choice: ToolChoice) -> Tools {
        let tool = |name: &str, parameters: Value| json!({"type": "function", "function": {"name": name, "parameters": parameters}});
        Tools {
            tools: vec![
                tool(
                    "weather",
                    json!({"type": "object", "properties": {"city": {"type": "string"}}}),
                ),
                tool("now", json!({})),
            ],
            choice,
        }
    }

    fn split(text: &str) -> (String, Vec<(String, String)>) {
        let (rest, calls) = tools(ToolChoice::Auto).split(text);
        (
            rest,
            calls
                .into_iter()
                .map(|call| (call.name, call.arguments))
                .collect(),
        )
    }

    #[test]
    fn calls_are_found_in_the_forms_that_models_write() {
        let weather = ("weather".to_owned(), r#"{"city":"Bern"}"#.to_owned());
        let now = ("now".to_owned(), "{}".to_owned());
        for text in [
            "<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Bern\"}}\n</tool_call>",
            "{\"name\": \"weather\", \"parameters\": {\"city\": \"Bern\"}}",
            " [{\"name\": \"weather\", \"arguments\": \"{\\\"city\\\": \\\"Bern\\\"}\"}]\n",
        ] {
            assert_eq!(
                split(text),
                (String::new(), vec![weather.clone()]),
                "{text}"
            );
        }
        let both = "Let me see.\n<tool_call>{\"name\": \"now\"}</tool_call>\n<tool_call>{\"name\": \"weather\", \"arguments\": {\"city\": \"Bern\"}}";
        assert_eq!(split(both), ("Let me see.".to_owned(), vec![now, weather]));
    }

    #[test]
    fn text_that_calls_nothing_stays_as_it_is() {
        for text in [
            " It is sunny. ",
            "{\"name\": \"unknown\", \"arguments\": {}}",
            "{\"name\": \"weather\", \"arguments\": [1]}",
            "[{\"name\": \"now\"}, 5]",
            "<tool_call>nonsense</tool_call>",
            "{}",
            "",
        ] {
            assert_eq!(split(text), (text.to_owned(), vec![]), "{text}");
        }
    }

    #[test]
    fn schema_is_that_of_the_calls_that_must_be_made() {
        assert_eq!(tools(ToolChoice::Auto).schema(), None);
        let all = tools(ToolChoice::Required).schema().unwrap();
        assert_eq!(all["anyOf"].as_array().unwrap().len(), 2);
        let one = tools(ToolChoice::Named("now".into())).schema().unwrap();
        assert_eq!(one["anyOf"].as_array().unwrap().len(), 1);
        assert_eq!(one["anyOf"][0]["properties"]["name"]["const"], "now");
    }
}
