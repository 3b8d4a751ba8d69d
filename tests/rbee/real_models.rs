//! The real models against the plain forward pass and candle's own model: logits and greedy tokens.

use std::path::Path;

use rbee_tests::driver::Driver;
use rbee_tests::loaded;
use rbee_tests::logits::{Distance, distance, greedy, regret, worst};
use rbee_tests::oracle::Oracle;
use rbee_tests::reference::Reference;
use rbee_tests::test_models;
use rbee_worker::model::LoadOptions;
use rbee_worker::tokenizer::{Segment, Tokenizer};

/// The largest mean distance from the right logits, relative to their deviation: what 8-bit activations cost. candle's
/// own model lies as far away.
const SMOLLM2_BOUND: f64 = 0.09;
const GEMMA3_BOUND: f64 = 0.05;
/// Share of generated tokens that may be another one than the right logits prefer, each a near-tie.
const NEAR_TIES: f64 = 0.15;
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

/// The engine's logits and the right ones, after each token of its greedy answer to a prompt.
fn judged(path: &Path, bound: f64) {
    let model = loaded::open(&loaded::gguf(path), &options());
    let reference = Reference::open(path);
    let mut driver = Driver::new(model.model);
    let mut near_ties = 0;
    for prompt in PROMPTS {
        let prompt = prompt_tokens(&model.tokenizer, prompt);
        let answer = driver.alone(&prompt, GENERATE);
        let mut all = prompt.clone();
        all.extend(&answer.tokens);
        let positions: Vec<usize> = (0..GENERATE).map(|at| prompt.len() - 1 + at).collect();
        let right = reference.logits(&all, &positions);
        let distances = answer
            .logits
            .iter()
            .zip(&right)
            .map(|(logits, right)| distance(logits, right));
        let distances: Vec<Distance> = distances.collect();
        let mean = mean(&distances);
        assert!(
            mean < bound,
            "{}: {mean} on average, {distances:?}",
            path.display()
        );
        let largest = worst(distances).largest;
        for (token, right) in answer.tokens.iter().zip(&right) {
            let regret = regret(right, *token);
            assert!(
                regret <= largest,
                "token {token} instead of {}: worse by {regret}",
                greedy(right)
            );
            near_ties += usize::from(regret > 0.0);
        }
    }
    let allowed = (NEAR_TIES * (PROMPTS.len() * GENERATE) as f64) as usize;
    assert!(near_ties <= allowed, "{near_ties} tokens differ");
}

fn prompt_tokens(tokenizer: &Tokenizer, prompt: &str) -> Vec<u32> {
    tokenizer.encode_prompt(&[Segment {
        text: prompt.into(),
        special: true,
    }])
}

fn mean(distances: &[Distance]) -> f64 {
    distances.iter().map(|one| one.relative).sum::<f64>() / distances.len() as f64
}

#[test]
fn smollm2_gives_the_right_logits_and_greedy_tokens() {
    judged(&test_models::smollm2(), SMOLLM2_BOUND);
}

#[test]
fn gemma3_gives_the_right_logits_and_greedy_tokens() {
    judged(&test_models::gemma3(), GEMMA3_BOUND);
}

#[test]
fn smollm2_is_as_near_to_the_right_logits_as_candles_own_model() {
    let path = test_models::smollm2();
    let model = loaded::open(&loaded::gguf(&path), &options());
    let (reference, mut candle, mut driver) = (
        Reference::open(&path),
        Oracle::open(&path),
        Driver::new(model.model),
    );
    let (mut of_engine, mut of_candle) = (Vec::new(), Vec::new());
    for prompt in PROMPTS {
        let prompt = prompt_tokens(&model.tokenizer, prompt);
        let right = reference.logits(&prompt, &(0..prompt.len()).collect::<Vec<_>>());
        for (at, right) in right.iter().enumerate().skip(2).step_by(3) {
            let candles = candle.logits(&prompt[..=at], 0);
            of_candle.push(distance(&candles, right));
            let engines = driver.alone(&prompt[..=at], 1).logits.remove(0);
            of_engine.push(distance(&engines, right));
        }
    }
    let (engine, candle) = (mean(&of_engine), mean(&of_candle));
    assert!(
        engine < 1.25 * candle,
        "{engine} on average, candle {candle}"
    );
}
