//! Where a model's chat template is found: GGUF metadata, or the files beside safetensors.

use std::path::Path;

use serde_json::Value;

use crate::gguf::Gguf;
use crate::tokenizer::Tokenizer;

use super::environment::MAX_SOURCE_BYTES;
use super::{ChatTemplate, TemplateError};

/// The variant of a template that is used when a conversation has tools.
const TOOL_USE: &str = "tool_use";
/// The longest `tokenizer_config.json` that is read.
const MAX_CONFIG_BYTES: u64 = 1 << 26;

impl ChatTemplate {
    /// The template in a GGUF file's metadata; `None` if it has none.
    pub fn from_gguf(
        file: &Gguf,
        tokenizer: &Tokenizer,
    ) -> Result<Option<ChatTemplate>, TemplateError> {
        let text = |key: &str| file.get(key).and_then(crate::gguf::Value::as_str);
        let Some(source) = text("tokenizer.chat_template") else {
            return Ok(None);
        };
        let tools = text(&format!("tokenizer.chat_template.{TOOL_USE}"));
        with_variant(source, tools, tokenizer).map(Some)
    }

    /// The template of a model directory: `chat_template.jinja`, else `chat_template` in
    /// `tokenizer_config.json` (one text, or a list of named ones); `None` if there is none.
    pub fn from_dir(
        dir: &Path,
        tokenizer: &Tokenizer,
    ) -> Result<Option<ChatTemplate>, TemplateError> {
        if let Some(source) = read(&dir.join("chat_template.jinja"), MAX_SOURCE_BYTES as u64)? {
            return with_variant(&source, None, tokenizer).map(Some);
        }
        let Some(config) = read(&dir.join("tokenizer_config.json"), MAX_CONFIG_BYTES)? else {
            return Ok(None);
        };
        let config: Value =
            serde_json::from_str(&config).map_err(|error| TemplateError::Invalid {
                why: format!("tokenizer_config.json is not JSON: {error}"),
            })?;
        match config.get("chat_template") {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(source)) => with_variant(source, None, tokenizer).map(Some),
            Some(Value::Array(variants)) => {
                let named = |name: &str| {
                    let entry = variants.iter().find(|entry| entry.get("name").and_then(Value::as_str) == Some(name));
                    entry.and_then(|entry| entry.get("template")).and_then(Value::as_str)
                };
                match named("default") {
                    Some(source) => with_variant(source, named(TOOL_USE), tokenizer).map(Some),
                    None => Ok(None),
                }
            }
            Some(_) => Err(TemplateError::Invalid {
                why: "`chat_template` in tokenizer_config.json is neither a text nor a list of named texts".into(),
            }),
        }
    }
}

fn with_variant(
    source: &str,
    tools: Option<&str>,
    tokenizer: &Tokenizer,
) -> Result<ChatTemplate, TemplateError> {
    let template = ChatTemplate::new(source, tokenizer)?;
    match tools {
        Some(tools) => template.with_tools(tools, tokenizer),
        None => Ok(template),
    }
}

/// A file's text; `None` if there is no such file.
fn read(path: &Path, most: u64) -> Result<Option<String>, TemplateError> {
    let invalid = |why: String| TemplateError::Invalid {
        why: format!("{}: {why}", path.display()),
    };
    match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(invalid(error.to_string())),
        Ok(found) if found.len() > most => {
            return Err(invalid(format!(
                "it is {} bytes long; {most} are possible",
                found.len()
            )));
        }
        Ok(_) => {}
    }
    std::fs::read_to_string(path)
        .map(Some)
        .map_err(|error| invalid(error.to_string()))
}
