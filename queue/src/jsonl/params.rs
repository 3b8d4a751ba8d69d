//! Body parameters of a line: which there are, their types and ranges.
//!
//! Owns the names (supported, unsupported, harmless) and the reading of a merged map of them.
//! Owns no precedence between line and batch (that is `parse`).

use super::line_error::LineError;
use super::{response_format, tools};
use crate::request::{
    DEFAULT_MAX_TOKENS, Endpoint, MAX_CHOICES, MAX_SCHEMA_RETRIES, MAX_TOP_LOGPROBS, Params,
};
use crate::response_format::ResponseFormat;
use crate::whole_number::whole;
use serde_json::{Map, Value};

/// Greatest `max_tokens`; clients write it for "as many as fit".
const MAX_MAX_TOKENS: u64 = i32::MAX as u64;
/// Stop texts of one request: each costs a search at every token.
const MAX_STOPS: usize = 16;
/// Length of one stop text.
const MAX_STOP_BYTES: usize = 1024;
/// Stop token ids of one request.
const MAX_STOP_TOKEN_IDS: usize = 1024;
/// Greatest `repetition_penalty`.
const MAX_REPETITION_PENALTY: f64 = 10.0;

/// The parameters that change an answer and that rbee supports.
pub const PARAMS: [&str; 22] = [
    "max_tokens",
    "max_completion_tokens",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repetition_penalty",
    "frequency_penalty",
    "presence_penalty",
    "seed",
    "stop",
    "stop_token_ids",
    "ignore_eos",
    "logprobs",
    "top_logprobs",
    "n",
    "parse_special",
    "chat_template_kwargs",
    "response_format",
    "schema_retries",
    "tools",
    "tool_choice",
];

/// True for a supported body parameter (not for `model`, `messages` and `prompt`).
pub fn is_param(name: &str) -> bool {
    PARAMS.contains(&name)
}

/// True for a member of an OpenAI body that changes no answer and is ignored.
pub fn is_harmless(name: &str) -> bool {
    matches!(
        name,
        "user"
            | "store"
            | "metadata"
            | "service_tier"
            | "stream"
            | "stream_options"
            | "safety_identifier"
            | "prompt_cache_key"
            | "prompt_cache_retention"
            | "parallel_tool_calls"
            | "prediction"
    )
}

/// Why this parameter with this value is refused, or `None` if it is not one of the known
/// unsupported ones, or has the value that asks for nothing.
pub fn unsupported(name: &str, value: &Value) -> Option<&'static str> {
    let asks_nothing = match name {
        "function_call" => value == "none" || value == "auto",
        "functions" | "logit_bias" => is_empty(value),
        "modalities" => value
            .as_array()
            .is_some_and(|all| all.iter().all(|m| m == "text")),
        "echo" | "use_beam_search" => value == &Value::Bool(false),
        "best_of" => whole(value) == Some(1),
        "min_tokens" => whole(value) == Some(0),
        "typical_p" | "length_penalty" => value.as_f64() == Some(1.0),
        "mirostat" => whole(value) == Some(0),
        "suffix" => value == "",
        _ => false,
    };
    if value.is_null() || asks_nothing {
        return None;
    }
    Some(match name {
        "guided_json" | "guided_regex" | "guided_choice" | "guided_grammar"
        | "structured_outputs" | "grammar" | "json_schema" => "not supported; use response_format",
        "functions" | "function_call" => "not supported; use tools and tool_choice",
        "modalities" | "audio" => "only text is supported",
        "reasoning_effort" | "verbosity" => {
            "not supported; where the model's template has a variable for it, use chat_template_kwargs"
        }
        "logit_bias" | "echo" | "use_beam_search" | "best_of" | "min_tokens" | "typical_p"
        | "length_penalty" | "mirostat" | "suffix" | "web_search_options" => "not supported",
        _ => return None,
    })
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        _ => false,
    }
}

/// Checks one parameter by itself.
pub fn check_one(name: &str, value: &Value) -> Result<(), LineError> {
    if name == "tool_choice" {
        // Which tools there are is each line's matter.
        return Ok(());
    }
    let map = Map::from_iter([(name.to_owned(), value.clone())]);
    let endpoint = if name == "logprobs" && value.is_number() {
        Endpoint::Completions
    } else {
        Endpoint::ChatCompletions
    };
    read(&map, endpoint, 0.0).map(drop)
}

/// Reads the parameters of a merged map; absent and null ones get their defaults. Members that
/// are no parameters are not looked at.
pub fn read(
    map: &Map<String, Value>,
    endpoint: Endpoint,
    temperature: f32,
) -> Result<Params, LineError> {
    let given = Given(map);
    let max_tokens = match given.integer("max_completion_tokens", 1, MAX_MAX_TOKENS)? {
        Some(tokens) => Some(tokens),
        None => given.integer("max_tokens", 1, MAX_MAX_TOKENS)?,
    };
    let (logprobs, top_logprobs) = given.logprobs(endpoint)?;
    let stop = given.stop()?;
    let response_format = given.response_format()?;
    if response_format.is_some() && !stop.is_empty() {
        let why = "with response_format the answer ends where its form does: leave one out";
        return Err(LineError::invalid("stop", why));
    }
    let tools = tools::read(given.get("tools"), given.get("tool_choice"))?;
    if tools.is_some() && response_format.is_some() {
        let why =
            "an answer that has a form calls no tools: leave one out, or set tool_choice to none";
        return Err(LineError::invalid("tools", why));
    }
    let must_call = tools.as_ref().is_some_and(|tools| tools.schema().is_some());
    if must_call && !stop.is_empty() {
        let why = "with this tool_choice the answer ends where its call does: leave one out";
        return Err(LineError::invalid("stop", why));
    }
    let retries = given.integer("schema_retries", 0, u64::from(MAX_SCHEMA_RETRIES))?;
    Ok(Params {
        max_tokens: max_tokens.map_or(DEFAULT_MAX_TOKENS, |tokens| tokens as u32),
        temperature: given.float("temperature", 0.0, 2.0)?.unwrap_or(temperature),
        // 0 keeps only the likeliest token; the sampler's range is (0, 1].
        top_p: given
            .float("top_p", 0.0, 1.0)?
            .map_or(1.0, |p| p.max(f32::MIN_POSITIVE)),
        top_k: given.top_k()?,
        min_p: given.float("min_p", 0.0, 1.0)?.unwrap_or(0.0),
        repetition_penalty: given.repetition_penalty()?,
        frequency_penalty: given.float("frequency_penalty", -2.0, 2.0)?.unwrap_or(0.0),
        presence_penalty: given.float("presence_penalty", -2.0, 2.0)?.unwrap_or(0.0),
        seed: given.seed()?,
        stop,
        stop_token_ids: given.stop_token_ids()?,
        ignore_eos: given.boolean("ignore_eos")?.unwrap_or(false),
        logprobs,
        top_logprobs,
        n: given.integer("n", 1, u64::from(MAX_CHOICES))?.unwrap_or(1) as u32,
        parse_special: given.boolean("parse_special")?.unwrap_or(false),
        chat_template_kwargs: given.kwargs()?,
        // Without a form it would change the job's key and nothing else.
        schema_retries: retries
            .filter(|_| must_call || response_format.is_some())
            .map_or(0, |retries| retries as u8),
        response_format,
        tools,
    })
}

struct Given<'a>(&'a Map<String, Value>);

impl<'a> Given<'a> {
    fn get(&self, name: &str) -> Option<&'a Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    fn float(&self, name: &'static str, low: f64, high: f64) -> Result<Option<f32>, LineError> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        let number = value
            .as_f64()
            .ok_or_else(|| LineError::wrong_type(name, "a number", value))?;
        if !(low..=high).contains(&number) {
            return Err(LineError::out_of_range(
                name,
                value,
                &format!("{low} to {high}"),
            ));
        }
        // Adding zero turns -0 into 0, so that both make one job key.
        Ok(Some(number as f32 + 0.0))
    }

    fn integer(&self, name: &'static str, low: u64, high: u64) -> Result<Option<u64>, LineError> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        if !value.is_number() {
            return Err(LineError::wrong_type(name, "a whole number", value));
        }
        let range = format!("{low} to {high}");
        match whole(value) {
            Some(number) if (low..=high).contains(&number) => Ok(Some(number)),
            Some(_) => Err(LineError::out_of_range(name, value, &range)),
            None if value.as_f64().is_some_and(|n| n.fract() != 0.0) => {
                Err(LineError::wrong_type(name, "a whole number", value))
            }
            None => Err(LineError::out_of_range(name, value, &range)),
        }
    }

    fn boolean(&self, name: &'static str) -> Result<Option<bool>, LineError> {
        self.get(name)
            .map(|value| {
                value
                    .as_bool()
                    .ok_or_else(|| LineError::wrong_type(name, "true or false", value))
            })
            .transpose()
    }

    fn top_k(&self) -> Result<u32, LineError> {
        // Several clients write -1 for "off".
        if self.get("top_k").and_then(Value::as_f64) == Some(-1.0) {
            return Ok(0);
        }
        Ok(self.integer("top_k", 0, u64::from(u32::MAX))?.unwrap_or(0) as u32)
    }

    fn repetition_penalty(&self) -> Result<f32, LineError> {
        let name = "repetition_penalty";
        let penalty = self
            .float(name, 0.0, MAX_REPETITION_PENALTY)?
            .unwrap_or(1.0);
        if penalty > 0.0 {
            return Ok(penalty);
        }
        let value = self.get(name).unwrap_or(&Value::Null);
        Err(LineError::out_of_range(name, value, "over 0, up to 10"))
    }

    /// Whole numbers from -2^63 to 2^64-1; a negative one is taken as its two's complement.
    fn seed(&self) -> Result<Option<u64>, LineError> {
        let Some(value) = self.get("seed") else {
            return Ok(None);
        };
        // As everywhere, 5.0 is a whole number too. The cast of a float ends at the type's bounds.
        let whole = |float: &f64| float.fract() == 0.0 && *float > i64::MIN as f64;
        let float = value.as_f64().filter(whole).map(|float| float as i64);
        if let Some(negative) = value.as_i64().or(float).filter(|seed| *seed < 0) {
            return Ok(Some(negative as u64));
        }
        self.integer("seed", 0, u64::MAX)
    }

    fn stop(&self) -> Result<Vec<String>, LineError> {
        let Some(value) = self.get("stop") else {
            return Ok(Vec::new());
        };
        let wrong = || LineError::wrong_type("stop", "a text or an array of texts", value);
        let stops: Vec<String> = match value {
            Value::String(stop) => vec![stop.clone()],
            Value::Array(stops) if stops.len() <= MAX_STOPS => stops
                .iter()
                .map(|stop| stop.as_str().map(str::to_owned).ok_or_else(wrong))
                .collect::<Result<_, _>>()?,
            Value::Array(_) => {
                return Err(LineError::limit("stop", &format!("{MAX_STOPS} texts")));
            }
            _ => return Err(wrong()),
        };
        if stops.iter().any(String::is_empty) {
            return Err(LineError::invalid("stop", "a stop text is empty"));
        }
        if stops.iter().any(|stop| stop.len() > MAX_STOP_BYTES) {
            return Err(LineError::limit(
                "stop",
                &format!("{MAX_STOP_BYTES} bytes a text"),
            ));
        }
        Ok(stops)
    }

    fn stop_token_ids(&self) -> Result<Vec<u32>, LineError> {
        let name = "stop_token_ids";
        let Some(value) = self.get(name) else {
            return Ok(Vec::new());
        };
        let wrong = || LineError::wrong_type(name, "an array of token ids", value);
        let ids = value.as_array().ok_or_else(wrong)?;
        if ids.len() > MAX_STOP_TOKEN_IDS {
            return Err(LineError::limit(name, &format!("{MAX_STOP_TOKEN_IDS} ids")));
        }
        ids.iter()
            .map(|id| {
                whole(id)
                    .and_then(|id| u32::try_from(id).ok())
                    .ok_or_else(wrong)
            })
            .collect()
    }

    /// A bool and `top_logprobs` for chats; a count for completions.
    fn logprobs(&self, endpoint: Endpoint) -> Result<(bool, u8), LineError> {
        let most = u64::from(MAX_TOP_LOGPROBS);
        let top = self.integer("top_logprobs", 0, most)?.map(|top| top as u8);
        match self.get("logprobs") {
            None => Ok((top.is_some_and(|top| top > 0), top.unwrap_or(0))),
            Some(Value::Bool(true)) => Ok((true, top.unwrap_or(0))),
            Some(Value::Bool(false)) if top.unwrap_or(0) > 0 => Err(LineError::invalid(
                "top_logprobs",
                "it needs logprobs, which is false",
            )),
            Some(Value::Bool(false)) => Ok((false, 0)),
            Some(Value::Number(_)) if endpoint == Endpoint::Completions => {
                let count = self.integer("logprobs", 0, most)?.unwrap_or(0) as u8;
                Ok((true, top.unwrap_or(count)))
            }
            Some(other) => Err(LineError::wrong_type("logprobs", "true or false", other)),
        }
    }

    fn response_format(&self) -> Result<Option<ResponseFormat>, LineError> {
        let given = self.get("response_format").map(response_format::read);
        given.transpose().map(Option::flatten)
    }

    fn kwargs(&self) -> Result<Map<String, Value>, LineError> {
        match self.get("chat_template_kwargs") {
            None => Ok(Map::new()),
            Some(Value::Object(kwargs)) => Ok(kwargs.clone()),
            Some(other) => Err(LineError::wrong_type(
                "chat_template_kwargs",
                "an object",
                other,
            )),
        }
    }
}
