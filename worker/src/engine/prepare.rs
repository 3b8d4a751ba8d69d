//! From a request to tokens: template, tokenizer, and the checks against the model's limits.
//!
//! It runs on its own threads, off the step thread, so that a prompt of many megabytes does not hold up the batch. What
//! fails here is a verdict about the job, but for [`OUT_OF_MEMORY`].

use super::grammar::{self, Constraint, Grammars, Stops};
use super::job::EngineJob;
use super::sequence::Ends;
use crate::chat_template::{ChatInput, ChatTemplate};
use crate::tokenizer::{Segment, Tokenizer};
use rbee_queue::request::MAX_SCHEMA_RETRIES;
use rbee_queue::{Endpoint, Input, JobError, ResponseFormat};
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

/// The prompt leaves no room for an answer in the model's context.
pub const CONTEXT_LENGTH_EXCEEDED: &str = "context_length_exceeded";
/// The prompt has no token.
pub const EMPTY_PROMPT: &str = "empty_prompt";
/// Messages for a model without a chat template.
pub const NO_CHAT_TEMPLATE: &str = "no_chat_template";
/// The chat template refused the messages.
pub const TEMPLATE_ERROR: &str = "template_error";
/// Tools for a model whose template does not show them.
pub const TOOLS_NOT_SUPPORTED: &str = "tools_not_supported";
/// What is asked for is not an answer in text.
pub const UNSUPPORTED_ENDPOINT: &str = "unsupported_endpoint";
/// A parameter is out of its range.
pub const INVALID_PARAMETER: &str = "invalid_parameter";
/// The KV memory of this node cannot hold the job: a failure of circumstance.
pub const OUT_OF_MEMORY: &str = "out_of_memory";
/// The engine itself failed: a failure of circumstance.
pub const ENGINE_ERROR: &str = "engine_error";

/// What turns a request's text into tokens and back.
#[derive(Clone)]
pub struct TextFace {
    /// The model's tokenizer.
    pub tokenizer: Arc<Tokenizer>,
    /// The model's chat template; base models have none.
    pub template: Option<Arc<ChatTemplate>>,
}

/// What a job must keep to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most positions of a sequence.
    pub context_len: usize,
    /// Positions that the whole KV can hold.
    pub kv_positions: usize,
    /// Token ids that the model knows.
    pub vocab_size: usize,
}

/// A job that can run.
#[derive(Debug)]
pub struct PreparedJob {
    /// The job.
    pub job: EngineJob,
    /// Its prompt.
    pub prompt: Vec<u32>,
    /// What ends each of its choices.
    pub ends: Ends,
    /// What holds each of its choices to a form; empty if they are free.
    pub constraints: Vec<Constraint>,
    /// How long it took to prepare.
    pub took: Duration,
}

/// Renders, tokenises and checks a job.
///
/// # Errors
/// With the job's error when it cannot run.
pub fn prepare(text: &TextFace, limits: Limits, job: EngineJob) -> Result<PreparedJob, JobError> {
    check(&job)?;
    check_tools(text, &job)?;
    let segments = render(text, &job)?;
    let prompt = text.tokenizer.encode_prompt(&segments);
    drop(segments);
    let limit = answer_limit(&job, &prompt, limits)?;
    let params = &job.request.params;
    let ends = Ends::new(
        text.tokenizer.stop_tokens(),
        // An answer with a form ends where its form does, if not before.
        params.ignore_eos && !params.has_form(),
        &params.stop_token_ids,
        limit,
    );
    Ok(PreparedJob {
        job,
        prompt,
        ends,
        constraints: Vec::new(),
        took: Duration::ZERO,
    })
}

/// Holds a prepared job to the form that it asks for.
///
/// # Errors
/// With the job's error when no answer can have that form.
pub fn constrain(
    grammars: &Grammars,
    text: &TextFace,
    limits: Limits,
    prepared: &mut PreparedJob,
) -> Result<(), JobError> {
    let params = &prepared.job.request.params;
    let Some(format) = form_of(text, prepared) else {
        return Ok(());
    };
    let stops = Arc::new(Stops {
        tokens: prepared.ends.stop_tokens.clone(),
        last_resort: params.ignore_eos,
        vocabulary: limits.vocab_size,
    });
    prepared.constraints = grammars.constraints(&format, &stops, params.n)?;
    Ok(())
}

/// The form that a job's answer must have: its own, or that of the call that it must make.
pub fn form_of<'p>(text: &TextFace, prepared: &'p PreparedJob) -> Option<Cow<'p, ResponseFormat>> {
    let params = &prepared.job.request.params;
    if let Some(format) = &params.response_format {
        return Some(Cow::Borrowed(format));
    }
    let marked = (text.template.as_ref()).is_some_and(|template| template.marks_calls());
    let tools = params.tools.as_ref()?;
    grammar::format_of_call(tools, marked).map(Cow::Owned)
}

fn check(job: &EngineJob) -> Result<(), JobError> {
    if job.request.endpoint == Endpoint::Embeddings {
        return Err(no_vectors());
    }
    let params = &job.request.params;
    if params.n == 0 || params.n > rbee_queue::request::MAX_CHOICES {
        let most = rbee_queue::request::MAX_CHOICES;
        let message = format!("`n` is {}: it must be from 1 to {most}.", params.n);
        return Err(JobError::new(INVALID_PARAMETER, message));
    }
    if params.max_tokens == 0 {
        let message = "`max_tokens` is 0: it must be at least 1.";
        return Err(JobError::new(INVALID_PARAMETER, message));
    }
    Ok(())
}

fn check_tools(text: &TextFace, job: &EngineJob) -> Result<(), JobError> {
    let template = text.template.as_ref();
    let shown = template.is_some_and(|template| template.takes_tools());
    if job.request.params.tools.is_none() || shown {
        return Ok(());
    }
    Err(JobError::new(
        TOOLS_NOT_SUPPORTED,
        "The model's chat template has no place for `tools`: leave them out, or use a model that was trained to call tools.",
    ))
}

fn no_vectors() -> JobError {
    JobError::new(
        UNSUPPORTED_ENDPOINT,
        "This model generates text and gives no embeddings: send the line to /v1/chat/completions or /v1/completions, or name another model.",
    )
}

fn render(text: &TextFace, job: &EngineJob) -> Result<Vec<Segment>, JobError> {
    let params = &job.request.params;
    match (&job.request.input, &text.template) {
        (Input::Messages(messages), Some(template)) => render_chat(template, messages, job),
        (Input::Messages(_), None) => Err(JobError::new(
            NO_CHAT_TEMPLATE,
            "The model has no chat template, so it cannot take `messages`: give a `prompt`, or use an instruction-tuned model.",
        )),
        (Input::Prompt { text, raw: false }, Some(template)) => {
            let mut message = Map::new();
            message.insert("role".into(), Value::from("user"));
            message.insert("content".into(), Value::from(text.as_str()));
            render_chat(template, &[message], job)
        }
        (Input::Embed { .. }, _) => Err(no_vectors()),
        (Input::Prompt { text, .. }, _) => Ok(vec![Segment {
            text: text.clone(),
            special: params.parse_special,
        }]),
    }
}

fn render_chat(
    template: &ChatTemplate,
    messages: &[Map<String, Value>],
    job: &EngineJob,
) -> Result<Vec<Segment>, JobError> {
    let input = ChatInput {
        messages,
        tools: (job.request.params.tools.as_ref()).map(|tools| tools.tools.as_slice()),
        kwargs: &job.request.params.chat_template_kwargs,
        date: &job.template_date,
        add_generation_prompt: true,
    };
    template.render(&input).map_err(|error| {
        let error = error.to_string();
        JobError::new(TEMPLATE_ERROR, format!("{}.", error.trim_end_matches('.')))
    })
}

/// How many tokens the answer may have: `max_tokens`, cut at the end of the context.
///
/// A retry of an answer whose form was not complete would draw the same tokens again and go on from there, so retries with
/// twice the tokens are one longer answer.
fn answer_limit(job: &EngineJob, prompt: &[u32], limits: Limits) -> Result<u32, JobError> {
    let context = limits.context_len;
    if prompt.is_empty() {
        let message = "The prompt has no tokens: there is nothing to continue.";
        return Err(JobError::new(EMPTY_PROMPT, message));
    }
    if let Some(unknown) = prompt.iter().find(|id| **id as usize >= limits.vocab_size) {
        let message = format!(
            "The tokenizer gave the token {unknown}, but the model knows {} tokens only: its files do not belong together.",
            limits.vocab_size
        );
        return Err(JobError::new(ENGINE_ERROR, message));
    }
    if prompt.len() >= context {
        let message = format!(
            "The prompt has {} tokens; the model's context holds {context}, answer included: shorten the prompt.",
            prompt.len()
        );
        return Err(JobError::new(CONTEXT_LENGTH_EXCEEDED, message));
    }
    let room = context - prompt.len();
    let params = &job.request.params;
    let wanted = u64::from(params.max_tokens) << params.schema_retries.min(MAX_SCHEMA_RETRIES);
    let limit = usize::try_from(wanted).map_or(room, |wanted| wanted.min(room));
    // The last token is given out, never computed.
    let positions = prompt.len() + limit - 1;
    if positions > limits.kv_positions {
        let message = format!(
            "The job may need {positions} positions of KV memory and this node has {}: give it more memory, or lower `max_tokens`.",
            limits.kv_positions
        );
        return Err(JobError::new(OUT_OF_MEMORY, message));
    }
    Ok(limit as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Priority;
    use rbee_queue::{JobKey, Params, Request, ToolChoice, Tools};

    const LIMITS: Limits = Limits {
        context_len: 20,
        kv_positions: 16,
        vocab_size: 257,
    };

    fn face(template: Option<&str>) -> TextFace {
        let tokenizer = Arc::new(Tokenizer::bytes());
        let template =
            template.map(|source| Arc::new(ChatTemplate::new(source, &tokenizer).unwrap()));
        TextFace {
            tokenizer,
            template,
        }
    }

    fn job(input: Input, params: Params) -> EngineJob {
        EngineJob {
            id: 0,
            request: Request {
                endpoint: Endpoint::ChatCompletions,
                model: "m".into(),
                input,
                params,
            },
            job_key: JobKey([0; 32]),
            batch_seed: 0,
            template_date: "2024-07-26".into(),
            priority: Priority::Batch,
            stream: false,
        }
    }

    fn raw(text: &str, max_tokens: u32) -> EngineJob {
        let input = Input::Prompt {
            text: text.into(),
            raw: true,
        };
        job(
            input,
            Params {
                max_tokens,
                ..Params::default()
            },
        )
    }

    fn code(result: Result<PreparedJob, JobError>) -> String {
        result.unwrap_err().code
    }

    #[test]
    fn max_tokens_is_cut_at_the_context_and_checked_against_the_kv() {
        let limit = |prompt: &str, max| {
            prepare(&face(None), LIMITS, raw(prompt, max)).map(|p| p.ends.limit)
        };
        assert_eq!(limit("abc", 5), Ok(5));
        assert_eq!(limit("0123456789", 7), Ok(7));
        assert_eq!(
            code(prepare(&face(None), LIMITS, raw("0123456789", 8))),
            OUT_OF_MEMORY
        );
        let roomy = Limits {
            kv_positions: 64,
            ..LIMITS
        };
        let prepared = prepare(&face(None), roomy, raw("0123456789", 512)).unwrap();
        assert_eq!(prepared.ends.limit, 10);
    }

    #[test]
    fn retries_for_a_form_double_the_tokens_up_to_the_context() {
        let roomy = Limits {
            kv_positions: 64,
            ..LIMITS
        };
        let limit = |schema_retries| {
            let mut job = raw("0123456789", 2);
            job.request.params.schema_retries = schema_retries;
            prepare(&face(None), roomy, job).map(|prepared| prepared.ends.limit)
        };
        assert_eq!(limit(0), Ok(2));
        assert_eq!(limit(2), Ok(8));
        assert_eq!(limit(3), Ok(10));
        assert_eq!(limit(20), Ok(10));
    }

    #[test]
    fn prompt_that_fills_the_context_fails_with_its_length() {
        let error = prepare(&face(None), LIMITS, raw(&"x".repeat(20), 1)).unwrap_err();
        assert_eq!(error.code, CONTEXT_LENGTH_EXCEEDED);
        assert!(error.message.contains("20 tokens"), "{}", error.message);
    }

    #[test]
    fn job_that_makes_no_sense_fails_with_its_code() {
        assert_eq!(code(prepare(&face(None), LIMITS, raw("", 5))), EMPTY_PROMPT);
        assert_eq!(
            code(prepare(&face(None), LIMITS, raw("a", 0))),
            INVALID_PARAMETER
        );
        let messages = job(Input::Messages(vec![Map::new()]), Params::default());
        assert_eq!(
            code(prepare(&face(None), LIMITS, messages)),
            NO_CHAT_TEMPLATE
        );
        let refusing = face(Some("{{ messages.foo.bar.baz() }}"));
        let messages = job(Input::Messages(vec![Map::new()]), Params::default());
        assert_eq!(code(prepare(&refusing, LIMITS, messages)), TEMPLATE_ERROR);
        let mut embedding = raw("a", 5);
        embedding.request.endpoint = Endpoint::Embeddings;
        assert_eq!(
            code(prepare(&face(None), LIMITS, embedding)),
            UNSUPPORTED_ENDPOINT
        );
    }

    #[test]
    fn tools_need_a_template_that_shows_them() {
        let tool = serde_json::json!({"type": "function", "function": {"name": "f"}});
        let mut calling = raw("a", 2);
        calling.request.input = Input::Prompt {
            text: "a".into(),
            raw: false,
        };
        calling.request.params.tools = Some(Tools {
            tools: vec![tool],
            choice: ToolChoice::Auto,
        });
        let prepared = |template| prepare(&face(template), LIMITS, calling.clone());
        assert_eq!(code(prepared(None)), TOOLS_NOT_SUPPORTED);
        let plain = "{{ messages[0].content }}";
        assert_eq!(code(prepared(Some(plain))), TOOLS_NOT_SUPPORTED);
        let shown =
            "{% for t in tools %}{{ t.function.name }}{% endfor %}{{ messages[0].content }}";
        let bytes = "fa".bytes().map(u32::from).collect::<Vec<u32>>();
        assert_eq!(prepared(Some(shown)).unwrap().prompt, bytes);
    }

    #[test]
    fn prompt_becomes_one_user_message_unless_it_is_raw() {
        let template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}";
        let bytes = |text: &str| text.bytes().map(u32::from).collect::<Vec<u32>>();
        let input = |raw| Input::Prompt {
            text: "hi".into(),
            raw,
        };
        let params = Params {
            max_tokens: 2,
            ..Params::default()
        };
        let chat = prepare(
            &face(Some(template)),
            LIMITS,
            job(input(false), params.clone()),
        )
        .unwrap();
        assert_eq!(chat.prompt, bytes("<user>hi"));
        let plain = prepare(
            &face(Some(template)),
            LIMITS,
            job(input(true), params.clone()),
        )
        .unwrap();
        assert_eq!(plain.prompt, bytes("hi"));
        let base = prepare(&face(None), LIMITS, job(input(false), params)).unwrap();
        assert_eq!(base.prompt, bytes("hi"));
    }
}
