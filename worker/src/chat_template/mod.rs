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
        let syntax = minijinja::syntax::SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build()
            .map_err(|error| TemplateError::Invalid {
                why: error.to_string(),
            })?;
        environment.set_syntax(syntax);
        environment
            .add_template_owned("chat", source.to_owned())
            .map_err(|error| TemplateError::Invalid {
                why: error.to_string(),
            })?;
        Ok(ChatTemplate { environment })
    }

    /// The prompt for a conversation.
    pub fn render(&self, input: &ChatInput<'_>) -> Result<Vec<Segment>, TemplateError> {
        let failed = |error: minijinja::Error| TemplateError::Render {
            why: error.to_string(),
        };
        let mut context = input.kwargs.clone();
        context.insert(
            "messages".into(),
            input.messages.iter().cloned().map(Value::Object).collect(),
        );
        context.insert(
            "add_generation_prompt".into(),
            input.add_generation_prompt.into(),
        );
        let template = self.environment.get_template("chat").map_err(failed)?;
        let text = template
            .render(template_value(&Value::Object(context)))
            .map_err(failed)?;
        Ok(vec![Segment {
            text,
            special: true,
        }])
    }
}

fn template_value(value: &Value) -> minijinja::Value {
    match value {
        Value::Null => minijinja::Value::from(()),
        Value::Bool(flag) => minijinja::Value::from(*flag),
        Value::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(signed), _, _) => minijinja::Value::from(signed),
            (_, Some(unsigned), _) => minijinja::Value::from(unsigned),
            (_, _, float) => minijinja::Value::from(float),
        },
        Value::String(text) => minijinja::Value::from(text.as_str()),
        Value::Array(items) => minijinja::Value::from_iter(items.iter().map(template_value)),
        Value::Object(fields) => minijinja::Value::from_pairs(
            fields
                .iter()
                .map(|(key, value)| (key.as_str(), template_value(value))),
        ),
    }
}
