//! Building a tokenizer from the files beside safetensors: `tokenizer.json`, with what
//! `tokenizer_config.json`, `generation_config.json` and `config.json` say about its tokens.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use serde_json::Value;

use super::json::JsonModel;
use super::special::{SpecialToken, SpecialTokens};
use super::spm::{ESCAPED_SPACE, byte_of};
use super::table::{Spelling, TokenTable};
use super::vocab::{MAX_TOKEN_BYTES, MAX_TOKENS, MAX_VOCAB_BYTES, TokenKind};
use super::{Model, Tokenizer, TokenizerError, stop};

/// The largest file that is read; the largest published `tokenizer.json` has 33 MB.
const MAX_FILE_BYTES: u64 = 1 << 28;

const TOKENIZER: &str = "tokenizer.json";
const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
const GENERATION_CONFIG: &str = "generation_config.json";
const MODEL_CONFIG: &str = "config.json";

fn broken(file: &str, why: impl ToString) -> TokenizerError {
    TokenizerError::File {
        file: file.to_owned(),
        why: why.to_string(),
    }
}

/// Reads one of the files; `None` if it is not there.
fn read(dir: &Path, file: &str) -> Result<Option<Vec<u8>>, TokenizerError> {
    let path = dir.join(file);
    match std::fs::metadata(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(broken(file, error)),
        Ok(found) if found.len() > MAX_FILE_BYTES => {
            return Err(broken(
                file,
                format!(
                    "it has {} bytes; {MAX_FILE_BYTES} are possible",
                    found.len()
                ),
            ));
        }
        Ok(_) => {}
    }
    std::fs::read(&path)
        .map(Some)
        .map_err(|error| broken(file, error))
}

fn parse(file: &str, bytes: &[u8]) -> Result<Value, TokenizerError> {
    serde_json::from_slice(bytes)
        .map_err(|error| broken(file, format!("it is not valid JSON: {error}")))
}

fn config(dir: &Path, file: &str) -> Result<Value, TokenizerError> {
    read(dir, file)?.map_or(Ok(Value::Null), |bytes| parse(file, &bytes))
}

impl Tokenizer {
    /// The tokenizer of a model directory: `tokenizer.json` with byte-level or SPM-like decoding,
    /// and the other files where they exist.
    pub fn from_json(dir: &Path) -> Result<Tokenizer, TokenizerError> {
        let bytes = read(dir, TOKENIZER)?.ok_or_else(|| broken(TOKENIZER, "it is not there"))?;
        let configs = Configs {
            tokenizer: config(dir, TOKENIZER_CONFIG)?,
            generation: config(dir, GENERATION_CONFIG)?,
            model: config(dir, MODEL_CONFIG)?,
        };
        // The crate is not written for hostile files: a panic of it is an error of the file.
        catch_unwind(AssertUnwindSafe(|| build(&bytes, &configs)))
            .unwrap_or_else(|_| Err(broken(TOKENIZER, "the tokenizers library panicked on it")))
    }
}

/// The files beside `tokenizer.json`; null where absent.
struct Configs {
    tokenizer: Value,
    generation: Value,
    model: Value,
}

fn build(bytes: &[u8], configs: &Configs) -> Result<Tokenizer, TokenizerError> {
    let json = parse(TOKENIZER, bytes)?;
    let decoding = Decoding::of(&json)?;
    let mut inner =
        tokenizers::Tokenizer::from_bytes(bytes).map_err(|error| broken(TOKENIZER, error))?;
    inner
        .with_truncation(None)
        .map_err(|error| broken(TOKENIZER, error))?;
    inner.with_padding(None);
    let ids = inner.get_vocab(true);
    let (texts, kinds) = tokens(&inner, &ids, &unknown_token(&json), &decoding)?;
    let special = SpecialTokens::new(special_tokens(&inner, &kinds))?;
    let roles = Roles::of(configs, &ids, &special, texts.len());
    let flag = |name: &str| configs.tokenizer.get(name).and_then(Value::as_bool);
    let add_bos = flag("add_bos_token").unwrap_or_else(|| begins_with(&inner, roles.bos));
    let spelling = if decoding.bytes {
        Spelling::Bytes
    } else {
        Spelling::EscapedSpaces
    };
    Ok(Tokenizer {
        table: TokenTable::new(texts.into_iter().zip(kinds.iter().copied()), &spelling),
        model: Model::Json(Box::new(JsonModel::new(
            inner,
            kinds,
            unknown_token(&json),
            decoding.space_prefix,
        ))),
        special,
        bos: roles.bos,
        eos: roles.eos,
        stop: roles.stop,
        add_bos,
        add_eos: flag("add_eos_token").unwrap_or(false),
    })
}

/// The ids of tokens with a role.
struct Roles {
    bos: Option<u32>,
    eos: Option<u32>,
    /// Ascending.
    stop: Vec<u32>,
}

impl Roles {
    /// From the names in `tokenizer_config.json`, the ids in the other files, and the names under
    /// which ends are published. Ids from `count` up name no token.
    fn of(
        configs: &Configs,
        ids: &HashMap<String, u32>,
        special: &SpecialTokens,
        count: usize,
    ) -> Roles {
        let by_name = |key: &str| ids.get(&named(&configs.tokenizer, key)?).copied();
        let by_id = |key: &str| {
            let listed = listed(&configs.generation, key).or_else(|| listed(&configs.model, key));
            let known = |id: &u32| (*id as usize) < count;
            listed
                .unwrap_or_default()
                .into_iter()
                .filter(known)
                .collect::<Vec<u32>>()
        };
        let bos = by_name("bos_token").or_else(|| by_id("bos_token_id").first().copied());
        let ends = by_id("eos_token_id");
        let eos = by_name("eos_token").or_else(|| ends.first().copied());
        let inner_end = stop::end_is_inner(|name| ids.contains_key(name));
        let published = special
            .control_ids()
            .filter(|(text, _)| stop::ends_answer(text) && !(inner_end && *text == "<|end|>"));
        let mut stop: Vec<u32> = ends
            .into_iter()
            .chain(eos)
            .chain(published.map(|(_, id)| id))
            .collect();
        stop.sort_unstable();
        stop.dedup();
        Roles { bos, eos, stop }
    }
}

/// Whether the file's own post-processor puts `bos` before a text.
fn begins_with(tokenizer: &tokenizers::Tokenizer, bos: Option<u32>) -> bool {
    let encoded = tokenizer.encode("a", true).ok();
    bos.is_some() && encoded.and_then(|encoding| encoding.get_ids().first().copied()) == bos
}

/// A special token of `tokenizer_config.json`: its text, or an object with its text.
fn named(config: &Value, key: &str) -> Option<String> {
    let value = config.get(key)?;
    value
        .as_str()
        .or_else(|| value.get("content")?.as_str())
        .map(str::to_owned)
}

/// An id, or a list of ids.
fn listed(config: &Value, key: &str) -> Option<Vec<u32>> {
    let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    match config.get(key)? {
        Value::Array(ids) => Some(ids.iter().filter_map(id).collect()),
        value => Some(vec![id(value)?]),
    }
}

/// The text of the model's token for the unknown.
fn unknown_token(json: &Value) -> Option<String> {
    let model = json.get("model")?;
    if let Some(text) = model.get("unk_token").and_then(Value::as_str) {
        return Some(text.to_owned());
    }
    let id = usize::try_from(model.get("unk_id")?.as_u64()?).ok()?;
    model
        .get("vocab")?
        .get(id)?
        .get(0)?
        .as_str()
        .map(str::to_owned)
}

/// Texts and kinds by id; ids that no token has are unused.
fn tokens(
    inner: &tokenizers::Tokenizer,
    ids: &HashMap<String, u32>,
    unknown: &Option<String>,
    decoding: &Decoding,
) -> Result<(Vec<String>, Vec<TokenKind>), TokenizerError> {
    let count = ids.values().max().map_or(0, |id| *id as usize + 1);
    if count == 0 || count > MAX_TOKENS {
        return Err(broken(
            TOKENIZER,
            format!("it has {count} token ids; between 1 and {MAX_TOKENS} are possible"),
        ));
    }
    if ids.keys().any(|text| text.len() > MAX_TOKEN_BYTES)
        || ids.keys().map(String::len).sum::<usize>() > MAX_VOCAB_BYTES
    {
        return Err(broken(TOKENIZER, "its tokens are too long"));
    }
    let added = inner.get_added_tokens_decoder();
    let mut texts = vec![String::new(); count];
    let mut kinds = vec![TokenKind::Unused; count];
    for (text, id) in ids {
        let kind = match added.get(id) {
            _ if unknown.as_ref() == Some(text) => TokenKind::Unknown,
            Some(token) if token.special => TokenKind::Control,
            Some(_) => TokenKind::UserDefined,
            None if !decoding.bytes && byte_of(text).is_some() => TokenKind::Byte,
            None => TokenKind::Normal,
        };
        texts[*id as usize].clone_from(text);
        kinds[*id as usize] = kind;
    }
    Ok((texts, kinds))
}

/// The added tokens that steer the model. The others are the crate's business.
fn special_tokens(inner: &tokenizers::Tokenizer, kinds: &[TokenKind]) -> Vec<SpecialToken> {
    let added = inner.get_added_tokens_decoder();
    let special = added.into_iter().filter(|(id, _)| {
        matches!(
            kinds.get(*id as usize),
            Some(TokenKind::Control | TokenKind::Unknown)
        )
    });
    let mut special: Vec<SpecialToken> = special
        .map(|(id, token)| SpecialToken {
            text: token.content,
            id,
            control: true,
            strip_before: token.lstrip,
            strip_after: token.rstrip,
        })
        .collect();
    special.sort_by_key(|token| token.id);
    special
}

/// How the file's decoder turns tokens into text.
struct Decoding {
    /// Byte-level: tokens are spelled in GPT-2's alphabet. Otherwise `▁` is a space.
    bytes: bool,
    space_prefix: bool,
}

impl Decoding {
    fn of(json: &Value) -> Result<Decoding, TokenizerError> {
        let steps = |part: &str, list: &str| -> Vec<Value> {
            match json.get(part) {
                Some(Value::Null) | None => Vec::new(),
                Some(step) => step
                    .get(list)
                    .and_then(Value::as_array)
                    .cloned()
                    .unwrap_or_else(|| vec![step.clone()]),
            }
        };
        let decoders = steps("decoder", "decoders");
        let is = |step: &Value, name: &str| step.get("type").and_then(Value::as_str) == Some(name);
        let pre_tokenizers = steps("pre_tokenizer", "pretokenizers");
        let byte_level = |steps: &[Value]| steps.iter().any(|step| is(step, "ByteLevel"));
        if byte_level(&decoders) || decoders.is_empty() && byte_level(&pre_tokenizers) {
            return Ok(Decoding {
                bytes: true,
                space_prefix: false,
            });
        }
        let replaces = |step: &Value| {
            is(step, "Replace")
                && step.pointer("/pattern/String").and_then(Value::as_str) == Some(ESCAPED_SPACE)
                && step.get("content").and_then(Value::as_str) == Some(" ")
        };
        if !decoders
            .iter()
            .any(|step| replaces(step) || is(step, "Metaspace"))
        {
            let names: Vec<&str> = decoders
                .iter()
                .filter_map(|step| step.get("type")?.as_str())
                .collect();
            return Err(broken(
                TOKENIZER,
                format!(
                    "its decoder ({}) is not supported; byte-level and SPM-like ones are",
                    names.join(", ")
                ),
            ));
        }
        let strips = |step: &Value| {
            let metaspace = is(step, "Metaspace")
                && step.get("prepend_scheme").and_then(Value::as_str) != Some("never");
            metaspace || is(step, "Strip") && step.get("start").and_then(Value::as_u64) == Some(1)
        };
        Ok(Decoding {
            bytes: false,
            space_prefix: decoders.iter().any(strips),
        })
    }
}
