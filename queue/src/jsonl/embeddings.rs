//! The body of a request for embeddings: texts, and the form of their vectors.
//!
//! Batch-wide parameters are about generated text and are passed over here.

use super::line_error::LineError;
use super::options::LineOptions;
use super::params;
use super::parse::take_model;
use crate::request::{EmbedText, Endpoint, Input, MAX_EMBED_TEXTS, Params, Request};
use crate::whole_number::whole;
use serde_json::{Map, Value};

/// Greatest `dimensions`; far more than any model's.
const MAX_DIMENSIONS: u64 = 1 << 20;

pub(super) fn read(
    mut body: Map<String, Value>,
    options: &LineOptions,
) -> Result<Request, LineError> {
    if options.system.is_some() {
        let why = "a text whose vector is wanted has no place for a system message";
        return Err(LineError::unsupported("--system", why));
    }
    let model = take_model(&mut body, options)?;
    let input = body.remove("input").filter(|value| !value.is_null());
    let texts = texts(input.ok_or_else(|| LineError::missing("input"))?)?;
    let dimensions = dimensions(body.remove("dimensions"))?;
    let base64 = base64(body.remove("encoding_format"))?;
    let unknown = body
        .iter()
        .find(|(name, value)| !params::is_harmless(name) && !value.is_null());
    if let Some((name, _)) = unknown {
        let what = "is not a parameter of embeddings: remove it, or check its name";
        return Err(LineError::new("unknown_parameter", format!("{name} {what}")).about(name));
    }
    Ok(Request {
        endpoint: Endpoint::Embeddings,
        model,
        input: Input::Embed {
            texts,
            dimensions,
            base64,
        },
        params: Params::default(),
    })
}

/// A text, the ids of one, or a list of either.
fn texts(value: Value) -> Result<Vec<EmbedText>, LineError> {
    let items = match value {
        Value::String(text) => return Ok(vec![EmbedText::Text(checked("input", text)?)]),
        Value::Array(items) => items,
        other => return Err(wrong_type("input", &other)),
    };
    match items.first() {
        None => return Err(LineError::invalid("input", "it is empty")),
        Some(Value::Number(_)) => return Ok(vec![tokens("input", &items)?]),
        Some(_) => {}
    }
    if items.len() > MAX_EMBED_TEXTS {
        return Err(LineError::limit(
            "input",
            &format!("{MAX_EMBED_TEXTS} texts"),
        ));
    }
    let one = |(at, item): (usize, Value)| {
        let name = format!("input[{at}]");
        match item {
            Value::String(text) => checked(&name, text).map(EmbedText::Text),
            Value::Array(ids) => tokens(&name, &ids),
            other => Err(wrong_type(&name, &other)),
        }
    };
    items.into_iter().enumerate().map(one).collect()
}

fn checked(name: &str, text: String) -> Result<String, LineError> {
    if text.is_empty() {
        return Err(LineError::invalid(name, "the text is empty"));
    }
    Ok(text)
}

fn tokens(name: &str, ids: &[Value]) -> Result<EmbedText, LineError> {
    if ids.is_empty() {
        return Err(LineError::invalid(name, "the list of tokens is empty"));
    }
    let one = |id: &Value| {
        let id = whole(id).and_then(|id| u32::try_from(id).ok());
        id.ok_or_else(|| {
            LineError::invalid(name, "a list of tokens holds whole numbers only, from 0 on")
        })
    };
    Ok(EmbedText::Tokens(
        ids.iter().map(one).collect::<Result<_, _>>()?,
    ))
}

fn wrong_type(name: &str, value: &Value) -> LineError {
    LineError::wrong_type(
        name,
        "a text, a list of token ids, or a list of either",
        value,
    )
}

fn dimensions(value: Option<Value>) -> Result<Option<u32>, LineError> {
    let Some(value) = value.filter(|value| !value.is_null()) else {
        return Ok(None);
    };
    match whole(&value) {
        Some(number @ 1..=MAX_DIMENSIONS) => Ok(Some(number as u32)),
        Some(_) => Err(LineError::out_of_range(
            "dimensions",
            &value,
            &format!("1 to {MAX_DIMENSIONS}"),
        )),
        None => Err(LineError::wrong_type(
            "dimensions",
            "a whole number",
            &value,
        )),
    }
}

fn base64(value: Option<Value>) -> Result<bool, LineError> {
    match value {
        None | Some(Value::Null) => Ok(false),
        Some(Value::String(form)) if form == "float" => Ok(false),
        Some(Value::String(form)) if form == "base64" => Ok(true),
        Some(other) => Err(LineError::wrong_type(
            "encoding_format",
            "\"float\" or \"base64\"",
            &other,
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read_body(body: Value) -> Result<Request, LineError> {
        let Value::Object(body) = body else {
            panic!("a body is an object");
        };
        read(body, &LineOptions::new("m"))
    }

    fn embed(texts: Vec<EmbedText>) -> Input {
        Input::Embed {
            texts,
            dimensions: None,
            base64: false,
        }
    }

    #[test]
    fn every_form_of_input_is_read() {
        let text = |text: &str| EmbedText::Text(text.to_owned());
        for (input, texts) in [
            (json!("a"), vec![text("a")]),
            (json!(["a", "b"]), vec![text("a"), text("b")]),
            (json!([7, 8.0]), vec![EmbedText::Tokens(vec![7, 8])]),
            (
                json!([[7], "b"]),
                vec![EmbedText::Tokens(vec![7]), text("b")],
            ),
        ] {
            let request = read_body(json!({"input": input, "user": "u"})).unwrap();
            assert_eq!(request.input, embed(texts));
            let back = serde_json::from_value(serde_json::to_value(&request).unwrap()).unwrap();
            assert_eq!(request, back);
        }
        let request =
            read_body(json!({"input": "a", "encoding_format": "base64", "dimensions": 3}));
        let wanted = Input::Embed {
            texts: vec![text("a")],
            dimensions: Some(3),
            base64: true,
        };
        assert_eq!(request.unwrap().input, wanted);
    }

    #[test]
    fn wrong_bodies_are_told_apart() {
        let many = vec!["a"; MAX_EMBED_TEXTS + 1];
        for (body, code) in [
            (json!({}), "missing_field"),
            (json!({"input": null}), "missing_field"),
            (json!({"input": ""}), "invalid_value"),
            (json!({"input": []}), "invalid_value"),
            (json!({"input": ["a", ""]}), "invalid_value"),
            (json!({"input": [[]]}), "invalid_value"),
            (json!({"input": [-1]}), "invalid_value"),
            (json!({"input": [1, "a"]}), "invalid_value"),
            (json!({"input": {"a": 1}}), "wrong_type"),
            (json!({"input": ["a", {}]}), "wrong_type"),
            (json!({"input": many}), "out_of_range"),
            (json!({"input": "a", "dimensions": 0}), "out_of_range"),
            (json!({"input": "a", "dimensions": "3"}), "wrong_type"),
            (
                json!({"input": "a", "encoding_format": "hex"}),
                "wrong_type",
            ),
            (json!({"input": "a", "temperature": 1}), "unknown_parameter"),
        ] {
            let shown = body.to_string();
            let shown = shown.get(..60).unwrap_or(&shown);
            assert_eq!(read_body(body).unwrap_err().code, code, "{shown}");
        }
    }
}
