//! Sequences over the byte tokenizer: text, deltas, ends.

use super::super::job::Priority;
use super::super::randomness::Randomness;
use super::super::sampler::Logprobs;
use super::*;
use rbee_queue::Params;

const EOS: u32 = 256;

struct Life {
    deltas: Vec<Delta>,
    ended: Option<FinishReason>,
    sequence: Sequence,
}

fn run(tokens: &[u32], params: &Params) -> Life {
    let tokenizer = Arc::new(Tokenizer::bytes());
    let mut sequence = Sequence::new(SequenceStart {
        key: SeqKey {
            priority: Priority::Batch,
            number: 0,
        },
        job: 0,
        choice: 0,
        prompt: vec![65],
        sampler: Sampler::new(params, &[65], Randomness::of_line_seed(0, 0)),
        constraint: None,
        ends: Ends::new(
            tokenizer.stop_tokens(),
            params.ignore_eos,
            &params.stop_token_ids,
            params.max_tokens,
        ),
        answer: AnswerOptions {
            stop: &params.stop,
            logprobs: params.logprobs,
        },
        tokenizer: &tokenizer,
    });
    let mut deltas = Vec::new();
    let mut ended = None;
    for &token in tokens {
        let logprobs = params.logprobs.then(|| Logprobs {
            taken: -1.0,
            top: vec![],
        });
        ended = sequence.accept(Sampled { token, logprobs }, &tokenizer);
        deltas.extend(sequence.take_delta());
        if ended.is_some() {
            break;
        }
    }
    Life {
        deltas,
        ended,
        sequence,
    }
}

fn bytes(text: &str) -> Vec<u32> {
    text.bytes().map(u32::from).collect()
}

fn joined(life: &Life) -> String {
    life.deltas.iter().map(|d| d.text.as_str()).collect()
}

#[test]
fn deltas_never_split_a_character_and_join_to_the_text() {
    let text = "👩‍👩‍👧 日本 e\u{301}";
    let mut tokens = bytes(text);
    tokens.push(EOS);
    let life = run(&tokens, &Params::default());
    assert_eq!(joined(&life), text);
    assert!(life.deltas.iter().all(|d| !d.text.contains('\u{FFFD}')));
    let mut next = 0;
    for delta in &life.deltas {
        assert_eq!(delta.first_token, next, "token numbers have no gap");
        next += delta.tokens;
    }
    assert_eq!(life.ended, Some(FinishReason::Stop));
    assert_eq!(life.sequence.into_choice(FinishReason::Stop).text, text);
}

#[test]
fn character_cut_by_the_limit_is_left_out() {
    let life = run(
        &bytes("ab日"),
        &Params {
            max_tokens: 4,
            ..Params::default()
        },
    );
    assert_eq!(life.ended, Some(FinishReason::Length));
    assert_eq!(
        (joined(&life).as_str(), life.sequence.generated()),
        ("ab", 4)
    );
}

#[test]
fn stop_text_across_tokens_is_cut_and_never_shown() {
    let params = Params {
        stop: vec!["</s>".into()],
        logprobs: true,
        ..Params::default()
    };
    let life = run(&bytes("hi </b> there</s>more"), &params);
    assert_eq!(joined(&life), "hi </b> there");
    assert_eq!(life.ended, Some(FinishReason::Stop));
    let choice = life.sequence.into_choice(FinishReason::Stop);
    assert_eq!(choice.text, "hi </b> there");
    assert_eq!(choice.logprobs.unwrap().len(), "hi </b> there".len());
}

#[test]
fn held_back_text_is_shown_when_the_answer_ends_otherwise() {
    let params = Params {
        stop: vec!["abc".into()],
        ..Params::default()
    };
    let mut tokens = bytes("xab");
    tokens.push(EOS);
    assert_eq!(joined(&run(&tokens, &params)), "xab");
    let life = run(
        &bytes("xab"),
        &Params {
            max_tokens: 3,
            ..params
        },
    );
    assert_eq!(
        (joined(&life).as_str(), life.ended),
        ("xab", Some(FinishReason::Length))
    );
}

#[test]
fn ignore_eos_goes_on_but_not_over_the_requests_own_stop_tokens() {
    let params = Params {
        ignore_eos: true,
        stop_token_ids: vec![66],
        ..Params::default()
    };
    let life = run(&[EOS, 65, EOS, 66], &params);
    assert_eq!(
        (joined(&life).as_str(), life.ended),
        ("A", Some(FinishReason::Stop))
    );
    assert_eq!(life.sequence.generated(), 4);
}

#[test]
fn snapshot_gives_everything_again() {
    let mut life = run(&bytes("hello"), &Params::default());
    assert_eq!(
        life.sequence.snapshot(),
        Delta {
            first_token: 0,
            tokens: 5,
            text: "hello".into()
        }
    );
    assert_eq!(life.sequence.take_delta(), None);
}
