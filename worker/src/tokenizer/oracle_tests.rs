//! Tokenizers of real vocabularies against independent implementations: `shimmytok` and the
//! `tokenizers` crate.

use proptest::prelude::*;

use super::tests::{TORTURE, decode, load, model, torture_pieces};
use super::*;
use crate::gguf::Gguf;

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

/// The real vocabulary of SmolLM2 with another pre-tokenizer, and the same for the oracle.
pub(super) fn smollm2_with_pre(pre: &str) -> (Tokenizer, VocabSpec) {
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
