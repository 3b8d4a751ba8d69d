//! Chat templates: from messages to the prompt that the model was trained on.
//!
//! Owns the rendering of a model's own Jinja template and the rule that message content never
//! yields control tokens. It does not tokenise.

use serde_json::{Map, Value};

use crate::tokenizer::{Segment, Tokenizer};

/// Why a conversation could not be rendered.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// The template cannot be parsed.
    #[error("the model's chat template cannot be used: {why}")]
    Invalid {
        /// What is wrong with it.
        why: String,
    },
    /// The template stopped with an error, or ran into a limit.
    #[error("the chat template failed on this conversation: {why}")]
    Render {
        /// What happened.
        why: String,
    },
}

/// What a template is rendered with.
#[derive(Debug, Clone, Copy)]
pub struct ChatInput<'a> {
    /// The conversation.
    pub messages: &'a [Map<String, Value>],
    /// Tool definitions in OpenAI's form, if any.
    pub tools: Option<&'a [Value]>,
    /// Further variables (`chat_template_kwargs`).
    pub kwargs: &'a Map<String, Value>,
    /// What `strftime_now` sees, `YYYY-MM-DD`.
    pub date: &'a str,
    /// Whether the prompt ends with the opening of the assistant's turn.
    pub add_generation_prompt: bool,
}

/// A compiled chat template.
pub struct ChatTemplate {
    environment: minijinja::Environment<'static>,
}

impl ChatTemplate {
    /// Compiles `source`; `tokenizer` tells what the control tokens, bos and eos are.
    pub fn new(source: &str, _tokenizer: &Tokenizer) -> Result<ChatTemplate, TemplateError> {
        let mut environment = minijinja::Environment::new();
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment
            .add_template_owned("chat", source.to_owned())
            .map_err(|error| TemplateError::Invalid { why: error.to_string() })?;
        Ok(ChatTemplate { environment })
    }

    /// The prompt for a conversation.
    pub fn render(&self, input: &ChatInput<'_>) -> Result<Vec<Segment>, TemplateError> {
        let failed = |error: minijinja::Error| TemplateError::Render { why: error.to_string() };
        let mut context = input.kwargs.clone();
        context.insert("messages".into(), input.messages.iter().cloned().map(Value::Object).collect());
        context.insert("add_generation_prompt".into(), input.add_generation_prompt.into());
        let template = self.environment.get_template("chat").map_err(failed)?;
        let text = template.render(minijinja::Value::from_serialize(&context)).map_err(failed)?;
        Ok(vec![Segment { text, special: true }])
    }
}
