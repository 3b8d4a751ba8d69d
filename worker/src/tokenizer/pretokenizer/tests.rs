//! The hand-written matchers against the regular expressions that tokenizers are published with,
//! run by the `tokenizers` crate.

use proptest::prelude::*;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{
    OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer as _, SplitDelimiterBehavior,
};

use super::PreTokenizer;

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN35: &str = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const SEED: &str = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+";
const MINICPM: &str = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}+| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const BAILING: &str = r"'(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const GPT4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// A name of each kind with the expressions that are applied one after the other.
const ORACLES: &[(&str, &[&str])] = &[
    ("gpt-2", &[GPT2]),
    ("smollm", &[r"\p{N}", GPT2]),
    ("llama-bpe", &[LLAMA3]),
    ("dbrx", &[LLAMA3]),
    ("qwen2", &[QWEN2]),
    ("bailingmoe", &[BAILING]),
    ("qwen35", &[QWEN35]),
    ("seed-coder", &[SEED]),
    ("minicpm5", &[r"\p{N}{1,3}", MINICPM]),
    ("tekken", &[TEKKEN]),
    ("gpt-4o", &[GPT4O]),
    (
        "deepseek-coder",
        &[
            r"[\r\n]",
            r"\s?\p{L}+",
            r"\s?\p{P}+",
            r"[一-龥ࠀ-一가-퟿]+",
            r"\p{N}",
        ],
    ),
    (
        "falcon",
        &[r"[\p{P}\$\+<=>\^~\|`]+", GPT2, r"[0-9][0-9][0-9]"],
    ),
    (
        "default",
        &[r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", r"[0-9][0-9][0-9]"],
    ),
];

fn split_oracle(patterns: &[Split], text: &str) -> Vec<String> {
    let mut pieces = PreTokenizedString::from(text);
    for pattern in patterns {
        pattern.pre_tokenize(&mut pieces).unwrap();
    }
    let splits = pieces.get_splits(OffsetReferential::Original, OffsetType::Byte);
    splits
        .into_iter()
        .map(|(piece, _, _)| piece.to_owned())
        .collect()
}

fn oracle(patterns: &[&str]) -> Vec<Split> {
    let split = |pattern: &&str| {
        Split::new(
            SplitPattern::Regex((*pattern).to_owned()),
            SplitDelimiterBehavior::Isolated,
            false,
        )
        .unwrap()
    };
    patterns.iter().map(split).collect()
}

fn split(name: &str, text: &str) -> Vec<String> {
    let mut words = Vec::new();
    PreTokenizer::by_name(name)
        .unwrap()
        .split(text, &mut |word| words.push(word.to_owned()));
    words
}

fn agrees(name: &str, patterns: &[Split], text: &str) {
    assert_eq!(
        split(name, text),
        split_oracle(patterns, text),
        "{name} on {text:?}"
    );
}

/// Characters at which the patterns change their minds, in a length that mixes them well.
fn mixed_text() -> impl Strategy<Value = String> {
    let pick = prop_oneof![
        4 => prop::sample::select(vec![" ", "  ", "\n", "\r\n", "\t", "\u{a0}", "\u{3000}", "\u{85}", "\u{2028}"]),
        4 => prop::sample::select(vec!["a", "B", "é", "É", "ß", "日", "本", "ǅ", "ʰ", "ا", "\u{301}", "\u{93f}", "ſ"]),
        2 => prop::sample::select(vec!["1", "23", "٣", "½", "Ⅷ", "456"]),
        3 => prop::sample::select(vec!["'", "'s", "'LL", "'re", "'vE", "!", ".", "/", "$", "+", "|", "`", "_", "-"]),
        1 => prop::sample::select(vec!["👩‍👩‍👧", "🏳️‍🌈", "\u{200d}", "\u{0}", "\u{fffd}", "\u{10ffff}"]),
    ]
    .prop_map(str::to_owned);
    prop::collection::vec(
        prop_oneof![6 => pick, 1 => any::<char>().prop_map(String::from)],
        0..24,
    )
    .prop_map(|parts| parts.concat())
}

#[test]
fn every_kind_splits_the_torture_text_as_its_expressions_do() {
    for (name, patterns) in ORACLES {
        agrees(name, &oracle(patterns), crate::tokenizer::tests::TORTURE);
    }
}

#[test]
fn every_kind_splits_random_text_as_its_expressions_do() {
    let oracles: Vec<(&str, Vec<Split>)> = ORACLES
        .iter()
        .map(|(name, patterns)| (*name, oracle(patterns)))
        .collect();
    proptest!(ProptestConfig::with_cases(1500), |(text in mixed_text())| {
        for (name, patterns) in &oracles {
            agrees(name, patterns, &text);
        }
    });
}

#[test]
fn every_kind_is_held_against_an_oracle() {
    for kind in super::KINDS {
        assert!(
            ORACLES.iter().any(|(name, _)| kind.names.contains(name)),
            "no oracle for {:?}",
            kind.names
        );
    }
}

#[test]
fn hostile_runs_are_split_in_linear_time() {
    let length = 1 << 20;
    for unit in [
        " ", "\n", "a", "1", "'", "中A", "\u{301}", "A", " \n", "$", "a1 ",
    ] {
        let text = unit.repeat(length / unit.len());
        for (name, _) in ORACLES {
            let started = std::time::Instant::now();
            let mut bytes = 0;
            PreTokenizer::by_name(name)
                .unwrap()
                .split(&text, &mut |word| bytes += word.len());
            assert_eq!(bytes, text.len());
            assert!(
                started.elapsed().as_secs() < 60,
                "{name} took {:?} on a run of {unit:?}",
                started.elapsed()
            );
        }
    }
}
