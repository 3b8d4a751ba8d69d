//! A stored result to its output line.
//!
//! Owns the choice of shape and the short shape (the OpenAI one is in `render_openai`). A line
//! holds nothing that differs between two equal runs, unless statistics are asked for.

use super::options::LineOptions;
use super::parse::{CustomId, ParsedLine, Shape, parse_line};
use super::render_openai;
use crate::embedding::Embedding;
use crate::ids::{JobIndex, JobKey, ModelSha, ResultIds};
use crate::record::{
    Choice, Completed, FinishReason, JobError, JobStats, Outcome, ResultRecord, TokenLogprob,
};
use crate::request::{Input, Request};
use serde_json::{Map, Value, json};

/// How results are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rendering {
    /// One shape for all lines; `None`: each as its input line.
    pub shape: Option<Shape>,
    /// Add times, node and speed. Such lines differ from run to run.
    pub with_stats: bool,
    /// Add the job's key, under which equal requests of other batches are found.
    pub with_keys: bool,
}

/// A finished job as the store has it.
#[derive(Clone, Debug)]
pub struct Answer<'a> {
    /// The job's place in the batch.
    pub index: JobIndex,
    /// The physical input line, 1-based.
    pub number: u64,
    /// The input line verbatim; empty where it was unreadable.
    pub text: &'a str,
    /// The job's key.
    pub key: JobKey,
    /// The model that the job's line resolves to; `None` for bad lines.
    pub model: Option<ModelSha>,
    /// The digest of the node that computed it.
    pub numerics: Option<&'a str>,
    /// The result.
    pub record: &'a ResultRecord,
    /// How the run went.
    pub stats: Option<&'a JobStats>,
    /// When the result was stored, in seconds since 1970.
    pub finished_at_s: i64,
}

/// One output line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// The line without its end.
    pub line: String,
    /// It holds an error.
    pub failed: bool,
}

/// Renders the results of one batch.
#[derive(Clone, Debug)]
pub struct Renderer {
    options: LineOptions,
    seed: u64,
    usual: Shape,
    rendering: Rendering,
}

/// What both shapes need of a line.
pub(super) struct Context<'a> {
    pub answer: &'a Answer<'a>,
    pub parsed: &'a ParsedLine,
    pub ids: ResultIds,
    pub with_stats: bool,
}

impl Renderer {
    /// A renderer for a batch with these options and this seed. `usual` is the shape of its first
    /// readable line: that of lines which have none of their own.
    pub fn new(options: LineOptions, seed: u64, usual: Shape, rendering: Rendering) -> Renderer {
        Renderer {
            options,
            seed,
            usual,
            rendering,
        }
    }

    /// The output line of a finished job.
    pub fn render(&self, answer: &Answer<'_>) -> Rendered {
        let parsed = if answer.text.is_empty() {
            ParsedLine::unreadable(super::line_error::LineError::missing("the line's text"))
        } else {
            parse_line(answer.text.as_bytes(), &self.options)
        };
        let context = Context {
            answer,
            parsed: &parsed,
            ids: ResultIds::new(&answer.key, self.seed, answer.model.as_ref()),
            with_stats: self.rendering.with_stats,
        };
        let shape = self.rendering.shape.or(parsed.shape).unwrap_or(self.usual);
        let mut value = match shape {
            Shape::Short => short(&context),
            Shape::OpenAi => render_openai::line(&context),
        };
        if self.rendering.with_keys {
            value.insert("job_key".into(), answer.key.to_hex().into());
        }
        Rendered {
            line: Value::Object(value).to_string(),
            failed: matches!(answer.record.outcome, Outcome::Failed(_)),
        }
    }
}

/// What a choice says.
pub(super) struct Said {
    pub text: String,
    pub reason: &'static str,
    /// OpenAI's `tool_calls`, if it makes any.
    pub calls: Option<Value>,
}

impl Context<'_> {
    /// The id that the result line shows: the line's own, else its index.
    pub fn custom_id(&self) -> Value {
        match &self.parsed.custom_id {
            Some(CustomId { text, number: true }) => match serde_json::from_str(text) {
                Ok(number) => Value::Number(number),
                Err(_) => Value::from(text.as_str()),
            },
            Some(CustomId { text, .. }) => Value::from(text.as_str()),
            None => Value::from(self.answer.index.to_string()),
        }
    }

    /// The error with the physical line that it is about.
    pub fn error(&self, error: &JobError) -> Value {
        json!({"code": error.code, "message": error.message, "line": self.answer.number})
    }

    /// What a choice says, apart from the tools that it calls.
    pub fn said(&self, choice: &Choice) -> Said {
        let request = self.parsed.request.as_ref().ok();
        let tools = request.and_then(|request| request.params.tools.as_ref());
        let (text, calls) = match tools {
            Some(tools) => tools.split(&choice.text),
            None => (choice.text.clone(), Vec::new()),
        };
        let reason = match choice.finish_reason {
            FinishReason::Stop if !calls.is_empty() => "tool_calls",
            reason => reason.as_str(),
        };
        let calls: Vec<Value> = calls
            .iter()
            .enumerate()
            .map(|(at, call)| {
                json!({
                    "id": self.ids.tool_call(choice.index, at),
                    "type": "function",
                    "function": {"name": call.name, "arguments": call.arguments},
                })
            })
            .collect();
        Said {
            text,
            reason,
            calls: (!calls.is_empty()).then_some(Value::Array(calls)),
        }
    }

    /// Adds what differs from run to run, where it is asked for.
    pub fn add_stats(&self, line: &mut Map<String, Value>) {
        if !self.with_stats {
            return;
        }
        let mut stats = match self.answer.stats.map(serde_json::to_value) {
            Some(Ok(Value::Object(stats))) => stats,
            _ => Map::new(),
        };
        stats.insert("finished_at".into(), self.answer.finished_at_s.into());
        line.insert("stats".into(), Value::Object(stats));
    }
}

fn short(context: &Context<'_>) -> Map<String, Value> {
    let mut line = Map::new();
    line.insert("id".into(), context.custom_id());
    line.insert("index".into(), context.answer.index.0.into());
    match &context.answer.record.outcome {
        Outcome::Completed(completed) => {
            short_answer(&mut line, context, completed);
            short_embeddings(&mut line, context, completed);
        }
        Outcome::Failed(error) => {
            line.insert("text".into(), Value::Null);
            line.insert("finish_reason".into(), Value::Null);
            line.insert("usage".into(), Value::Null);
            line.insert("error".into(), context.error(error));
        }
    }
    line.insert("metadata".into(), context.parsed.metadata.clone().into());
    context.add_stats(&mut line);
    line
}

fn short_answer(line: &mut Map<String, Value>, context: &Context<'_>, completed: &Completed) {
    let first = completed.choices.first();
    let said = first.map(|choice| context.said(choice));
    line.insert(
        "text".into(),
        said.as_ref().map(|said| said.text.as_str()).into(),
    );
    line.insert(
        "finish_reason".into(),
        said.as_ref().map(|said| said.reason).into(),
    );
    if let Some(calls) = said.and_then(|said| said.calls) {
        line.insert("tool_calls".into(), calls);
    }
    if let Some(logprobs) = first.and_then(|choice| choice.logprobs.as_deref()) {
        line.insert("logprobs".into(), token_logprobs(logprobs));
    }
    if completed.choices.len() > 1 {
        let choices = completed
            .choices
            .iter()
            .map(|choice| short_choice(context, choice))
            .collect();
        line.insert("choices".into(), choices);
    }
    line.insert("usage".into(), usage(completed));
    line.insert("error".into(), Value::Null);
}

/// `embedding` is that of the first text, `embeddings` are all where there are several.
fn short_embeddings(line: &mut Map<String, Value>, context: &Context<'_>, completed: &Completed) {
    let request = context.parsed.request.as_ref().ok();
    let vectors = completed.embeddings.iter();
    let mut vectors: Vec<Value> = vectors.map(|vector| embedding(request, vector)).collect();
    if vectors.len() > 1 {
        line.insert("embeddings".into(), vectors.clone().into());
    }
    if !vectors.is_empty() {
        line.insert("embedding".into(), vectors.swap_remove(0));
    }
}

/// A vector in the form that its request asks for.
pub(super) fn embedding(request: Option<&Request>, vector: &Embedding) -> Value {
    match request.map(|request| &request.input) {
        Some(Input::Embed { base64: true, .. }) => vector.to_base64().into(),
        _ => vector.0.iter().map(|number| shortest(*number)).collect(),
    }
}

fn short_choice(context: &Context<'_>, choice: &Choice) -> Value {
    let said = context.said(choice);
    let mut value = json!({
        "index": choice.index,
        "text": said.text,
        "finish_reason": said.reason,
    });
    if let Some(calls) = said.calls {
        value["tool_calls"] = calls;
    }
    if let Some(logprobs) = &choice.logprobs {
        value["logprobs"] = token_logprobs(logprobs);
    }
    value
}

/// Token counts as both shapes show them.
pub(super) fn usage(completed: &Completed) -> Value {
    let usage = completed.usage;
    json!({
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": u64::from(usage.prompt_tokens) + u64::from(usage.completion_tokens),
    })
}

/// Log-probabilities as chats show them, one entry a token.
pub(super) fn token_logprobs(tokens: &[TokenLogprob]) -> Value {
    tokens
        .iter()
        .map(|token| {
            let top: Vec<Value> = token
                .top
                .iter()
                .map(|top| json!({"token": top.token, "logprob": shortest(top.logprob), "bytes": top.bytes}))
                .collect();
            json!({"token": token.token, "logprob": shortest(token.logprob), "bytes": token.bytes,
                   "top_logprobs": top})
        })
        .collect()
}

/// The number whose JSON is the shortest that reads back as this `f32`.
pub(super) fn shortest(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}
