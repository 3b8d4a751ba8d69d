//! Text to the ids of its tokens, and how many there may be.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use rbee_queue::JobError;
use serde_json::Value;
use tokenizers::Tokenizer;

use crate::engine::prepare::{CONTEXT_LENGTH_EXCEEDED, EMPTY_PROMPT, ENGINE_ERROR};

use super::config::BertConfig;

/// The largest `tokenizer.json` that is read.
const MAX_TOKENIZER_BYTES: u64 = 1 << 28;
/// The largest file of sentence-transformers' own.
const MAX_SETTINGS_BYTES: u64 = 1 << 20;

/// The tokenizer of a model of embeddings. Special tokens written in a text are text.
pub struct TextTokens {
    tokenizer: Tokenizer,
    /// Most tokens of a text, the ones around it included.
    limit: usize,
}

impl TextTokens {
    /// # Errors
    /// A clause about the files.
    pub fn read(dir: &Path, config: &BertConfig) -> Result<TextTokens, String> {
        let name = "tokenizer.json";
        let bytes = read(dir, name, MAX_TOKENIZER_BYTES)?.ok_or("it has no tokenizer.json")?;
        // The crate is not written for hostile files: a panic of it is an error of the file.
        let parsed = catch_unwind(AssertUnwindSafe(|| Tokenizer::from_bytes(&bytes)));
        let wrong =
            |why: &dyn std::fmt::Display| format!("its tokenizer.json cannot be used: {why}");
        let mut tokenizer = match parsed {
            Ok(parsed) => parsed.map_err(|error| wrong(&error))?,
            Err(_) => return Err(wrong(&"the tokenizers library panicked on it")),
        };
        // What is too long is refused, never cut.
        tokenizer
            .with_truncation(None)
            .map_err(|error| wrong(&error))?;
        tokenizer.with_padding(None);
        tokenizer.set_encode_special_tokens(true);
        let settings = read(dir, "sentence_bert_config.json", MAX_SETTINGS_BYTES)?;
        let settings: Value = match settings {
            None => Value::Null,
            Some(bytes) => serde_json::from_slice(&bytes).map_err(|error| {
                format!("its sentence_bert_config.json is not valid JSON: {error}")
            })?,
        };
        let longest = settings.get("max_seq_length").and_then(Value::as_u64);
        let limit = longest.map_or(config.positions, |longest| {
            usize::try_from(longest)
                .map_or(config.positions, |longest| longest.min(config.positions))
        });
        Ok(TextTokens { tokenizer, limit })
    }

    /// The ids of a text, with those that the model wants around it.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, JobError> {
        let encoded = catch_unwind(AssertUnwindSafe(|| self.tokenizer.encode_fast(text, true)));
        match encoded {
            Ok(Ok(encoded)) => Ok(encoded.get_ids().to_vec()),
            _ => {
                let message = "The tokenizer of the model failed on this text.";
                Err(JobError::new(ENGINE_ERROR, message))
            }
        }
    }

    pub fn check_length(&self, tokens: usize) -> Result<(), JobError> {
        match tokens {
            0 => Err(JobError::new(EMPTY_PROMPT, "The text has no tokens.")),
            tokens if tokens > self.limit => {
                let message = format!(
                    "The text has {tokens} tokens and the model takes {}: give it in parts.",
                    self.limit
                );
                Err(JobError::new(CONTEXT_LENGTH_EXCEEDED, message))
            }
            _ => Ok(()),
        }
    }
}

fn read(dir: &Path, name: &str, most: u64) -> Result<Option<Vec<u8>>, String> {
    let path = dir.join(name);
    match std::fs::metadata(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Ok(found) if found.len() > most => {
            return Err(format!(
                "its {name} has {} bytes; {most} are possible",
                found.len()
            ));
        }
        _ => {}
    }
    let bytes = std::fs::read(&path);
    bytes
        .map(Some)
        .map_err(|error| format!("its {name} cannot be read: {error}"))
}
