//! The real models against the plain forward pass and candle's own model: logits and greedy tokens.

use std::path::Path;

use rbee_tests::driver::Driver;
use rbee_tests::loaded;
use rbee_tests::logits::{distance, greedy, regret, worst};
use rbee_tests::oracle::Oracle;
use rbee_tests::reference::Reference;
use rbee_tests::test_models;
use rbee_worker::model::LoadOptions;
use rbee_worker::tokenizer::Segment;

/// The largest relative distance from the right logits. Figures of the day: see BENCHMARKS.md.
const BOUND: f64 = 0.06;
/// Generated tokens that are judged.
const GENERATE: usize = 24;

const PROMPTS: [&str; 3] = [
    "The capital of France is",
    "def fibonacci(n):\n    if n < 2:\n        return n\n    return",
    "Once upon a time, in a small village by the sea, there lived an old fisherman who had not caught a fish for",
];

fn options() -> LoadOptions {
    LoadOptions {
        threads: 2,
        slots: 4,
        ..loaded::options()
    }
}

/// Greedy answers of the engine, each token judged by the right logits for the same text before it.
fn judge(path: &Path) {
    let model = loaded::open(&loaded::gguf(path), &options());
    let reference = Reference::open(path);
    let mut driver = Driver::new(model.model);
    let mut near_ties = 0;
    for prompt in PROMPTS {
        let prompt = model.tokenizer.encode_prompt(&[Segment {
            text: prompt.into(),
            special: true,
        }]);
        let answer = driver.alone(&prompt, GENERATE);
        let mut all = prompt.clone();
        all.extend(&answer.tokens);
        let positions: Vec<usize> = (0..GENERATE).map(|at| prompt.len() - 1 + at).collect();
        let right = reference.logits(&all, &positions);
        let found = worst(
            answer
                .logits
                .iter()
                .zip(&right)
                .map(|(logits, right)| distance(logits, right)),
        );
        assert!(found.relative < BOUND, "{}: {found:?}", path.display());
        for (token, right) in answer.tokens.iter().zip(&right) {
            let regret = regret(right, *token);
            assert!(
                regret <= 2.0 * found.largest,
                "token {token} for {}: {regret}",
                greedy(right)
            );
            near_ties += usize::from(regret > 0.0);
        }
    }
    assert!(
        near_ties <= PROMPTS.len() * GENERATE / 10,
        "{near_ties} tokens differ"
    );
}

#[test]
fn smollm2_gives_the_right_logits_and_greedy_tokens() {
    judge(&test_models::smollm2());
}

#[test]
fn gemma3_gives_the_right_logits_and_greedy_tokens() {
    judge(&test_models::gemma3());
}

#[test]
fn smollm2_is_as_near_to_the_right_logits_as_candles_own_model() {
    let path = test_models::smollm2();
    let model = loaded::open(&loaded::gguf(&path), &options());
    let prompt = model.tokenizer.encode_prompt(&[Segment {
        text: PROMPTS[2].into(),
        special: true,
    }]);
    let right = Reference::open(&path).last_logits(&prompt);
    let candle = distance(&Oracle::open(&path).logits(&prompt, 0), &right);
    let engine = Driver::new(model.model).alone(&prompt, 1).logits.remove(0);
    let engine = distance(&engine, &right);
    assert!(
        engine.relative < 1.5 * candle.relative,
        "engine {engine:?}, candle {candle:?}"
    );
}
