//! Batch-wide options of reading: defaults, overrides, system text, template.
//!
//! Owns the options' form (stored with the batch, so that its lines can be read again) and their
//! checks. The precedence is: override, the line's own value, default, built-in default.

use super::line_error::LineError;
use super::lines::DEFAULT_MAX_LINE_BYTES;
use super::template::Template;
use super::{params, template};
use crate::request::Endpoint;
use crate::whole_number;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// How the input is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InputFormat {
    /// One JSON object a line, OpenAI and short lines mixed.
    #[default]
    Jsonl,
    /// One prompt a line.
    Text,
}

/// What holds for every line of a batch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LineOptions {
    /// JSONL or plain text.
    pub format: InputFormat,
    /// The model of lines that name none.
    pub model: String,
    /// Prompts are continued as they stand.
    pub raw: bool,
    /// A system message for every chat that has none.
    pub system: Option<String>,
    /// The prompt of short lines, with `{{field}}` for a field of the line.
    pub template: Option<String>,
    /// Body parameters for lines that do not give them.
    pub defaults: Map<String, Value>,
    /// Body parameters that replace the lines' own; other names are fields for the template.
    pub overrides: Map<String, Value>,
    /// Only the first so many jobs are read.
    #[serde(default, deserialize_with = "whole_number::optional")]
    pub limit: Option<u64>,
    /// Longer lines are an error of that line.
    #[serde(deserialize_with = "whole_number::required")]
    pub max_line_bytes: usize,
    /// The one route that all OpenAI lines must name. `None`: each names its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<Endpoint>,
}

impl LineOptions {
    /// JSONL with nothing set but the model.
    pub fn new(model: impl Into<String>) -> LineOptions {
        LineOptions {
            format: InputFormat::Jsonl,
            model: model.into(),
            raw: false,
            system: None,
            template: None,
            defaults: Map::new(),
            overrides: Map::new(),
            limit: None,
            max_line_bytes: DEFAULT_MAX_LINE_BYTES,
            endpoint: None,
        }
    }

    /// Checks what does not depend on a line. Call it once before reading: an option that is
    /// wrong would otherwise be an error of every line.
    pub fn validate(&self) -> Result<(), OptionsError> {
        let template = self.template.as_deref().map(Template::parse).transpose()?;
        for (name, value) in &self.defaults {
            if !params::is_param(name) {
                return Err(OptionsError::UnknownDefault { name: name.clone() });
            }
            check(name, value)?;
        }
        for (name, value) in &self.overrides {
            if params::is_param(name) {
                check(name, value)?;
            } else if let Some(reason) = params::unsupported(name, value) {
                return Err(OptionsError::Unsupported {
                    name: name.clone(),
                    reason,
                });
            } else if !template.as_ref().is_some_and(|t| t.uses(name)) {
                return Err(OptionsError::UnknownSetting { name: name.clone() });
            }
        }
        Ok(())
    }
}

fn check(name: &str, value: &Value) -> Result<(), OptionsError> {
    params::check_one(name, value).map_err(|error| OptionsError::Value {
        name: name.to_owned(),
        error,
    })
}

/// Why batch-wide options are refused. All of them are wrong usage.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum OptionsError {
    /// The template cannot be read.
    #[error(transparent)]
    Template(#[from] template::TemplateError),
    /// A default for a name that is no parameter.
    #[error("{name} is not a parameter that a batch can have a default for")]
    UnknownDefault {
        /// The name given.
        name: String,
    },
    /// A setting that neither names a parameter nor a field of the template.
    #[error("--set {name}: neither a parameter nor a {{{{{name}}}}} of the template")]
    UnknownSetting {
        /// The name given.
        name: String,
    },
    /// A parameter that rbee does not support.
    #[error("--set {name}: {reason}")]
    Unsupported {
        /// The name given.
        name: String,
        /// Why not.
        reason: &'static str,
    },
    /// A parameter's value is refused.
    #[error("{name}: {error}")]
    Value {
        /// The parameter.
        name: String,
        /// What is wrong with it.
        error: LineError,
    },
    /// `--set` without `=`.
    #[error("--set {text:?}: write it as key=value")]
    NoEquals {
        /// What was given.
        text: String,
    },
}

/// One `key=value` of `--set`.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    /// A parameter's or a field's name. `chat_template_kwargs.NAME` sets one variable.
    pub name: String,
    /// JSON where the text is JSON, else a string.
    pub value: Value,
}

impl Setting {
    /// Reads `key=value`.
    pub fn parse(text: &str) -> Result<Setting, OptionsError> {
        let (name, value) = text
            .split_once('=')
            .filter(|(name, _)| !name.trim().is_empty())
            .ok_or_else(|| OptionsError::NoEquals {
                text: text.to_owned(),
            })?;
        let value = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned()));
        Ok(Setting {
            name: name.trim().to_owned(),
            value,
        })
    }

    /// Adds the setting to a map of overrides; a later one replaces an earlier one.
    pub fn apply(self, overrides: &mut Map<String, Value>) {
        let Some(variable) = self.name.strip_prefix("chat_template_kwargs.") else {
            overrides.insert(self.name, self.value);
            return;
        };
        let kwargs = overrides
            .entry("chat_template_kwargs")
            .or_insert_with(|| Value::Object(Map::new()));
        match kwargs.as_object_mut() {
            Some(kwargs) => {
                kwargs.insert(variable.to_owned(), self.value);
            }
            None => *kwargs = Value::Object(Map::from_iter([(variable.to_owned(), self.value)])),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn settings_are_json_or_text() {
        let mut overrides = Map::new();
        for text in [
            "temperature=0.5",
            "stop=END",
            "chat_template_kwargs.enable_thinking=false",
            "chat_template_kwargs.x=y",
        ] {
            Setting::parse(text).unwrap().apply(&mut overrides);
        }
        assert_eq!(
            Value::Object(overrides),
            json!({"temperature": 0.5, "stop": "END",
                   "chat_template_kwargs": {"enable_thinking": false, "x": "y"}})
        );
        assert!(Setting::parse("temperature").is_err());
    }

    #[test]
    fn wrong_options_are_refused_before_any_line() {
        let mut options = LineOptions::new("m");
        options.overrides.insert("temperature".into(), json!(9));
        assert!(options.validate().is_err());
        options.overrides = Map::from_iter([("language".to_owned(), json!("de"))]);
        assert!(options.validate().is_err());
        options.template = Some("In {{language}}: {{text}}".into());
        assert_eq!(options.validate(), Ok(()));
        options.template = Some("In {{language".into());
        assert!(options.validate().is_err());
        options.template = None;
        options.overrides = Map::from_iter([("functions".to_owned(), json!([{}]))]);
        assert!(matches!(
            options.validate(),
            Err(OptionsError::Unsupported { .. })
        ));
    }
}
