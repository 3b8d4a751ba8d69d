//! Small vocabularies of both kinds, as GGUF metadata and as `tokenizer.json`.

use serde_json::{Value as Json, json};

use crate::gguf_file::Value;
use crate::spec::VocabularyKind;

/// Merges of the BPE vocabulary, in rank order; `Ġ` stands for a space. Every part is a byte or an earlier merge.
const MERGES: [(&str, &str); 24] = [
    ("Ġ", "t"),
    ("Ġ", "a"),
    ("h", "e"),
    ("i", "n"),
    ("r", "e"),
    ("o", "n"),
    ("Ġt", "he"),
    ("e", "r"),
    ("Ġ", "s"),
    ("a", "t"),
    ("n", "d"),
    ("Ġ", "o"),
    ("e", "n"),
    ("Ġ", "b"),
    ("i", "s"),
    ("o", "r"),
    ("e", "s"),
    ("Ġa", "nd"),
    ("in", "g"),
    ("Ġ", "w"),
    ("Ċ", "Ċ"),
    ("l", "l"),
    ("Ġo", "f"),
    ("a", "n"),
];

/// Pieces of the SPM vocabulary after the bytes; longer ones have the better scores.
const PIECES: [&str; 28] = [
    "▁the", "▁and", "▁of", "ing", "▁th", "▁an", "▁t", "▁a", "he", "in", "re", "on", "er", "▁s",
    "at", "nd", "▁o", "en", "▁b", "is", "or", "es", "▁w", "ll", "an", "▁▁", "▁", "é",
];

const BPE_SPECIAL: [&str; 3] = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];
const SPM_SPECIAL: [&str; 4] = ["<unk>", "<s>", "</s>", "<|turn|>"];

/// The chat template of generated models: ChatML for BPE, a plain one for SPM.
const CHATML: &str = "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n\
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
const TURNS: &str = "{{ bos_token }}{% for message in messages %}<|turn|>{{ message['role'] }}: {{ message['content'] }}\n\
{% endfor %}{% if add_generation_prompt %}<|turn|>assistant: {% endif %}";

#[derive(Clone, Copy, PartialEq, Eq)]
enum TokenKind {
    Normal = 1,
    Unknown = 2,
    Control = 3,
    Byte = 6,
}

#[derive(Clone)]
struct Token {
    text: String,
    kind: TokenKind,
    score: f32,
}

/// Tokens with their kinds, and which of them begin and end a text.
#[derive(Clone)]
pub struct Vocabulary {
    kind: VocabularyKind,
    tokens: Vec<Token>,
    pub bos: u32,
    pub eos: u32,
}

impl Vocabulary {
    pub fn new(kind: VocabularyKind) -> Vocabulary {
        match kind {
            VocabularyKind::Bpe { .. } => Vocabulary::bpe(kind),
            VocabularyKind::Spm => Vocabulary::spm(kind),
        }
    }

    fn bpe(kind: VocabularyKind) -> Vocabulary {
        let token = |text: String, kind| Token {
            text,
            kind,
            score: 0.0,
        };
        let mut tokens: Vec<Token> = (0..=255u8)
            .map(|byte| token(byte_char(byte).to_string(), TokenKind::Normal))
            .collect();
        tokens.extend(
            MERGES
                .iter()
                .map(|(a, b)| token(format!("{a}{b}"), TokenKind::Normal)),
        );
        let first = tokens.len() as u32;
        tokens.extend(
            BPE_SPECIAL
                .iter()
                .map(|text| token(text.to_string(), TokenKind::Control)),
        );
        Vocabulary {
            kind,
            tokens,
            bos: first,
            eos: first + 2,
        }
    }

    fn spm(kind: VocabularyKind) -> Vocabulary {
        let token = |text: String, kind, score| Token { text, kind, score };
        let mut tokens = vec![
            token("<unk>".into(), TokenKind::Unknown, 0.0),
            token("<s>".into(), TokenKind::Control, 0.0),
            token("</s>".into(), TokenKind::Control, 0.0),
            token("<|turn|>".into(), TokenKind::Control, 0.0),
        ];
        let byte = |byte: u8| token(format!("<0x{byte:02X}>"), TokenKind::Byte, 0.0);
        tokens.extend((0..=255u8).map(byte));
        let ascii = ('!'..='~').map(|letter| letter.to_string());
        let pieces = PIECES.iter().map(|piece| piece.to_string()).chain(ascii);
        for (rank, piece) in pieces.enumerate() {
            tokens.push(token(piece, TokenKind::Normal, -(rank as f32)));
        }
        Vocabulary {
            kind,
            tokens,
            bos: 1,
            eos: 2,
        }
    }

    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    pub fn chat_template(&self) -> &'static str {
        match self.kind {
            VocabularyKind::Bpe { .. } => CHATML,
            VocabularyKind::Spm => TURNS,
        }
    }

    /// What a GGUF file says about the tokenizer.
    pub fn gguf_metadata(&self) -> Vec<(String, Value)> {
        let texts = self.tokens.iter().map(|token| token.text.clone()).collect();
        let kinds = self.tokens.iter().map(|token| token.kind as i32).collect();
        let mut metadata = vec![
            ("tokenizer.ggml.tokens", Value::Strings(texts)),
            ("tokenizer.ggml.token_type", Value::I32s(kinds)),
            ("tokenizer.ggml.bos_token_id", Value::U32(self.bos)),
            ("tokenizer.ggml.eos_token_id", Value::U32(self.eos)),
            (
                "tokenizer.chat_template",
                Value::String(self.chat_template().into()),
            ),
        ];
        match self.kind {
            VocabularyKind::Bpe { pre } => {
                let merges = MERGES.iter().map(|(a, b)| format!("{a} {b}")).collect();
                metadata.push(("tokenizer.ggml.model", Value::String("gpt2".into())));
                metadata.push(("tokenizer.ggml.pre", Value::String(pre.into())));
                metadata.push(("tokenizer.ggml.merges", Value::Strings(merges)));
                metadata.push(("tokenizer.ggml.add_bos_token", Value::Bool(false)));
            }
            VocabularyKind::Spm => {
                let scores = self.tokens.iter().map(|token| token.score).collect();
                metadata.push(("tokenizer.ggml.model", Value::String("llama".into())));
                metadata.push(("tokenizer.ggml.scores", Value::F32s(scores)));
                metadata.push(("tokenizer.ggml.unknown_token_id", Value::U32(0)));
                metadata.push(("tokenizer.ggml.add_bos_token", Value::Bool(true)));
                metadata.push(("tokenizer.ggml.add_space_prefix", Value::Bool(false)));
            }
        }
        metadata
            .into_iter()
            .map(|(key, value)| (key.to_string(), value))
            .collect()
    }

    /// `tokenizer.json`.
    pub fn tokenizer_json(&self) -> Json {
        let vocab: serde_json::Map<String, Json> = self
            .tokens
            .iter()
            .enumerate()
            .map(|(id, token)| (token.text.clone(), json!(id)))
            .collect();
        let added: Vec<Json> = self
            .tokens
            .iter()
            .enumerate()
            .filter(|(_, token)| matches!(token.kind, TokenKind::Control | TokenKind::Unknown))
            .map(|(id, token)| {
                json!({"id": id, "content": token.text, "single_word": false, "lstrip": false, "rstrip": false,
                       "normalized": false, "special": true})
            })
            .collect();
        let (normalizer, pre_tokenizer, decoder) = self.json_stages();
        json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
            "normalizer": normalizer, "pre_tokenizer": pre_tokenizer, "post_processor": null, "decoder": decoder,
            "model": {
                "type": "BPE", "dropout": null, "continuing_subword_prefix": null, "end_of_word_suffix": null,
                "unk_token": match self.kind { VocabularyKind::Spm => json!("<unk>"), _ => Json::Null },
                "fuse_unk": self.kind == VocabularyKind::Spm, "byte_fallback": self.kind == VocabularyKind::Spm,
                "ignore_merges": false, "vocab": vocab, "merges": self.json_merges(),
            },
        })
    }

    fn json_stages(&self) -> (Json, Json, Json) {
        match self.kind {
            VocabularyKind::Bpe { .. } => {
                let bytes = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
                (Json::Null, bytes.clone(), bytes)
            }
            VocabularyKind::Spm => {
                let space = json!({"String": " "});
                let normalizer = json!({"type": "Replace", "pattern": space, "content": "▁"});
                let decoder = json!({"type": "Sequence", "decoders": [
                    {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                    {"type": "ByteFallback"}, {"type": "Fuse"}]});
                (normalizer, Json::Null, decoder)
            }
        }
    }

    /// BPE keeps its merges; SPM's are every split of a piece into two pieces, best piece first.
    fn json_merges(&self) -> Vec<Json> {
        match self.kind {
            VocabularyKind::Bpe { .. } => MERGES.iter().map(|(a, b)| json!([a, b])).collect(),
            VocabularyKind::Spm => {
                let pieces: Vec<&str> = self
                    .tokens
                    .iter()
                    .filter(|token| token.kind == TokenKind::Normal)
                    .map(|token| token.text.as_str())
                    .collect();
                let known = |part: &str| pieces.contains(&part);
                let mut merges = Vec::new();
                for piece in &pieces {
                    for (at, _) in piece.char_indices().skip(1) {
                        let (left, right) = piece.split_at(at);
                        if known(left) && known(right) {
                            merges.push(json!([left, right]));
                        }
                    }
                }
                merges
            }
        }
    }

    /// `tokenizer_config.json`.
    pub fn tokenizer_config_json(&self) -> Json {
        let text = |id: u32| self.tokens[id as usize].text.clone();
        json!({
            "bos_token": text(self.bos), "eos_token": text(self.eos),
            "add_bos_token": self.kind == VocabularyKind::Spm, "chat_template": self.chat_template(),
            "tokenizer_class": "PreTrainedTokenizerFast",
        })
    }

    /// Names of the control tokens.
    pub fn special(&self) -> &'static [&'static str] {
        match self.kind {
            VocabularyKind::Bpe { .. } => &BPE_SPECIAL,
            VocabularyKind::Spm => &SPM_SPECIAL,
        }
    }
}

/// GPT-2's printable stand-in for a byte.
fn byte_char(byte: u8) -> char {
    let printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    if printable(byte) {
        return char::from(byte);
    }
    let unprintable_before = (0..byte).filter(|earlier| !printable(*earlier)).count() as u32;
    char::from_u32(256 + unprintable_before).expect("256 to 323 are letters")
}
