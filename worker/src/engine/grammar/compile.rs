//! From a form to a grammar that is ready to be matched, or to the job's error.

use super::matcher::{Matcher, Stops, failure};
use super::{IMPOSSIBLE_RESPONSE_FORMAT, INVALID_RESPONSE_FORMAT, RESPONSE_FORMAT_TOO_LARGE};
use llguidance::api::TopLevelGrammar;
use llguidance::{JsonCompileOptions, ParserFactory};
use rbee_queue::response_format::MAX_FORMAT_BYTES;
use rbee_queue::tools::{CALL_BEGINS, CALL_ENDS};
use rbee_queue::{JobError, ResponseFormat, Tools};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// White space between the parts of JSON: a space, or a new line with its indentation. A model could fill its whole answer
/// with more.
const WHITE_SPACE: &str = r"\n?[ ]{1,32}|\n";
/// How much of the grammar engine's words an error repeats.
const MAX_WHY: usize = 400;
/// Where the grammar engine looks for its own options in a schema.
const OPTIONS: &str = "x-guidance";

/// A compiled form at its beginning.
pub struct Compiled {
    parser: llguidance::Matcher,
}

impl Compiled {
    /// A matcher of its own for one choice: nothing that another choice does is seen in it.
    pub fn matcher(&self, stops: &Arc<Stops>) -> Matcher {
        Matcher::new(self.parser.deep_clone(), Arc::clone(stops))
    }
}

/// Compiles a form.
///
/// # Errors
/// With the job's error.
pub fn compile(factory: &ParserFactory, format: &ResponseFormat) -> Result<Compiled, JobError> {
    let bytes = format.bytes();
    if bytes > MAX_FORMAT_BYTES {
        let message =
            format!("The form of the answer has {bytes} bytes; {MAX_FORMAT_BYTES} are possible.");
        return Err(JobError::new(RESPONSE_FORMAT_TOO_LARGE, message));
    }
    if *format == ResponseFormat::JsonSchema(Value::Bool(false)) {
        return Err(refusal("Unsatisfiable schema: it is false"));
    }
    let parser = factory.create_parser(grammar(format));
    let parser = llguidance::Matcher::new(parser);
    if let Some(why) = parser.get_error() {
        return Err(refusal(&why));
    }
    // Some turn out to be too much, or impossible, at their first token.
    let mut trial = parser.deep_clone();
    match trial.compute_mask() {
        Ok(_) => Ok(Compiled { parser }),
        Err(_) => Err(failure(&trial)),
    }
}

fn grammar(format: &ResponseFormat) -> TopLevelGrammar {
    match format {
        ResponseFormat::JsonObject => {
            TopLevelGrammar::from_json_schema(with_options(json!({"type": "object"})))
        }
        ResponseFormat::JsonSchema(schema) => {
            TopLevelGrammar::from_json_schema(with_options(schema.clone()))
        }
        ResponseFormat::Regex(regex) => TopLevelGrammar::from_regex(regex),
        ResponseFormat::Grammar(grammar) => TopLevelGrammar::from_lark(grammar.clone()),
    }
}

/// The form of the call that an answer must make, if it must make one: JSON, in the marks that the model knows.
pub fn format_of_call(tools: &Tools, marked: bool) -> Option<ResponseFormat> {
    let schema = tools.schema()?;
    if !marked {
        return Some(ResponseFormat::JsonSchema(schema));
    }
    let call = with_options(schema);
    Some(ResponseFormat::Grammar(format!(
        "start: \"{CALL_BEGINS}\\n\" call \"\\n{CALL_ENDS}\"\ncall: %json {call}\n"
    )))
}

/// The schema with our options for its grammar, and nobody else's.
fn with_options(schema: Value) -> Value {
    let mut schema = match schema {
        Value::Object(members) => members,
        _ => Map::new(),
    };
    let options = JsonCompileOptions {
        whitespace_pattern: Some(WHITE_SPACE.to_owned()),
        ..JsonCompileOptions::default()
    };
    let options = serde_json::to_value(options).expect("options have text keys only");
    schema.insert(OPTIONS.to_owned(), options);
    Value::Object(schema)
}

/// What the grammar engine says against a form, as the job's error.
pub fn refusal(why: &str) -> JobError {
    let has = |words: &[&str]| words.iter().any(|word| why.contains(word));
    let (code, what) = if has(&[
        "too big",
        "too large",
        "too many",
        "fuel",
        "limit",
        "too complex",
    ]) {
        (RESPONSE_FORMAT_TOO_LARGE, "takes too much work")
    } else if has(&["nsatisfiable", "no satisf"]) {
        (IMPOSSIBLE_RESPONSE_FORMAT, "is one that no answer can have")
    } else {
        (INVALID_RESPONSE_FORMAT, "cannot be used")
    };
    JobError::new(
        code,
        format!("The form of the answer {what}: {}.", clause(why)),
    )
}

/// The words without the engine's own state, in one bounded line.
fn clause(why: &str) -> String {
    let why = why.split("\n<").next().unwrap_or(why);
    let words = why.split_whitespace().collect::<Vec<_>>().join(" ");
    let cut = words
        .char_indices()
        .nth(MAX_WHY)
        .map_or(words.len(), |(at, _)| at);
    let more = if cut < words.len() { "…" } else { "" };
    format!("{}{more}", words[..cut].trim_end_matches('.'))
}
