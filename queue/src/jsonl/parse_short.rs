//! The short line: a prompt or messages, with parameters and other fields beside them.
//!
//! Owns the sorting of its members into parameters and metadata, and the batch's template.

use super::line_error::LineError;
use super::options::LineOptions;
use super::parse::{
    ParsedLine, Shape, chat, merge, raw_prompt, refuse_parse_special, take_custom_id, take_model,
};
use super::template::Template;
use super::{messages, params};
use crate::request::{Endpoint, Input, Request};
use serde_json::{Map, Value};

pub(super) fn parse_short(mut object: Map<String, Value>, options: &LineOptions) -> ParsedLine {
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
