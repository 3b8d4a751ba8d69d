//! Small vocabularies made by hand: what is refused, and the rules of single families.

use std::sync::Arc;

use super::*;

/// Llama 2's kind of vocabulary: `<unk> <s> </s>`, bytes, and some pieces with scores.
fn spm_spec() -> VocabSpec {
    let mut spec = VocabSpec {
        model: "llama".into(),
        ..VocabSpec::default()
    };
    let mut add = |text: &str, kind, score| {
        spec.tokens.push(text.into());
        spec.kinds.push(kind);
        spec.scores.push(score);
    };
    add("<unk>", TokenKind::Unknown, 0.0);
    add("<s>", TokenKind::Control, 0.0);
    add("</s>", TokenKind::Control, 0.0);
    for byte in 0..=255u8 {
        add(&format!("<0x{byte:02X}>"), TokenKind::Byte, 0.0);
    }
    for (rank, text) in ["▁a", "ab", "▁ab", "▁", "a", "b", "<", "s", ">", "<s", "s>"]
        .iter()
        .enumerate()
    {
        add(text, TokenKind::Normal, -(rank as f32));
    }
    spec
}

fn texts(tokenizer: &Tokenizer, ids: &[u32]) -> Vec<String> {
    ids.iter()
        .map(|id| tokenizer.token_text(*id).unwrap().to_owned())
        .collect()
}

fn refusal(spec: VocabSpec) -> String {
    Tokenizer::from_spec(spec)
        .map(|_| ())
        .unwrap_err()
        .to_string()
}

#[test]
fn spm_puts_a_space_before_text_and_after_control_tokens() {
    let tokenizer = Tokenizer::from_spec(spm_spec()).unwrap();
    let cut = |text: &str| texts(&tokenizer, &tokenizer.encode(text, ParseSpecial::Yes));
    assert_eq!(cut("ab"), ["▁ab"]);
    // ▁a has a better score than ab, which therefore never forms here.
    assert_eq!(cut("abab"), ["▁ab", "ab"]);
    assert_eq!(cut("a<s>a a"), ["▁a", "<s>", "▁a", "▁a"]);
    assert_eq!(cut(" a"), ["▁", "▁a"]);
    assert_eq!(cut("é"), ["▁", "<0xC3>", "<0xA9>"]);
    assert_eq!(cut(""), [""; 0]);
    assert_eq!(tokenizer.encode_prompt(&[]), [1]);
    let plain = tokenizer.encode("<s>", ParseSpecial::No);
    assert_eq!(texts(&tokenizer, &plain), ["▁", "<s", ">"]);
}

#[test]
fn an_answer_loses_the_space_that_is_put_before_every_text() {
    let tokenizer = Arc::new(Tokenizer::from_spec(spm_spec()).unwrap());
    let answer = tokenizer.encode("a a", ParseSpecial::No);
    let shown = |mut decoder: DetokenizerState| -> Vec<u8> {
        answer
            .iter()
            .flat_map(|id| decoder.push(*id).to_vec())
            .collect()
    };
    let text = tokenizer.encode("b", ParseSpecial::No);
    assert_eq!(shown(tokenizer.decoder_after(&[])), b"a a");
    assert_eq!(shown(tokenizer.decoder_after(&[1])), b"a a");
    assert_eq!(shown(tokenizer.decoder_after(&text)), b" a a");
    assert_eq!(shown(tokenizer.decoder()), b" a a");
}

#[test]
fn unknown_tokenizers_are_refused_by_name() {
    let other = VocabSpec {
        model: "rwkv".into(),
        ..spm_spec()
    };
    assert!(refusal(other).contains("`rwkv`"));
    let pre = VocabSpec {
        model: "gpt2".into(),
        pre: Some("pre-of-2031".into()),
        ..spm_spec()
    };
    let message = refusal(pre);
    assert!(
        message.contains("`pre-of-2031`") && message.contains("llama-bpe"),
        "{message}"
    );
}

#[test]
fn vocabularies_that_contradict_themselves_are_refused() {
    assert!(
        refusal(VocabSpec {
            tokens: Vec::new(),
            ..spm_spec()
        })
        .contains("tokens")
    );
    assert!(
        refusal(VocabSpec {
            scores: vec![0.0; 3],
            ..spm_spec()
        })
        .contains("scores")
    );
    assert!(
        refusal(VocabSpec {
            scores: Vec::new(),
            ..spm_spec()
        })
        .contains("scores")
    );
    assert!(
        refusal(VocabSpec {
            scores: vec![f32::NAN; 300],
            ..spm_spec()
        })
        .contains("not a number")
    );
    assert!(
        refusal(VocabSpec {
            kinds: vec![TokenKind::Normal],
            ..spm_spec()
        })
        .contains("token_type")
    );
    let mut long = spm_spec();
    long.tokens[5] = "x".repeat(1 << 20);
    assert!(refusal(long).contains("bytes long"));
    assert!(
        refusal(VocabSpec {
            model: "gpt2".into(),
            ..spm_spec()
        })
        .contains("merges")
    );
}

#[test]
fn odd_vocabularies_are_used_as_far_as_they_go() {
    let beyond = SpecialIds {
        bos: Some(u32::MAX),
        eos: Some(9999),
        ..SpecialIds::default()
    };
    let tokenizer = Tokenizer::from_spec(VocabSpec {
        ids: beyond,
        ..spm_spec()
    })
    .unwrap();
    assert_eq!((tokenizer.bos(), tokenizer.eos()), (Some(1), Some(2)));
    let merges = ["", " ", "a", "a b c", "é é", "a b"]
        .map(str::to_owned)
        .to_vec();
    let tokens = ["a", "b", "ab"].map(str::to_owned).to_vec();
    let bpe = VocabSpec {
        model: "gpt2".into(),
        pre: Some("gpt-2".into()),
        tokens,
        merges,
        ..VocabSpec::default()
    };
    let tokenizer = Tokenizer::from_spec(bpe).unwrap();
    assert_eq!(tokenizer.encode("abab é a", ParseSpecial::Yes), [2, 2, 0]);
}

#[test]
fn ends_of_answers_are_found_by_name_and_become_control_tokens() {
    let with = |names: &[&str]| {
        let mut spec = spm_spec();
        spec.tokens
            .extend(names.iter().map(|name| (*name).to_owned()));
        spec.kinds.resize(spec.tokens.len(), TokenKind::Normal);
        spec.scores.resize(spec.tokens.len(), 0.0);
        let tokenizer = Tokenizer::from_spec(spec).unwrap();
        texts(&tokenizer, tokenizer.stop_tokens())
    };
    assert_eq!(
        with(&["<|im_end|>", "<|eot_id|>"]),
        ["</s>", "<|im_end|>", "<|eot_id|>"]
    );
    assert_eq!(with(&["<|end|>"]), ["</s>", "<|end|>"]);
    assert_eq!(
        with(&["<|end|>", "<|return|>", "<|call|>"]),
        ["</s>", "<|return|>", "<|call|>"]
    );
}

#[test]
fn phi3_tokens_take_the_white_space_after_them() {
    let mut spec = VocabSpec {
        name: "Phi-3 Mini".into(),
        ..spm_spec()
    };
    spec.tokens.push("<|end|>".into());
    spec.kinds.push(TokenKind::Control);
    spec.scores.push(0.0);
    let tokenizer = Tokenizer::from_spec(spec).unwrap();
    let ids = tokenizer.encode("<|end|>\n a<s> a", ParseSpecial::Yes);
    assert_eq!(texts(&tokenizer, &ids), ["<|end|>", "▁a", "<s>", "▁", "▁a"]);
}
