//! Several prompts in one request for completions: a job each, and their answers in one.

use super::super::error::ApiError;
use super::body::wrong_type;
use rbee_queue::Endpoint;
use serde_json::{Map, Value};

/// Prompts of one request.
pub const MAX_PROMPTS: usize = 128;

/// A body for each prompt.
pub fn split(
    mut body: Map<String, Value>,
    endpoint: Endpoint,
) -> Result<Vec<Map<String, Value>>, ApiError> {
    let several = endpoint == Endpoint::Completions
        && (body.get("prompt").and_then(Value::as_array)).is_some_and(|prompts| prompts.len() > 1);
    if !several {
        return Ok(vec![body]);
    }
    let Some(Value::Array(prompts)) = body.remove("prompt") else {
        return Ok(vec![body]);
    };
    if prompts.iter().any(|prompt| !prompt.is_string()) {
        return Err(wrong_type("prompt", "a text or a list of texts"));
    }
    if prompts.len() > MAX_PROMPTS {
        let message = format!("prompt has more than {MAX_PROMPTS} texts");
        return Err(ApiError::bad("out_of_range", message).about("prompt"));
    }
    let one = |prompt: Value| {
        let mut body = body.clone();
        body.insert("prompt".to_owned(), prompt);
        body
    };
    Ok(prompts.into_iter().map(one).collect())
}

/// One answer of those to each prompt: `choices` for each of them, counted through.
pub fn merge(bodies: Vec<Value>) -> Value {
    let mut bodies = bodies.into_iter();
    let mut whole = bodies.next().unwrap_or_default();
    for mut body in bodies {
        let Some(choices) = whole["choices"].as_array_mut() else {
            break;
        };
        if let Value::Array(more) = body["choices"].take() {
            for mut choice in more {
                choice["index"] = choices.len().into();
                choices.push(choice);
            }
        }
        for count in ["prompt_tokens", "completion_tokens", "total_tokens"] {
            let number = |body: &Value| body["usage"][count].as_u64().unwrap_or(0);
            let sum = number(&whole) + number(&body);
            whole["usage"][count] = sum.into();
        }
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn split_body(body: Value, endpoint: Endpoint) -> Result<Vec<Map<String, Value>>, ApiError> {
        let Value::Object(body) = body else {
            panic!("a body is an object");
        };
        split(body, endpoint)
    }

    #[test]
    fn each_prompt_is_a_body_of_its_own() {
        let body = json!({"prompt": ["a", "b"], "n": 2});
        let bodies = split_body(body.clone(), Endpoint::Completions).unwrap();
        assert_eq!(bodies.len(), 2);
        assert_eq!(
            Value::Object(bodies[1].clone()),
            json!({"n": 2, "prompt": "b"})
        );
        assert_eq!(
            split_body(body, Endpoint::ChatCompletions).unwrap().len(),
            1
        );
        for one in [json!("a"), json!(["a"]), json!([])] {
            let bodies = split_body(json!({"prompt": one}), Endpoint::Completions);
            assert_eq!(bodies.unwrap().len(), 1);
        }
        for wrong in [
            json!(["a", 1]),
            json!([1, 2]),
            json!(vec!["a"; MAX_PROMPTS + 1]),
        ] {
            assert!(split_body(json!({"prompt": wrong}), Endpoint::Completions).is_err());
        }
    }

    #[test]
    fn answers_are_counted_through() {
        let body = |text: &str| {
            json!({"id": text, "choices": [{"index": 0, "text": text}, {"index": 1, "text": "x"}],
                   "usage": {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5}})
        };
        let whole = merge(vec![body("a"), body("b")]);
        assert_eq!(whole["id"], "a");
        let indexes: Vec<&Value> = (0..4).map(|at| &whole["choices"][at]["index"]).collect();
        assert_eq!(indexes, [0, 1, 2, 3]);
        assert_eq!(whole["choices"][2]["text"], "b");
        assert_eq!(
            whole["usage"],
            json!({"prompt_tokens": 4, "completion_tokens": 6, "total_tokens": 10})
        );
    }
}
