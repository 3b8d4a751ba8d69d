//! One input line to one request, or to the line's error.
//!
//! Owns the two line shapes, custom ids, metadata and the precedence of batch-wide options. Pure:
//! the same text with the same options always gives the same answer, so that a stored line can
//! be read again at dispatch and at export.

use super::options::{InputFormat, LineOptions};
use super::template::Template;
use super::{messages, params};
use crate::ids::ContentHash;
use crate::record::JobError;
use crate::request::{Endpoint, Input, Request};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Greatest length of a custom id.
pub const MAX_CUSTOM_ID_BYTES: usize = 512;
/// Lines up to this length are parsed without counting their values first.
const UNCOUNTED_LINE_BYTES: usize = 64 * 1024;
/// Greatest number of JSON values of a line: a parsed value takes far more memory than its text.
const MAX_LINE_VALUES: usize = 250_000;
/// How much of a wrong value an error message quotes.
const QUOTED_CHARS: usize = 60;

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

/// Why a line is not a request. It becomes the job's error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct LineError {
    /// A stable word in snake_case.
    pub code: &'static str,
    /// A sentence for a person.
    pub message: String,
}

impl LineError {
    pub(super) fn new(code: &'static str, message: impl Into<String>) -> LineError {
        LineError {
            code,
            message: message.into(),
        }
    }

    pub(super) fn wrong_type(name: &str, wanted: &str, value: &Value) -> LineError {
        let message = format!("{name} must be {wanted}, not {}", quote(value));
        LineError::new("wrong_type", message)
    }

    pub(super) fn out_of_range(name: &str, value: &Value, range: &str) -> LineError {
        let message = format!(
            "{name} is {}, it must be in the range {range}",
            quote(value)
        );
        LineError::new("out_of_range", message)
    }

    pub(super) fn limit(name: &str, limit: &str) -> LineError {
        LineError::new("out_of_range", format!("{name} has more than {limit}"))
    }

    pub(super) fn invalid(name: &str, why: &str) -> LineError {
        LineError::new("invalid_value", format!("{name}: {why}"))
    }

    pub(super) fn missing(name: &str) -> LineError {
        LineError::new("missing_field", format!("{name} is missing"))
    }

    pub(super) fn unsupported(name: &str, why: &str) -> LineError {
        LineError::new("unsupported", format!("{name}: {why}"))
    }
}

impl From<LineError> for JobError {
    fn from(error: LineError) -> JobError {
        JobError::new(error.code, error.message)
    }
}

fn quote(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(QUOTED_CHARS) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
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

fn parse_json(text: &str) -> Result<Map<String, Value>, LineError> {
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

fn parse_openai(mut object: Map<String, Value>, options: &LineOptions) -> ParsedLine {
    let mut line = ParsedLine {
        shape: Some(Shape::OpenAi),
        custom_id: None,
        metadata: Map::new(),
        request: Err(LineError::missing("body")),
    };
    match take_custom_id(&mut object, &["custom_id"]) {
        Ok(id) => line.custom_id = id,
        Err(error) => {
            line.request = Err(error);
            return line;
        }
    }
    line.request = openai_request(object, options);
    line
}

fn openai_request(
    mut object: Map<String, Value>,
    options: &LineOptions,
) -> Result<Request, LineError> {
    match object.get("method") {
        None | Some(Value::Null) => {}
        Some(Value::String(method)) if method == "POST" => {}
        Some(other) => {
            return Err(LineError::invalid(
                "method",
                &format!("{} is not POST", quote(other)),
            ));
        }
    }
    let endpoint = match object.get("url") {
        Some(Value::String(url)) => Endpoint::from_url(url).ok_or_else(|| {
            let url = quote(&Value::from(url.as_str()));
            LineError::new(
                "unknown_url",
                format!("url {url} is not one of /v1/chat/completions and /v1/completions"),
            )
        })?,
        Some(other) => return Err(LineError::wrong_type("url", "a text", other)),
        None => return Err(LineError::missing("url")),
    };
    let mut body = match object.remove("body") {
        Some(Value::Object(body)) => body,
        Some(other) => return Err(LineError::wrong_type("body", "an object", &other)),
        None => return Err(LineError::missing("body")),
    };
    if endpoint == Endpoint::Embeddings {
        let why = "embeddings are not supported";
        return Err(LineError::unsupported("url /v1/embeddings", why));
    }
    let wanted = if endpoint == Endpoint::Completions {
        "prompt"
    } else {
        "messages"
    };
    let source = body
        .remove(wanted)
        .ok_or_else(|| LineError::missing(wanted))?;
    let model = take_model(&mut body, options)?;
    for (name, value) in &body {
        if let Some(why) = params::unsupported(name, value) {
            return Err(LineError::unsupported(name, why));
        }
        let known = params::is_param(name)
            || params::is_harmless(name)
            || value.is_null()
            || params::unsupported(name, &Value::Bool(true)).is_some();
        if !known {
            return Err(LineError::new(
                "unknown_parameter",
                format!("{name} is not a parameter that rbee knows: remove it, or check its name"),
            ));
        }
    }
    let merged = merge(options, body);
    let mut params = params::read(&merged, endpoint, 1.0)?;
    let input = if endpoint == Endpoint::Completions {
        raw_prompt(
            messages::read_prompt(source)?,
            &merged,
            &mut params,
            options,
        )?
    } else {
        refuse_parse_special(&params)?;
        chat(messages::read_messages(source)?, options)
    };
    Ok(Request {
        endpoint,
        model,
        input,
        params,
    })
}

fn parse_short(mut object: Map<String, Value>, options: &LineOptions) -> ParsedLine {
    let mut line = ParsedLine {
        shape: Some(Shape::Short),
        custom_id: None,
        metadata: Map::new(),
        request: Err(LineError::missing("prompt or messages")),
    };
    let templated = fill_template(&object, options);
    match take_custom_id(&mut object, &["custom_id", "id"]) {
        Ok(id) => line.custom_id = id,
        Err(error) => line.request = Err(error),
    }
    let mut body = Map::new();
    let mut refused = None;
    for (name, value) in object {
        if params::is_param(&name)
            || matches!(name.as_str(), "prompt" | "messages" | "model" | "raw")
        {
            body.insert(name, value);
        } else if let Some(why) = params::unsupported(&name, &value) {
            refused.get_or_insert(LineError::unsupported(&name, why));
        } else if let ("metadata", Value::Object(members)) = (name.as_str(), &value) {
            line.metadata.extend(members.clone());
        } else {
            line.metadata.insert(name, value);
        }
    }
    if matches!(&line.request, Err(error) if error.code == "invalid_custom_id") {
        return line;
    }
    line.request = match refused {
        Some(error) => Err(error),
        None => short_request(body, templated, options),
    };
    line
}

/// The prompt that the batch's template makes of the line, if it has one and the line is no chat.
fn fill_template(
    object: &Map<String, Value>,
    options: &LineOptions,
) -> Option<Result<String, LineError>> {
    let source = options.template.as_deref()?;
    if object.contains_key("messages") {
        return None;
    }
    let filled = Template::parse(source)
        .map_err(|error| LineError::invalid("template", &error.to_string()))
        .and_then(|template| {
            template
                .fill(&[&options.overrides, object])
                .map_err(|field| {
                    LineError::new(
                        "missing_template_field",
                        format!("the template wants {{{{{field}}}}} and the line has no {field}"),
                    )
                })
        });
    Some(filled)
}

fn short_request(
    mut body: Map<String, Value>,
    templated: Option<Result<String, LineError>>,
    options: &LineOptions,
) -> Result<Request, LineError> {
    let prompt = body.remove("prompt").filter(|value| !value.is_null());
    let chat_messages = body.remove("messages").filter(|value| !value.is_null());
    let raw = match body.remove("raw") {
        None | Some(Value::Null) => options.raw,
        Some(Value::Bool(raw)) => raw,
        Some(other) => return Err(LineError::wrong_type("raw", "true or false", &other)),
    };
    let model = take_model(&mut body, options)?;
    let text = match (templated, prompt, &chat_messages) {
        (_, Some(_), Some(_)) => {
            return Err(LineError::invalid(
                "prompt",
                "the line has messages too: keep one",
            ));
        }
        (Some(filled), _, _) => Some(filled?),
        (None, Some(prompt), _) => Some(messages::read_prompt(prompt)?),
        (None, None, Some(_)) => None,
        (None, None, None) => return Err(LineError::missing("prompt or messages")),
    };
    let endpoint = match &text {
        Some(_) if raw => Endpoint::Completions,
        _ => Endpoint::ChatCompletions,
    };
    let merged = merge(options, body);
    let mut params = params::read(&merged, endpoint, 0.0)?;
    let input = match (text, chat_messages) {
        (Some(text), _) if raw => raw_prompt(text, &merged, &mut params, options)?,
        (Some(text), _) => {
            refuse_parse_special(&params)?;
            match &options.system {
                Some(_) => chat(vec![messages::message("user", &text)], options),
                None => Input::Prompt { text, raw: false },
            }
        }
        (None, source) => {
            refuse_parse_special(&params)?;
            chat(
                messages::read_messages(source.unwrap_or(Value::Null))?,
                options,
            )
        }
    };
    Ok(Request {
        endpoint,
        model,
        input,
        params,
    })
}

fn chat(list: Vec<Map<String, Value>>, options: &LineOptions) -> Input {
    Input::Messages(messages::with_system(list, options.system.as_deref()))
}

fn raw_prompt(
    text: String,
    merged: &Map<String, Value>,
    params: &mut crate::request::Params,
    options: &LineOptions,
) -> Result<Input, LineError> {
    if options.system.is_some() {
        return Err(LineError::unsupported(
            "--system",
            "this prompt is continued as it stands, it has no place for a system message",
        ));
    }
    if merged.get("parse_special").is_none_or(Value::is_null) {
        params.parse_special = true;
    }
    Ok(Input::Prompt { text, raw: true })
}

fn refuse_parse_special(params: &crate::request::Params) -> Result<(), LineError> {
    if params.parse_special {
        let why = "only a prompt that is continued as it stands can hold control tokens";
        return Err(LineError::unsupported("parse_special", why));
    }
    Ok(())
}

/// Overrides over the line's own values over the defaults.
fn merge(options: &LineOptions, body: Map<String, Value>) -> Map<String, Value> {
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

fn take_model(body: &mut Map<String, Value>, options: &LineOptions) -> Result<String, LineError> {
    match body.remove("model") {
        None | Some(Value::Null) => Ok(options.model.clone()),
        Some(Value::String(model)) if !model.is_empty() => Ok(model),
        Some(Value::String(_)) => Err(LineError::invalid("model", "it is empty")),
        Some(other) => Err(LineError::wrong_type("model", "a text", &other)),
    }
}

/// The id under the first of `names` that the line has.
fn take_custom_id(
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
