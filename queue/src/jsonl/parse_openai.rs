//! The OpenAI line: `{"custom_id", "method", "url", "body"}`.
//!
//! Owns its members and their checks. A body member that is neither known nor harmless is an
//! error: it may be a misspelt one that was meant to change the answer.

use super::line_error::{LineError, quote};
use super::options::LineOptions;
use super::parse::{
    ParsedLine, Shape, chat, merge, raw_prompt, refuse_parse_special, take_custom_id, take_model,
};
use super::{embeddings, messages, params};
use crate::request::{Endpoint, Request};
use serde_json::{Map, Value};

pub(super) fn parse_openai(mut object: Map<String, Value>, options: &LineOptions) -> ParsedLine {
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
                format!(
                    "url {url} is not one of /v1/chat/completions, /v1/completions and /v1/embeddings"
                ),
            )
        })?,
        Some(other) => return Err(LineError::wrong_type("url", "a text", other)),
        None => return Err(LineError::missing("url")),
    };
    if let Some(wanted) = options.endpoint.filter(|wanted| *wanted != endpoint) {
        return Err(LineError::new(
            "url_mismatch",
            format!(
                "url is {}, and the batch is for {}",
                endpoint.url(),
                wanted.url()
            ),
        ));
    }
    let mut body = match object.remove("body") {
        Some(Value::Object(body)) => body,
        Some(other) => return Err(LineError::wrong_type("body", "an object", &other)),
        None => return Err(LineError::missing("body")),
    };
    if endpoint == Endpoint::Embeddings {
        return embeddings::read(body, options);
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
            let what = "is not a parameter that rbee knows: remove it, or check its name";
            return Err(LineError::new("unknown_parameter", format!("{name} {what}")).about(name));
        }
    }
    // The one of two names that the other takes the place of is read too, since it may be wrong.
    if let Some(tokens) = body.get("max_tokens") {
        params::check_one("max_tokens", tokens)?;
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
