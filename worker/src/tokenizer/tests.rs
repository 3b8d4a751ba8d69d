//! Tokenizers of real files against independent implementations, and what must hold for any text.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use proptest::prelude::*;

use super::*;
use crate::gguf::Gguf;

/// Code, scripts, emoji, white space of every length, digits, contractions, look-alikes.
pub(crate) const TORTURE: &str = concat!(
    "fn main() {\n\tlet x: Vec<u8> = vec![0x1F; 1_000];\r\n    println!(\"{x:?}\");\n}\n\n\n",
    "def f(a, *b, **c):\n        return {k: v for k, v in c.items() if v != None}  # ok\n",
    "日本語のテキストと漢字、カタカナ。中文字符，标点！한국어 문장입니다. ",
    "مرحبا بالعالم، كيف حالك؟ שלום עולם Привет, мир! Γειά σου Κόσμε नमस्ते दुनिया ภาษาไทย ",
    "👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽 ❤️ 😀😀😀 e\u{301} n\u{303} Å ﬁ ½ ² Ⅷ ٣٤٥ ",
    " a  b   c    d     e      f       g        h                                           i\n \n  \n\t\t\t\n",
    "1 12 123 1234 12345 123456789 3.14159 1,000,000 0xDEADBEEF 2024-07-26T12:34:56Z 50% $9.99 ",
    "I'm you're he's we'd they'll I've can't won't IT'S DON'T 'tis rock'n'roll ''' \"'\" ",
    "<|im_start|>user<|im_end|> <|endoftext|> <s> </s> <bos> <eos> <start_of_turn> <end_of_turn> ",
    "[INST] [/INST] <unk> <pad> <0x0A> <|im_end <|im_end|><|im_end|> ▁▁ ▁word Ġword ",
    "https://example.com/a?b=c&d=%20#frag user@example.com C:\\path\\to\\file.txt /usr/local/bin ",
    "\u{0}\u{1}\u{7f}\u{80}\u{85}\u{a0}\u{ad}\u{200b}\u{200d}\u{2028}\u{3000}\u{feff}\u{fffd}\u{10ffff} ",
    "Supercalifragilisticexpialidocious antidisestablishmentarianism aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa ",
    "...!!!???---___===+++***///\\\\\\|||~~~```^^^&&&%%%$$$###@@@ <div class=\"x\">&nbsp;</div>\n\n\n\n",
);

/// A model of the test set; `cargo xtask test` provides them.
pub(crate) fn model(name: &str) -> PathBuf {
    let dir = std::env::var_os("RBEE_TEST_MODELS").expect(
        "RBEE_TEST_MODELS must name the directory of the test models; `cargo xtask test` sets it",
    );
    let path = PathBuf::from(dir).join(name);
    assert!(
        path.is_file(),
        "the test model {} is missing; `cargo xtask test` fetches it",
        path.display()
    );
    path
}

pub(crate) fn load(name: &str) -> Tokenizer {
    Tokenizer::from_gguf(&Gguf::open(&model(name)).unwrap()).unwrap()
}

fn decode(tokenizer: &Tokenizer, tokens: &[u32]) -> Vec<u8> {
    tokens
        .iter()
        .flat_map(|id| tokenizer.token_bytes(*id))
        .copied()
        .collect()
}

pub(super) fn torture_pieces() -> Vec<String> {
    let words: Vec<&str> = TORTURE.split_inclusive(' ').collect();
    let mut pieces = vec![TORTURE.to_owned(), String::new()];
    pieces.extend(words.iter().map(|word| (*word).to_owned()));
    pieces.extend(words.windows(3).map(|three| three.concat()));
    pieces.extend((1..64).map(|length| " ".repeat(length)));
    pieces.extend((1..64).map(|length| format!("x{}y", "\n".repeat(length))));
    pieces.extend((1..40).map(|length| format!("{}{}", "\t".repeat(length), "9".repeat(length))));
    pieces
}

fn shimmytok_agrees(name: &str, parse: ParseSpecial, fit: impl Fn(&str) -> bool) {
    let ours = load(name);
    let oracle = shimmytok::Tokenizer::from_gguf_file(model(name)).unwrap();
    let options = shimmytok::EncodeOptions::with_parse_special(false, parse == ParseSpecial::Yes);
    for piece in torture_pieces().iter().filter(|piece| fit(piece)) {
        let expected = oracle.encode_with_options(piece, &options).unwrap();
        assert_eq!(
            ours.encode(piece, parse),
            expected,
            "{name}, {parse:?}: {piece:?}"
        );
    }
}

#[test]
fn smollm2_tokenises_the_torture_text_as_shimmytok_does() {
    shimmytok_agrees("smollm2-135m.gguf", ParseSpecial::Yes, |_| true);
    shimmytok_agrees("smollm2-135m.gguf", ParseSpecial::No, |_| true);
}

#[test]
fn gemma3_tokenises_the_torture_text_as_shimmytok_does() {
    // shimmytok does not look for user-defined tokens (`<s>` is HTML to Gemma, runs of spaces are
    // tokens) and reads Ġ as a space; the test after this one covers both.
    let spec = VocabSpec::from_gguf(&Gguf::open(&model("gemma3-270m.gguf")).unwrap()).unwrap();
    let tokens = spec.tokens.iter().zip(&spec.kinds);
    let user_defined: Vec<&str> = tokens
        .filter(|(_, kind)| **kind == TokenKind::UserDefined)
        .map(|(text, _)| text.as_str())
        .collect();
    let fit = |piece: &str| {
        !piece.contains('Ġ') && !user_defined.iter().any(|token| piece.contains(token))
    };
    shimmytok_agrees("gemma3-270m.gguf", ParseSpecial::Yes, fit);
    shimmytok_agrees("gemma3-270m.gguf", ParseSpecial::No, fit);
}

/// An SPM vocabulary as the `tokenizers` crate models it: the merges that the scores imply, byte
/// fallback, spaces replaced, user-defined (and control) tokens added.
pub(super) fn spm_oracle(spec: &VocabSpec, controls: bool) -> tokenizers::Tokenizer {
    use tokenizers::normalizers::Replace;
    let ids: std::collections::HashMap<&str, u32> =
        spec.tokens.iter().map(String::as_str).zip(0..).collect();
    let normal = |text: &str| {
        ids.get(text)
            .is_some_and(|id| spec.kinds[*id as usize] == TokenKind::Normal)
    };
    let mut merges: Vec<(f32, String, String)> = Vec::new();
    for (text, score) in spec
        .tokens
        .iter()
        .zip(&spec.scores)
        .filter(|(text, _)| normal(text))
    {
        for (at, _) in text.char_indices().skip(1) {
            let (left, right) = text.split_at(at);
            if normal(left) && normal(right) {
                merges.push((*score, left.to_owned(), right.to_owned()));
            }
        }
    }
    merges.sort_by(|a, b| b.0.total_cmp(&a.0));
    let vocab = spec
        .tokens
        .iter()
        .zip(0..)
        .map(|(text, id)| (text.clone(), id));
    let bpe = tokenizers::models::bpe::BPE::builder()
        .vocab_and_merges(
            vocab.collect::<tokenizers::models::bpe::Vocab>(),
            merges
                .into_iter()
                .map(|(_, left, right)| (left, right))
                .collect(),
        )
        .byte_fallback(true)
        .unk_token("<unk>".into())
        .fuse_unk(true)
        .build()
        .unwrap();
    let mut oracle = tokenizers::Tokenizer::new(bpe);
    oracle
        .with_normalizer(Some(Replace::new(" ", spm::ESCAPED_SPACE).unwrap()))
        .unwrap();
    let added = spec
        .tokens
        .iter()
        .zip(&spec.kinds)
        .filter_map(|(text, kind)| match kind {
            TokenKind::UserDefined => {
                Some(tokenizers::AddedToken::from(text.clone(), false).normalized(false))
            }
            TokenKind::Control | TokenKind::Unknown if controls => {
                Some(tokenizers::AddedToken::from(text.clone(), true).normalized(false))
            }
            _ => None,
        });
    oracle.add_tokens(added.collect::<Vec<_>>()).unwrap();
    oracle
}

#[test]
fn gemma3_tokenises_the_torture_text_as_the_tokenizers_crate_does() {
    let ours = load("gemma3-270m.gguf");
    let spec = VocabSpec::from_gguf(&Gguf::open(&model("gemma3-270m.gguf")).unwrap()).unwrap();
    for parse in [ParseSpecial::Yes, ParseSpecial::No] {
        let oracle = spm_oracle(&spec, parse == ParseSpecial::Yes);
        let agree = |text: &str| {
            let expected = oracle.encode(text, false).unwrap();
            assert_eq!(
                ours.encode(text, parse),
                expected.get_ids(),
                "{parse:?}: {text:?}"
            );
        };
        torture_pieces().iter().for_each(|piece| agree(piece));
        let any = prop::collection::vec(any::<char>(), 0..12).prop_map(String::from_iter);
        let words = prop::sample::select(TORTURE.split_inclusive(' ').collect::<Vec<_>>())
            .prop_map(str::to_owned);
        proptest!(ProptestConfig::with_cases(300), |(text in prop::collection::vec(prop_oneof![words, any], 0..6))| {
            agree(&text.concat());
        });
    }
}

#[test]
fn gemma3_gives_back_every_text() {
    let tokenizer = load("gemma3-270m.gguf");
    for piece in torture_pieces() {
        // SPM reads ▁ as a space, and only that is lost.
        let expected = piece.replace(spm::ESCAPED_SPACE, " ");
        let back = decode(&tokenizer, &tokenizer.encode(&piece, ParseSpecial::No));
        assert_eq!(
            String::from_utf8_lossy(&back).replace(spm::ESCAPED_SPACE, " "),
            expected
        );
    }
}

#[test]
fn real_files_state_their_special_tokens() {
    let smol = load("smollm2-135m.gguf");
    assert_eq!((smol.bos(), smol.eos()), (Some(1), Some(2)));
    assert_eq!(smol.token_text(2), Some("<|im_end|>"));
    assert_eq!(smol.stop_tokens(), [0, 2]);
    assert_eq!(smol.token_bytes(2), b"");
    let gemma = load("gemma3-270m.gguf");
    assert_eq!((gemma.bos(), gemma.eos()), (Some(2), Some(1)));
    assert_eq!(gemma.stop_tokens(), [1, 106]);
    let hello = gemma.encode("<end_of_turn> hi", ParseSpecial::Yes);
    assert_eq!(hello[0], 106);
    assert_eq!(gemma.token_bytes(hello[1]), b" hi");
}

#[test]
fn a_prompt_gets_one_bos_where_the_metadata_says_so() {
    let plain = |text: &str| {
        [Segment {
            text: text.into(),
            special: true,
        }]
    };
    let gemma = load("gemma3-270m.gguf");
    let hello = gemma.encode("hello", ParseSpecial::No);
    let expected: Vec<u32> = std::iter::once(2).chain(hello).collect();
    assert_eq!(gemma.encode_prompt(&plain("hello")), expected);
    assert_eq!(gemma.encode_prompt(&plain("<bos>hello")), expected);
    assert_eq!(gemma.encode_prompt(&[]), [2]);
    let smol = load("smollm2-135m.gguf");
    assert_eq!(
        smol.encode_prompt(&plain("hello")),
        smol.encode("hello", ParseSpecial::No)
    );
}

#[test]
fn plain_text_never_yields_control_tokens() {
    for name in ["smollm2-135m.gguf", "gemma3-270m.gguf"] {
        let tokenizer = load(name);
        let controls: Vec<String> = tokenizer.control_texts().map(str::to_owned).collect();
        assert!(!controls.is_empty());
        for text in &controls {
            for id in tokenizer.encode(&format!("{text}{text} {text}"), ParseSpecial::No) {
                assert_ne!(
                    tokenizer.table.kind(id),
                    Some(TokenKind::Control),
                    "{name}: {text}"
                );
            }
        }
    }
}

#[test]
fn segments_are_tokenised_as_one_text_but_for_their_control_tokens() {
    let tokenizer = load("smollm2-135m.gguf");
    let segment = |text: &str, special| Segment {
        text: text.into(),
        special,
    };
    let whole = "<|im_start|>user\nHello there<|im_end|>\n";
    let parts = [
        segment("<|im_start|>user\nHel", true),
        segment("lo th", false),
        segment("ere<|im_end|>\n", true),
    ];
    assert_eq!(
        tokenizer.encode_prompt(&parts),
        tokenizer.encode(whole, ParseSpecial::Yes)
    );
    let canary = [
        segment("<|im_start|>user\n", true),
        segment("<|im_end|>", false),
        segment("<|im_end|>", true),
    ];
    let tokens = tokenizer.encode_prompt(&canary);
    assert_eq!(tokens.iter().filter(|id| **id == 2).count(), 1);
    assert_eq!(decode(&tokenizer, &tokens), b"user\n<|im_end|>");
    let split = [segment("<|im_", true), segment("end|>", false)];
    assert!(!tokenizer.encode_prompt(&split).contains(&2));
}

/// The real vocabulary of SmolLM2 with another pre-tokenizer, and the same for the oracle.
fn smollm2_with_pre(pre: &str) -> (Tokenizer, VocabSpec) {
    let mut spec = VocabSpec::from_gguf(&Gguf::open(&model("smollm2-135m.gguf")).unwrap()).unwrap();
    spec.pre = Some(pre.into());
    // Control tokens play no part, and the file lacks some bytes: give it all 256.
    let known: std::collections::HashSet<String> = spec.tokens.iter().cloned().collect();
    for c in byte_alphabet::letters().filter(|c| !known.contains(&c.to_string())) {
        spec.tokens.push(c.to_string());
        spec.kinds.push(TokenKind::Normal);
    }
    spec.scores.clear();
    (Tokenizer::from_spec(spec.clone()).unwrap(), spec)
}

fn oracle_of(spec: &VocabSpec, pattern: &str, ignore_merges: bool) -> tokenizers::Tokenizer {
    use tokenizers::pre_tokenizers::{byte_level::ByteLevel, sequence::Sequence, split};
    let vocab = spec
        .tokens
        .iter()
        .zip(0..)
        .map(|(text, id)| (text.clone(), id));
    let merges = spec.merges.iter().map(|merge| {
        merge
            .split_once(' ')
            .map(|(a, b)| (a.into(), b.into()))
            .unwrap()
    });
    let model = tokenizers::models::bpe::BPE::builder()
        .vocab_and_merges(
            vocab.collect::<tokenizers::models::bpe::Vocab>(),
            merges.collect(),
        )
        .ignore_merges(ignore_merges)
        .build()
        .unwrap();
    let pattern = split::SplitPattern::Regex(pattern.to_owned());
    let split =
        split::Split::new(pattern, tokenizers::SplitDelimiterBehavior::Isolated, false).unwrap();
    let mut oracle = tokenizers::Tokenizer::new(model);
    let stages = vec![split.into(), ByteLevel::new(false, false, false).into()];
    oracle.with_pre_tokenizer(Some(Sequence::new(stages)));
    oracle
}

#[test]
fn llama3_and_qwen2_vocabularies_tokenise_random_text_as_the_tokenizers_crate_does() {
    for (pre, digits, ignore_merges) in [
        ("llama-bpe", r"\p{N}{1,3}", true),
        ("qwen2", r"\p{N}", false),
    ] {
        let pattern = format!(
            r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        );
        let (tokenizer, spec) = smollm2_with_pre(pre);
        let oracle = oracle_of(&spec, &pattern, ignore_merges);
        let agree = |text: &str| {
            let expected = oracle.encode(text, false).unwrap();
            let tokens = tokenizer.encode(text, ParseSpecial::No);
            assert_eq!(tokens, expected.get_ids(), "{pre} on {text:?}");
            assert_eq!(
                decode(&tokenizer, &tokens),
                text.as_bytes(),
                "{pre} gives back {text:?}"
            );
        };
        torture_pieces().iter().for_each(|piece| agree(piece));
        let words = prop::sample::select(TORTURE.split_inclusive(' ').collect::<Vec<_>>())
            .prop_map(str::to_owned);
        let any = prop::collection::vec(any::<char>(), 0..12).prop_map(String::from_iter);
        proptest!(ProptestConfig::with_cases(600), |(text in prop::collection::vec(prop_oneof![words, any], 0..6))| {
            agree(&text.concat());
        });
    }
}

#[test]
fn ten_megabytes_without_a_space_are_tokenised_in_seconds() {
    for name in ["smollm2-135m.gguf", "gemma3-270m.gguf"] {
        let tokenizer = load(name);
        for unit in ["a", "日", "<|im_end|>"] {
            let text = unit.repeat(10_000_000 / unit.len());
            let started = Instant::now();
            let tokens = tokenizer.encode(&text, ParseSpecial::No);
            let took = started.elapsed();
            assert_eq!(decode(&tokenizer, &tokens).len(), text.len());
            assert!(
                took.as_secs() < 60,
                "{name} took {took:?} for 10 MB of {unit:?}"
            );
        }
    }
}

#[test]
fn byte_tokenizer_gives_back_every_text() {
    let tokenizer = Arc::new(Tokenizer::bytes());
    let tokens = tokenizer.encode(TORTURE, ParseSpecial::Yes);
    let mut decoder = tokenizer.decoder();
    let bytes: Vec<u8> = tokens
        .iter()
        .flat_map(|id| decoder.push(*id).to_vec())
        .collect();
    assert_eq!(bytes, TORTURE.as_bytes());
    assert_eq!(
        (tokenizer.vocab_size(), tokenizer.stop_tokens()),
        (257, &[256][..])
    );
    assert_eq!(tokenizer.token_bytes(256), b"");
    assert_eq!(tokenizer.token_bytes(u32::MAX), b"");
}

#[test]
fn answers_split_at_every_token_give_whole_characters() {
    let tokenizer = Arc::new(smollm2_with_pre("qwen2").0);
    let mut decoder = tokenizer.decoder();
    let mut text = TextDecoder::new();
    let mut joined = String::new();
    for id in tokenizer.encode(TORTURE, ParseSpecial::No) {
        joined.push_str(&text.push(decoder.push(id)));
    }
    joined.push_str(&text.finish());
    assert_eq!(joined, TORTURE);
}
