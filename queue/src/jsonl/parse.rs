//! One input line to one request, or to the line's error.
//!
//! Owns what both line shapes share: custom ids, the precedence of batch-wide options, chats. Pure:
//! the same text with the same options always gives the same answer, so that a stored line can
//! be read again at dispatch and at export.

use super::line_error::{LineError, quote};
use super::messages;
use super::options::{InputFormat, LineOptions};
use super::parse_openai::parse_openai;
use super::parse_short::parse_short;
use crate::ids::ContentHash;
use crate::request::{Input, Params, Request};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Greatest length of a custom id.
pub const MAX_CUSTOM_ID_BYTES: usize = 512;
/// Lines up to this length are parsed without counting their values first.
const UNCOUNTED_LINE_BYTES: usize = 64 * 1024;
/// Greatest number of JSON values of a line: a parsed value takes far more memory than its text.
const MAX_LINE_VALUES: usize = 250_000;

/// How a line is written, and so how its result is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// `{"custom_id", "method", "url", "body"}`.
    OpenAi,
    /// `{"prompt"}` or `{"messages"}` with parameters beside them.
    Short,
}

/// A line's own id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CustomId {
    /// The id's text.
    pub text: String,
    /// It was written as a number, and is shown as one.
    pub number: bool,
}

/// What a line says. What could be read of a bad line is kept, for its result line.
#[derive(Clone, Debug, PartialEq)]
pub struct ParsedLine {
    /// The line's shape; `None` if it is not even an object.
    pub shape: Option<Shape>,
    /// The line's own id.
    pub custom_id: Option<CustomId>,
    /// The fields of a short line that are carried through.
    pub metadata: Map<String, Value>,
    /// The request with all defaults applied, or the line's error.
    pub request: Result<Request, LineError>,
}

impl ParsedLine {
    /// A line of which nothing is known but its error.
    pub fn unreadable(error: LineError) -> ParsedLine {
        ParsedLine {
            shape: None,
            custom_id: None,
            metadata: Map::new(),
            request: Err(error),
        }
    }

    /// The hash that the job key is made of.
    pub fn content(&self, line: &[u8]) -> ContentHash {
        match &self.request {
            Ok(request) => {
                ContentHash::of(request, self.custom_id.as_ref().map(|id| id.text.as_str()))
            }
            Err(_) => ContentHash::of_bad_line(line),
        }
    }
}

/// Reads one line (without its end).
pub fn parse_line(line: &[u8], options: &LineOptions) -> ParsedLine {
    let text = match std::str::from_utf8(line) {
        Ok(text) => text,
        Err(error) => {
            return ParsedLine::unreadable(LineError::new(
                "invalid_utf8",
                format!(
                    "the line is not UTF-8: byte {} is wrong",
                    error.valid_up_to()
                ),
            ));
        }
    };
    if options.format == InputFormat::Text {
        return parse_text(text, options);
    }
    match parse_json(text) {
        Ok(object) if is_openai(&object) => parse_openai(object, options),
        Ok(object) => parse_short(object, options),
        Err(error) => ParsedLine::unreadable(error),
    }
}

fn parse_text(text: &str, options: &LineOptions) -> ParsedLine {
    if text.contains('\0') {
        let message = "the line has a NUL byte: this is not a line of text";
        return ParsedLine::unreadable(LineError::new("nul_byte", message));
    }
    let prompt = Map::from_iter([("prompt".to_owned(), Value::from(text))]);
    parse_short(prompt, options)
}

/// Reads a JSON object that strangers wrote, in memory that its length bounds.
pub fn parse_json(text: &str) -> Result<Map<String, Value>, LineError> {
    if text.len() > UNCOUNTED_LINE_BYTES && value_count(text) > MAX_LINE_VALUES {
        let message = format!("the line has more than {MAX_LINE_VALUES} JSON values");
        return Err(LineError::new("line_too_complex", message));
    }
    match serde_json::from_str::<Value>(text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(other) => Err(LineError::new(
            "not_an_object",
            format!("the line must be a JSON object, not {}", quote(&other)),
        )),
        Err(error) => {
            // serde_json counts from line 1 of its own input; ours is named elsewhere.
            let what = error.to_string();
            let what = what.split(" at line ").next().unwrap_or(&what);
            let message = format!("not valid JSON: {what}, at byte {}", error.column());
            Err(LineError::new("invalid_json", message))
        }
    }
}

/// An upper bound of the number of values in a JSON text.
fn value_count(text: &str) -> usize {
    let (mut count, mut in_string, mut escaped) = (1, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b',' | b'[' | b'{' if !in_string => count += 1,
            _ => {}
        }
    }
    count
}

/// A short line may carry fields named `url`, `method` or `body` as metadata, so the shape is
/// judged by what only an OpenAI line has.
fn is_openai(object: &Map<String, Value>) -> bool {
    if object.contains_key("prompt") || object.contains_key("messages") {
        return false;
    }
    let path = object.get("url").and_then(Value::as_str);
    object.get("body").is_some_and(Value::is_object)
        || path.is_some_and(|path| path.starts_with('/'))
}

pub(super) fn chat(list: Vec<Map<String, Value>>, options: &LineOptions) -> Input {
    Input::Messages(messages::with_system(list, options.system.as_deref()))
}

pub(super) fn raw_prompt(
    text: String,
    merged: &Map<String, Value>,
    params: &mut Params,
    options: &LineOptions,
) -> Result<Input, LineError> {
    if options.system.is_some() {
        return Err(LineError::unsupported(
            "--system",
            "this prompt is continued as it stands, it has no place for a system message",
        ));
    }
    if params.tools.is_some() {
        let why = "this prompt is continued as it stands, it has no place for tools";
        return Err(LineError::unsupported("tools", why));
    }
    if merged.get("parse_special").is_none_or(Value::is_null) {
        params.parse_special = true;
    }
    Ok(Input::Prompt { text, raw: true })
}

pub(super) fn refuse_parse_special(params: &Params) -> Result<(), LineError> {
    if params.parse_special {
        let why = "only a prompt that is continued as it stands can hold control tokens";
        return Err(LineError::unsupported("parse_special", why));
    }
    Ok(())
}

/// Overrides over the line's own values over the defaults.
pub(super) fn merge(options: &LineOptions, body: Map<String, Value>) -> Map<String, Value> {
    let mut merged = body;
    merged.retain(|_, value| !value.is_null());
    fold_max_tokens(&mut merged);
    if !options.defaults.is_empty() {
        let mut defaults = options.defaults.clone();
        fold_max_tokens(&mut defaults);
        for (name, value) in defaults {
            merged.entry(name).or_insert(value);
        }
    }
    if !options.overrides.is_empty() {
        let mut overrides = options.overrides.clone();
        fold_max_tokens(&mut overrides);
        merged.extend(overrides);
    }
    merged
}

/// The two names of one parameter become one, so that a layer can replace it.
fn fold_max_tokens(map: &mut Map<String, Value>) {
    if let Some(tokens) = map.shift_remove("max_completion_tokens") {
        map.insert("max_tokens".to_owned(), tokens);
    }
}

pub(super) fn take_model(
    body: &mut Map<String, Value>,
    options: &LineOptions,
) -> Result<String, LineError> {
    match body.remove("model") {
        None | Some(Value::Null) => Ok(options.model.clone()),
        Some(Value::String(model)) if !model.is_empty() => Ok(model),
        Some(Value::String(_)) => Err(LineError::invalid("model", "it is empty")),
        Some(other) => Err(LineError::wrong_type("model", "a text", &other)),
    }
}

/// The id under the first of `names` that the line has.
pub(super) fn take_custom_id(
    object: &mut Map<String, Value>,
    names: &[&str],
) -> Result<Option<CustomId>, LineError> {
    let Some(name) = names
        .iter()
        .find(|name| object.get(**name).is_some_and(|value| !value.is_null()))
    else {
        return Ok(None);
    };
    match object.shift_remove(*name) {
        Some(Value::String(text)) if (1..=MAX_CUSTOM_ID_BYTES).contains(&text.len()) => {
            Ok(Some(CustomId {
                text,
                number: false,
            }))
        }
        Some(Value::Number(number)) if number.is_u64() || number.is_i64() => Ok(Some(CustomId {
            text: number.to_string(),
            number: true,
        })),
        Some(Value::String(_)) => Err(LineError::new(
            "invalid_custom_id",
            format!("{name} has 1 to {MAX_CUSTOM_ID_BYTES} bytes"),
        )),
        other => Err(LineError::new(
            "invalid_custom_id",
            format!(
                "{name} must be a text or a whole number, not {}",
                quote(&other.unwrap_or(Value::Null))
            ),
        )),
    }
}
