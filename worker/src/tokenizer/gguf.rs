//! From GGUF metadata to a [`VocabSpec`].

use crate::gguf::{Array, Gguf, Value};

use super::TokenizerError;
use super::vocab::{SpecialIds, TokenKind, VocabSpec, invalid};

impl VocabSpec {
    /// Reads `tokenizer.ggml.*`.
    pub fn from_gguf(file: &Gguf) -> Result<VocabSpec, TokenizerError> {
        let model = text(file, "tokenizer.ggml.model").ok_or(TokenizerError::Missing {
            key: "tokenizer.ggml.model",
        })?;
        let tokens = strings(file, "tokens")?.ok_or(TokenizerError::Missing {
            key: "tokenizer.ggml.tokens",
        })?;
        Ok(VocabSpec {
            model,
            pre: text(file, "tokenizer.ggml.pre"),
            tokens,
            kinds: kinds(file)?,
            scores: scores(file)?,
            merges: strings(file, "merges")?.unwrap_or_default(),
            ids: SpecialIds {
                bos: id(file, "bos_token_id"),
                eos: id(file, "eos_token_id"),
                eot: id(file, "eot_token_id"),
                eom: id(file, "eom_token_id"),
                unk: id(file, "unknown_token_id"),
            },
            add_bos: flag(file, "add_bos_token"),
            add_eos: flag(file, "add_eos_token"),
            add_space_prefix: flag(file, "add_space_prefix"),
            name: text(file, "general.name").unwrap_or_default(),
        })
    }
}

fn text(file: &Gguf, key: &str) -> Option<String> {
    file.get(key).and_then(Value::as_str).map(str::to_owned)
}

fn field<'a>(file: &'a Gguf, name: &str) -> Option<&'a Value> {
    file.get(&format!("tokenizer.ggml.{name}"))
}

fn flag(file: &Gguf, name: &str) -> Option<bool> {
    field(file, name).and_then(Value::as_bool)
}

fn id(file: &Gguf, name: &str) -> Option<u32> {
    field(file, name)
        .and_then(Value::as_u64)
        .and_then(|id| u32::try_from(id).ok())
}

fn array<'a>(file: &'a Gguf, name: &str) -> Result<Option<&'a Array>, TokenizerError> {
    field(file, name)
        .map(|value| {
            value
                .as_array()
                .ok_or_else(|| invalid(name, "it is not an array".into()))
        })
        .transpose()
}

fn strings(file: &Gguf, name: &str) -> Result<Option<Vec<String>>, TokenizerError> {
    let Some(array) = array(file, name)? else {
        return Ok(None);
    };
    match array.as_strings() {
        Some(strings) => Ok(Some(strings.to_vec())),
        None => Err(invalid(name, "it is not an array of strings".into())),
    }
}

fn kinds(file: &Gguf) -> Result<Vec<TokenKind>, TokenizerError> {
    let Some(array) = array(file, "token_type")? else {
        return Ok(Vec::new());
    };
    let codes = array
        .to_i64s()
        .ok_or_else(|| invalid("token_type", "it is not an array of integers".into()))?;
    Ok(codes
        .into_iter()
        .map(|code| TokenKind::from_code(u64::try_from(code).unwrap_or(0)))
        .collect())
}

fn scores(file: &Gguf) -> Result<Vec<f32>, TokenizerError> {
    match array(file, "scores")? {
        None => Ok(Vec::new()),
        Some(Array::F32(scores)) => Ok(scores.clone()),
        Some(Array::F64(scores)) => Ok(scores.iter().map(|score| *score as f32).collect()),
        Some(_) => Err(invalid("scores", "it is not an array of floats".into())),
    }
}
