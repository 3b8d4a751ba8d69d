//! The bodies of OpenAI's routes, which are read and made as JSON values: their form for the document.

use super::super::openai::MAX_PROMPTS;
use super::forms::{AnswerFormat, AnsweredCall, Tool, ToolWish};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::HashMap;
use utoipa::ToSchema;
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, OneOfBuilder, Schema, Type};

/// A message of a chat.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct Message {
    /// Who says it: system, user, assistant, or what else the model's template knows.
    #[schema(min_length = 1, max_length = 64)]
    role: String,
    /// What is said. An assistant's may be missing.
    #[schema(value_type = MessageContent)]
    content: Value,
}

/// What a message says.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum MessageContent {
    /// A text.
    Text(String),
    /// Parts, which are all texts.
    Parts(Vec<TextPart>),
}

/// A part of a message.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct TextPart {
    /// Always `text`.
    #[serde(rename = "type")]
    kind: TextWord,
    /// The text.
    text: String,
}

/// The one kind of part.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TextWord {
    /// A text.
    Text,
}

/// Texts that end an answer.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum Stop {
    /// One.
    One(StopText),
    /// Several.
    Many(Vec<StopText>),
}

/// A text that ends an answer.
#[derive(Serialize, Deserialize, ToSchema)]
#[schema(value_type = String, pattern = "^.{1,200}$")]
pub struct StopText(String);

/// How an answer is streamed.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct StreamOptions {
    /// One more chunk at the end, with the usage.
    include_usage: Option<bool>,
}

/// A variable of a model's template.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum TemplateValue {
    /// Yes or no.
    Flag(bool),
    /// A text.
    Text(String),
}

/// A chat to be answered.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChatRequest {
    /// The messages so far.
    #[schema(min_items = 1)]
    messages: Vec<Message>,
    /// The model; the server's usual one where it is missing.
    #[schema(min_length = 1)]
    model: Option<String>,
    /// Tokens of the answer at most.
    #[schema(minimum = 1, maximum = 2147483647)]
    max_completion_tokens: Option<i64>,
    /// The same under its older name.
    #[schema(minimum = 1, maximum = 2147483647)]
    max_tokens: Option<i64>,
    /// 0 is greedy; 1 where it is missing.
    #[schema(minimum = 0, maximum = 2)]
    temperature: Option<f64>,
    /// Nucleus mass; 1 is off.
    #[schema(minimum = 0, maximum = 1)]
    top_p: Option<f64>,
    /// Candidates kept; 0 and -1 are off.
    #[schema(minimum = -1, maximum = 4294967295i64)]
    top_k: Option<i64>,
    /// Least probability relative to the best candidate; 0 is off.
    #[schema(minimum = 0, maximum = 1)]
    min_p: Option<f64>,
    /// Added for each earlier occurrence; 0 is off.
    #[schema(minimum = -2, maximum = 2)]
    frequency_penalty: Option<f64>,
    /// Added for a token that occurred; 0 is off.
    #[schema(minimum = -2, maximum = 2)]
    presence_penalty: Option<f64>,
    /// Equal seeds give equal answers.
    #[schema(minimum = -9223372036854775808i64, maximum = 9223372036854775807i64)]
    seed: Option<i64>,
    /// Texts that end the answer.
    stop: Option<Stop>,
    /// Go on over the model's own end.
    ignore_eos: Option<bool>,
    /// Log-probabilities of the answer's tokens.
    logprobs: Option<bool>,
    /// Answers.
    #[schema(minimum = 1, maximum = 16)]
    n: Option<i64>,
    /// Server-sent events instead of one object.
    stream: Option<bool>,
    /// For streams only.
    stream_options: Option<StreamOptions>,
    /// Of no effect.
    user: Option<Value>,
    /// Variables of the model's template.
    chat_template_kwargs: Option<HashMap<String, TemplateValue>>,
    /// What the answer must be; any text where it is missing. Not together with `stop`.
    response_format: Option<AnswerFormat>,
    /// Functions that the model may call, where its template shows them. Not together with `response_format`.
    tools: Option<Vec<Tool>>,
    /// `auto` where it is missing.
    tool_choice: Option<ToolWish>,
    /// How often `max_tokens` is doubled where the answer is cut off before it is what it must be.
    #[schema(minimum = 0, maximum = 20)]
    schema_retries: Option<i64>,
}

/// A text or a list of them.
fn prompts() -> Schema {
    let text = || {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .min_length(Some(1))
    };
    let list = ArrayBuilder::new().items(text()).min_items(Some(1));
    let list = list.max_items(Some(MAX_PROMPTS));
    OneOfBuilder::new().item(text()).item(list).into()
}

/// A text to be continued.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CompletionRequest {
    /// The text, or several.
    #[schema(schema_with = prompts)]
    prompt: Value,
    /// The model; the server's usual one where it is missing.
    #[schema(min_length = 1)]
    model: Option<String>,
    /// Tokens of the answer at most.
    #[schema(minimum = 1, maximum = 2147483647)]
    max_tokens: Option<i64>,
    /// 0 is greedy; 1 where it is missing.
    #[schema(minimum = 0, maximum = 2)]
    temperature: Option<f64>,
    /// Nucleus mass; 1 is off.
    #[schema(minimum = 0, maximum = 1)]
    top_p: Option<f64>,
    /// Added for each earlier occurrence; 0 is off.
    #[schema(minimum = -2, maximum = 2)]
    frequency_penalty: Option<f64>,
    /// Added for a token that occurred; 0 is off.
    #[schema(minimum = -2, maximum = 2)]
    presence_penalty: Option<f64>,
    /// Equal seeds give equal answers.
    #[schema(minimum = -9223372036854775808i64, maximum = 9223372036854775807i64)]
    seed: Option<i64>,
    /// Texts that end the answer.
    stop: Option<Stop>,
    /// Answers.
    #[schema(minimum = 1, maximum = 16)]
    n: Option<i64>,
    /// Server-sent events instead of one object.
    stream: Option<bool>,
    /// Of no effect.
    user: Option<Value>,
    /// What the continuation must be; any text where it is missing. Not together with `stop`.
    response_format: Option<AnswerFormat>,
}

/// Tokens of one answer.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct AnswerUsage {
    /// Of the prompt.
    prompt_tokens: u32,
    /// Of all choices.
    completion_tokens: u32,
    /// Both.
    total_tokens: u64,
}

/// What the model says.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct AnswerMessage {
    /// Always `assistant`.
    role: String,
    /// The text; null where there is nothing but calls.
    content: Option<String>,
    /// The calls that it makes, if any.
    tool_calls: Option<Vec<AnsweredCall>>,
}

/// One of the answers.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct ChatChoice {
    /// Counted from 0.
    index: u32,
    /// What the model says.
    message: AnswerMessage,
    /// Why it ended: `stop`, `length` or `tool_calls`.
    finish_reason: String,
    /// Where they were asked for.
    logprobs: Option<Value>,
}

/// An answer to a chat.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct ChatCompletion {
    /// `chatcmpl-…`
    id: String,
    /// Always `chat.completion`.
    object: String,
    /// Unix seconds.
    created: i64,
    /// The model as requested.
    model: String,
    /// The answers.
    choices: Vec<ChatChoice>,
    /// Tokens.
    usage: AnswerUsage,
    /// Equal ones mean equal bytes for equal requests.
    system_fingerprint: Option<String>,
}

/// One of the continuations.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct TextChoice {
    /// Counted from 0.
    index: u32,
    /// The text.
    text: String,
    /// Why it ended: `stop` or `length`.
    finish_reason: String,
    /// Where they were asked for.
    logprobs: Option<Value>,
}

/// A text that was continued.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct Completion {
    /// `cmpl-…`
    id: String,
    /// Always `text_completion`.
    object: String,
    /// Unix seconds.
    created: i64,
    /// The model as requested.
    model: String,
    /// The continuations.
    choices: Vec<TextChoice>,
    /// Tokens.
    usage: AnswerUsage,
    /// Equal ones mean equal bytes for equal requests.
    system_fingerprint: Option<String>,
}

/// A file to be kept.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UploadForm {
    /// Its bytes.
    #[schema(value_type = String, format = Binary)]
    file: String,
    /// What it is for.
    purpose: InputPurpose,
}

/// What an uploaded file is for.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum InputPurpose {
    /// The prompts of batches.
    Batch,
}

/// A batch to be made of a file.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewBatchRequest {
    /// The file with the jobs.
    input_file_id: String,
    /// The route of its jobs.
    endpoint: BatchEndpoint,
    /// How long it may take: a number with `s`, `m`, `h` or `d` behind it.
    #[schema(pattern = "^[1-9][0-9]{0,2}[smhd]$", example = "24h")]
    completion_window: String,
    /// Notes of the client's own: at most 16, of 512 characters.
    #[schema(value_type = Option<HashMap<String, String>>)]
    metadata: Option<Value>,
}

/// The routes that batches are for.
#[derive(Serialize, Deserialize, ToSchema)]
pub enum BatchEndpoint {
    /// Chats.
    #[serde(rename = "/v1/chat/completions")]
    Chat,
    /// Completions.
    #[serde(rename = "/v1/completions")]
    Completions,
    /// Embeddings.
    #[serde(rename = "/v1/embeddings")]
    Embeddings,
}

/// A prompt or a chat with its parameters beside it.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct InferRequest {
    /// One text.
    prompt: String,
    /// The model; the server's usual one where it is missing.
    #[schema(min_length = 1)]
    model: Option<String>,
    /// The only node that may answer.
    node: Option<String>,
    /// Tokens of the answer at most.
    #[schema(minimum = 1, maximum = 2147483647)]
    max_tokens: Option<i64>,
    /// Server-sent events, or the result line.
    stream: Option<bool>,
}

/// Why a batch is paused.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct Pause {
    /// The reason.
    reason: Option<String>,
}

/// A token to be made.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenRequest {
    /// Its name: no other has it.
    #[schema(pattern = "^[A-Za-z0-9._@-]{1,64}$")]
    name: String,
    /// What it is good for.
    role: TokenRole,
    /// Unfinished jobs that its owner may have at once.
    #[schema(minimum = 1, maximum = 9007199254740991i64)]
    max_queued: Option<i64>,
    /// Requests that it may make in a second, on each server.
    #[schema(minimum = 1, maximum = 4294967295i64)]
    requests_per_s: Option<i64>,
    /// Seconds for which it is good.
    #[schema(minimum = 0, maximum = 3155760000i64)]
    expires_in_s: Option<i64>,
}

/// What a token is good for.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TokenRole {
    /// Everything.
    Admin,
    /// Batches of one owner.
    Submit,
    /// Reading.
    Read,
    /// Model files.
    Node,
}
