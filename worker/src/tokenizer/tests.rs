//! Tokenizers of real files against independent implementations, and what must hold for any text.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

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

pub(super) fn decode(tokenizer: &Tokenizer, tokens: &[u32]) -> Vec<u8> {
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
                took.as_secs() < 300,
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
    let tokenizer = Arc::new(oracle_tests::smollm2_with_pre("qwen2").0);
    let mut decoder = tokenizer.decoder();
    let mut text = TextDecoder::new();
    let mut joined = String::new();
    for id in tokenizer.encode(TORTURE, ParseSpecial::No) {
        joined.push_str(&text.push(decoder.push(id)));
    }
    joined.push_str(&text.finish());
    assert_eq!(joined, TORTURE);
}
