//! Building tokenizers from what model files say.

use crate::gguf::Gguf;

use super::bpe::Bpe;
use super::pretokenizer::PreTokenizer;
use super::special::{SpecialToken, SpecialTokens};
use super::spm::Spm;
use super::stop;
use super::table::{Spelling, TokenTable};
use super::vocab::{TokenKind, VocabSpec};
use super::{Model, Tokenizer, TokenizerError};

/// The ids that SPM models have where the metadata does not name them.
const SPM_UNK: u32 = 0;
const SPM_BOS: u32 = 1;
const SPM_EOS: u32 = 2;

/// The end token of [`Tokenizer::bytes`].
const BYTES_EOS: u32 = 256;

impl Tokenizer {
    /// 256 tokens, one a byte, and an end token with id 256: what the stub engine speaks.
    pub fn bytes() -> Tokenizer {
        let mut table = TokenTable::default();
        for byte in 0..=255u8 {
            table.push(format!("<0x{byte:02X}>"), TokenKind::Byte, &[byte]);
        }
        table.push("<eos>".into(), TokenKind::Control, &[]);
        Tokenizer {
            model: Model::Bytes,
            table,
            special: SpecialTokens::none(),
            bos: None,
            eos: Some(BYTES_EOS),
            stop: vec![BYTES_EOS],
            add_bos: false,
            add_eos: false,
        }
    }

    /// The tokenizer in a GGUF file's metadata: byte-level BPE (`gpt2`) or SPM (`llama`).
    pub fn from_gguf(file: &Gguf) -> Result<Tokenizer, TokenizerError> {
        Tokenizer::from_spec(VocabSpec::from_gguf(file)?)
    }

    /// The tokenizer that a vocabulary describes.
    pub fn from_spec(mut spec: VocabSpec) -> Result<Tokenizer, TokenizerError> {
        spec.validate()?;
        let stop = settle_ends(&mut spec);
        let (model, add_bos) = match spec.model.as_str() {
            "gpt2" => {
                let name = spec
                    .pre
                    .as_deref()
                    .filter(|name| !name.is_empty())
                    .unwrap_or("default");
                let pre =
                    PreTokenizer::by_name(name).ok_or_else(|| TokenizerError::UnknownPre {
                        name: name.to_owned(),
                        supported: PreTokenizer::names(),
                    })?;
                if spec.merges.is_empty() {
                    return Err(TokenizerError::Missing {
                        key: "tokenizer.ggml.merges",
                    });
                }
                (Model::Bpe(Box::new(Bpe::new(&spec, pre)?)), pre.adds_bos())
            }
            "llama" => {
                if spec.scores.is_empty() {
                    return Err(TokenizerError::Missing {
                        key: "tokenizer.ggml.scores",
                    });
                }
                let last = spec.tokens.len() as u32 - 1;
                let default = |id: u32| Some(id.min(last));
                spec.ids.unk = spec.ids.unk.or(default(SPM_UNK));
                spec.ids.bos = spec.ids.bos.or(default(SPM_BOS));
                (
                    Model::Spm(Box::new(Spm::new(
                        &spec,
                        spec.add_space_prefix.unwrap_or(true),
                    ))),
                    true,
                )
            }
            name => {
                return Err(TokenizerError::UnknownModel {
                    name: name.to_owned(),
                });
            }
        };
        let special = SpecialTokens::new(special_tokens(&spec))?;
        let spelling = match model {
            Model::Spm(_) => Spelling::EscapedSpaces,
            _ => Spelling::Bytes,
        };
        Ok(Tokenizer {
            model,
            special,
            bos: spec.ids.bos,
            eos: spec.ids.eos,
            stop,
            add_bos: spec.add_bos.unwrap_or(add_bos),
            add_eos: spec.add_eos.unwrap_or(false),
            table: TokenTable::new(spec.tokens.into_iter().zip(spec.kinds), &spelling),
        })
    }
}

/// Finds the tokens that end an answer and makes them control tokens, since files get that wrong.
/// Returns their ids, ascending.
fn settle_ends(spec: &mut VocabSpec) -> Vec<u32> {
    if spec.model == "llama" && spec.ids.eos.is_none() && spec.tokens.len() > SPM_EOS as usize {
        spec.ids.eos = Some(SPM_EOS);
    }
    let inner_end = stop::end_is_inner(|name| spec.tokens.iter().any(|text| text == name));
    let ids = spec.ids;
    let mut ends: Vec<u32> = [ids.eos, ids.eot, ids.eom].into_iter().flatten().collect();
    for (id, text) in spec.tokens.iter().enumerate() {
        if !stop::ends_answer(text) {
            continue;
        }
        if inner_end && text == "<|end|>" {
            spec.kinds[id] = TokenKind::UserDefined;
            ends.retain(|end| *end as usize != id);
        } else {
            spec.kinds[id] = TokenKind::Control;
            ends.push(id as u32);
        }
    }
    ends.sort_unstable();
    ends.dedup();
    ends
}

/// Tokens that are looked for in text, with the marks of models that are known by name.
fn special_tokens(spec: &VocabSpec) -> Vec<SpecialToken> {
    let name = spec.name.to_lowercase();
    let strips = name.contains("phi-3") || name.contains("phi3");
    let special =
        spec.tokens
            .iter()
            .zip(&spec.kinds)
            .enumerate()
            .filter_map(|(id, (text, kind))| {
                let control = match kind {
                    TokenKind::Control | TokenKind::Unknown => true,
                    TokenKind::UserDefined => false,
                    TokenKind::Normal | TokenKind::Unused | TokenKind::Byte => return None,
                };
                // Phi 3 publishes all but these with the white space after them belonging to the token.
                let strip_after =
                    strips && !matches!(text.as_str(), "<unk>" | "<s>" | "<|endoftext|>");
                Some(SpecialToken {
                    text: text.clone(),
                    id: id as u32,
                    control,
                    strip_before: false,
                    strip_after,
                })
            });
    special.collect()
}
