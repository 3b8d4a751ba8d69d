//! Chat templates: from messages to the prompt that the model was trained on.
//!
//! Owns the rendering of a model's own Jinja template, the limits on it, and the rule that message
//! content never yields control tokens. It does not tokenise.
//!
//! **Message content never yields control tokens.** A conversation is rendered twice: once as it
//! is, and once with every character of the user's strings that occurs in a control token replaced
//! by a private-use stand-in ([`mark`]). If both texts agree, the stand-ins say for every character
//! whether the template or the user wrote it, whatever trimming, slicing or joining lay between,
//! and only control tokens that the template wrote entirely are parsed. If they differ, the
//! template looked into the text (`'</think>' in content`), and it is rendered a third time with
//! stand-ins only for the characters of control tokens that no string literal of the template
//! holds; the characters of a control token that has none such are replaced in look-alikes only.
//! The words that templates build control tokens from and compare, known roles and part types, are
//! not replaced. A look-alike in a message thus reaches the model as text.
//!
//! **The last message.** The prompt always ends with the opening of the assistant's turn, also
//! after an assistant's message, as OpenAI's API and vLLM do; a message is never continued.

mod date;
mod environment;
mod error;
mod json;
mod literals;
mod mark;
mod messages;
mod source;
mod values;

use std::collections::{BTreeSet, HashSet};

use minijinja::{Environment, Value as TemplateValue};
use rbee_queue::tools::CALL_BEGINS;
use serde_json::{Map, Value, json};

use crate::tokenizer::{Segment, Tokenizer, is_markable};
use date::Date;
use environment::{DATE_VARIABLE, TEMPLATE, on_deep_stack, render_error};
use mark::{MarkRule, Marks, is_private_use};
use messages::ContentForm;

pub use error::TemplateError;

/// Fuel for a conversation of no size; real templates use a few hundred units a message.
const BASE_FUEL: u64 = 500_000;
/// More fuel for each byte of the request.
const FUEL_PER_BYTE: u64 = 32;
/// The most fuel for one rendering: a fraction of a second, and about 300 MB of text passed on.
const MAX_FUEL: u64 = 5_000_000;
/// What the form of `content` is found out with; no template holds it by chance.
const PROBE: &str = "rbee4c1e7probe";

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

/// A model's compiled chat template.
pub struct ChatTemplate {
    plain: Compiled,
    /// The variant for conversations with tools, where the model has one.
    tools: Option<Compiled>,
    bos: String,
    eos: String,
    /// It writes [`CALL_BEGINS`].
    marks_calls: bool,
}

/// One template, with what must be known to mark a user's text.
struct Compiled {
    environment: Environment<'static>,
    form: ContentForm,
    /// Tools show up in the text.
    takes_tools: bool,
    /// Private-use characters in the source, which cannot be marks.
    taken: HashSet<char>,
    /// Marks every character that a control token holds.
    full: MarkRule,
    /// Marks what the template does not compare anything with.
    careful: MarkRule,
}

impl ChatTemplate {
    /// Compiles `source`; `tokenizer` tells what the control tokens, bos and eos are.
    pub fn new(source: &str, tokenizer: &Tokenizer) -> Result<ChatTemplate, TemplateError> {
        let text = |id: Option<u32>| {
            id.and_then(|id| tokenizer.token_text(id))
                .unwrap_or_default()
                .to_owned()
        };
        let (bos, eos) = (text(tokenizer.bos()), text(tokenizer.eos()));
        Ok(ChatTemplate {
            plain: Compiled::new(source, tokenizer)?,
            tools: None,
            bos,
            eos,
            marks_calls: source.contains(CALL_BEGINS),
        })
    }

    /// Uses `source` for conversations with tools.
    pub fn with_tools(
        mut self,
        source: &str,
        tokenizer: &Tokenizer,
    ) -> Result<ChatTemplate, TemplateError> {
        self.tools = Some(Compiled::new(source, tokenizer)?);
        self.marks_calls = source.contains(CALL_BEGINS);
        Ok(self)
    }

    /// Whether tools show up in the prompt.
    pub fn takes_tools(&self) -> bool {
        self.tools.as_ref().unwrap_or(&self.plain).takes_tools
    }

    /// Whether the model is taught to put calls between [`CALL_BEGINS`] and its counterpart.
    pub fn marks_calls(&self) -> bool {
        self.marks_calls
    }

    /// The prompt for a conversation.
    pub fn render(&self, input: &ChatInput<'_>) -> Result<Vec<Segment>, TemplateError> {
        let date =
            Date::parse(input.date)
                .map(|_| input.date)
                .ok_or_else(|| TemplateError::Failed {
                    why: format!("`{}` is not a date of the form YYYY-MM-DD", input.date),
                })?;
        let compiled = self
            .tools
            .as_ref()
            .filter(|_| input.tools.is_some())
            .unwrap_or(&self.plain);
        let conversation = Conversation {
            messages: messages::in_form(input.messages, compiled.form),
            tools: input.tools,
            kwargs: input.kwargs,
            fixed: [
                ("bos_token", TemplateValue::from(self.bos.as_str())),
                ("eos_token", TemplateValue::from(self.eos.as_str())),
                (
                    "add_generation_prompt",
                    TemplateValue::from(input.add_generation_prompt),
                ),
                (DATE_VARIABLE, TemplateValue::from(date)),
            ],
        };
        on_deep_stack(|| compiled.render(&conversation))?
    }
}

/// A conversation in the template's form.
struct Conversation<'a> {
    messages: Vec<Map<String, Value>>,
    tools: Option<&'a [Value]>,
    kwargs: &'a Map<String, Value>,
    fixed: [(&'static str, TemplateValue); 4],
}

impl Conversation<'_> {
    /// The template's variables; a request's own cannot replace the fixed ones.
    fn context(&self, marks: Option<&Marks<'_>>) -> TemplateValue {
        let mut variables: Vec<(String, TemplateValue)> = self
            .kwargs
            .iter()
            .map(|(name, value)| (name.clone(), values::template_value(value, marks)))
            .collect();
        let messages = self
            .messages
            .iter()
            .map(|message| values::map_value(message, marks));
        variables.push((
            "messages".into(),
            TemplateValue::from(messages.collect::<Vec<_>>()),
        ));
        if let Some(tools) = self.tools {
            let tools = tools.iter().map(|tool| values::template_value(tool, marks));
            variables.push((
                "tools".into(),
                TemplateValue::from(tools.collect::<Vec<_>>()),
            ));
        }
        variables.extend(
            self.fixed
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.clone())),
        );
        TemplateValue::from_pairs(variables)
    }

    fn for_each_text(&self, visit: &mut impl FnMut(&str)) {
        let fields = self.messages.iter().flatten().chain(self.kwargs);
        for (key, value) in fields {
            visit(key);
            values::for_each_text(value, visit);
        }
        for tool in self.tools.into_iter().flatten() {
            values::for_each_text(tool, visit);
        }
    }
}

impl Compiled {
    fn new(source: &str, tokenizer: &Tokenizer) -> Result<Compiled, TemplateError> {
        let controls: Vec<&str> = tokenizer.control_texts().collect();
        let environment = on_deep_stack(|| environment::compile(source))??;
        let mut compiled = Compiled {
            environment,
            form: ContentForm::Text,
            takes_tools: false,
            taken: source.chars().filter(|c| is_private_use(*c)).collect(),
            full: MarkRule::always(markable(&controls)),
            careful: careful_rule(source, &controls).ok_or_else(|| TemplateError::Invalid {
                why: "there are too many control tokens".into(),
            })?,
        };
        if !compiled.shows(ContentForm::Text) && compiled.shows(ContentForm::Parts) {
            compiled.form = ContentForm::Parts;
        }
        compiled.takes_tools = source.contains("tools") && compiled.shows_tools();
        Ok(compiled)
    }

    /// Whether a message with its content in this form shows up as its bare text.
    fn shows(&self, form: ContentForm) -> bool {
        let rendered = self.probed(form, PROBE, None);
        // A list that is printed as a whole shows its syntax as well.
        rendered.is_some_and(|text| {
            text.contains(PROBE) && !text.contains("'text'") && !text.contains("\"text\"")
        })
    }

    /// Whether the name of a tool shows up.
    fn shows_tools(&self) -> bool {
        let function = json!({"name": PROBE, "description": "", "parameters": {"type": "object", "properties": {}}});
        let tools = [json!({"type": "function", "function": function})];
        let rendered = self.probed(self.form, "", Some(&tools));
        rendered.is_some_and(|text| text.contains(PROBE))
    }

    /// A conversation of one message of the user's.
    fn probed(&self, form: ContentForm, content: &str, tools: Option<&[Value]>) -> Option<String> {
        let message = Map::from_iter([
            ("role".to_owned(), Value::from("user")),
            ("content".to_owned(), Value::from(content)),
        ]);
        let empty = TemplateValue::from("");
        let conversation = Conversation {
            messages: messages::in_form(&[message], form),
            tools,
            kwargs: &Map::new(),
            fixed: [
                ("bos_token", empty.clone()),
                ("eos_token", empty),
                ("add_generation_prompt", TemplateValue::from(true)),
                (DATE_VARIABLE, TemplateValue::from("2024-07-26")),
            ],
        };
        let rendered = on_deep_stack(|| self.render_once(&conversation, None, BASE_FUEL));
        rendered.ok()?.ok()
    }

    fn render(&self, conversation: &Conversation<'_>) -> Result<Vec<Segment>, TemplateError> {
        let mut bytes = 0u64;
        let mut taken = self.taken.clone();
        conversation.for_each_text(&mut |text| {
            bytes += text.len() as u64;
            taken.extend(text.chars().filter(|c| is_private_use(*c)));
        });
        let fuel = bytes
            .saturating_mul(FUEL_PER_BYTE)
            .saturating_add(BASE_FUEL)
            .min(MAX_FUEL);
        let plain = self.render_once(conversation, None, fuel)?;
        let marks = |rule| {
            Marks::new(rule, &taken).ok_or_else(|| TemplateError::TooMuch {
                why: "the messages use too many different private-use characters".into(),
            })
        };
        let full = marks(&self.full)?;
        match self.render_once(conversation, Some(&full), fuel) {
            Ok(text) if full.unmark(&text) == plain => return Ok(full.segments(&text)),
            _ => {}
        }
        let careful = marks(&self.careful)?;
        Ok(careful.segments(&self.render_once(conversation, Some(&careful), fuel)?))
    }

    fn render_once(
        &self,
        conversation: &Conversation<'_>,
        marks: Option<&Marks<'_>>,
        fuel: u64,
    ) -> Result<String, TemplateError> {
        let mut environment = self.environment.clone();
        environment.set_fuel(Some(fuel));
        let template = environment
            .get_template(TEMPLATE)
            .map_err(|error| render_error(&error))?;
        template
            .render(conversation.context(marks))
            .map_err(|error| render_error(&error))
    }
}

/// The characters of control tokens that can be marked.
fn markable(controls: &[&str]) -> BTreeSet<char> {
    controls
        .iter()
        .flat_map(|text| text.chars())
        .filter(|c| is_markable(*c))
        .collect()
}

/// Marks the characters of control tokens that no literal of the template holds beside whole
/// control tokens, and look-alikes of the control tokens that have no such character.
fn careful_rule(source: &str, controls: &[&str]) -> Option<MarkRule> {
    let mut compared: BTreeSet<char> = BTreeSet::new();
    literals::for_each_literal(source, |literal| {
        let mut literal = literal.to_owned();
        for control in controls {
            if literal.contains(control) {
                literal = literal.replace(control, " ");
            }
        }
        compared.extend(literal.chars());
    });
    let rare: BTreeSet<char> = markable(controls).difference(&compared).copied().collect();
    let common = controls
        .iter()
        .filter(|text| !text.contains(|c| rare.contains(&c)));
    let common = common.map(|text| (*text).to_owned()).collect();
    MarkRule::always(rare).and_look_alikes(common)
}

#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod tests;
