//! Every listed architecture on a small random model: through the engine it answers as candle's model does when it is
//! driven by hand, and one sequence leaves nothing behind for the next.

mod dense;
mod gguf;
mod granite;
mod hostile;
mod small;

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::{Device, Tensor};
use rbee_queue::{Endpoint, Input, JobKey, Outcome, Params, Request};

use crate::engine::{Engine, EngineEvent, EngineJob, EngineOptions, Priority, TextFace};
use crate::model::device::ComputeDevice;
use crate::model::memory::KvType;
use crate::model::{LoadOptions, LoadedModel, Text};
use crate::tokenizer::{ParseSpecial, Tokenizer};

/// The sizes of all models here.
const HIDDEN: usize = 64;
const HEADS: usize = 4;
const KV_HEADS: usize = 2;
const HEAD_DIM: usize = HIDDEN / HEADS;
const FFN: usize = 96;
const CONTEXT: usize = 128;
/// 256 bytes and an end.
const VOCAB: usize = 257;
/// Tokens of an answer.
const ANSWER: usize = 10;

/// One is a single token, one comes twice with another between.
const PROMPTS: [&str; 5] = [
    "The quick brown fox",
    "a",
    "Another prompt, and a longer one than the first.",
    "The quick brown fox",
    "b",
];

fn options() -> LoadOptions {
    LoadOptions {
        device: ComputeDevice::Cpu,
        over_tensors: false,
        threads: 1,
        slots: 4,
        memory: Some(1 << 30),
        beside_others: false,
        kv: KvType::F16,
        context: None,
        kernel: None,
    }
}

/// One token a byte, no template.
fn byte_text() -> Text {
    Text {
        tokenizer: Arc::new(Tokenizer::bytes()),
        template: None,
    }
}

/// Numbers that follow from a name: the same on every machine.
fn random(name: &str, count: usize, deviation: f32) -> Vec<f32> {
    let mut state = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |state, byte| {
        (state ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    (0..count)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            ((state >> 40) as f32 / (1u64 << 23) as f32 - 1.0) * deviation * 1.7
        })
        .collect()
}

/// Weights of a matrix or norm, by its name and shape. Norms lie around 1 where `about_one`.
fn weights(name: &str, shape: &[usize], about_one: bool) -> Tensor {
    let count = shape.iter().product();
    let deviation = match shape {
        [_] => 0.2,
        [.., columns] => 1.5 / (*columns as f32).sqrt(),
        [] => 1.0,
    };
    let mut values = random(name, count, deviation);
    if about_one && shape.len() == 1 {
        values.iter_mut().for_each(|value| *value += 1.0);
    }
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

fn job(id: u64, prompt: &str) -> EngineJob {
    let params = Params {
        max_tokens: ANSWER as u32,
        ignore_eos: true,
        logprobs: true,
        ..Params::default()
    };
    EngineJob {
        id,
        request: Request {
            endpoint: Endpoint::Completions,
            model: "small".into(),
            input: Input::Prompt {
                text: prompt.into(),
                raw: true,
            },
            params,
        },
        job_key: JobKey([id as u8; 32]),
        batch_seed: 0,
        template_date: "2024-07-26".into(),
        priority: Priority::Batch,
        stream: false,
    }
}

/// The bytes of each token of an answer, with its log-probability.
type Answer = Vec<(Vec<u8>, f32)>;

/// The answers of the engine to [`PROMPTS`], all handed in at once.
fn engine_answers(loaded: LoadedModel) -> Vec<Answer> {
    let face = TextFace {
        tokenizer: loaded.tokenizer,
        template: loaded.template,
    };
    let engine_options = EngineOptions {
        slots: 4,
        chunk_tokens: 8,
        ..EngineOptions::default()
    };
    let (sender, mut events) = tokio::sync::mpsc::channel(64);
    let engine = Engine::start(loaded.model, face, engine_options, sender).unwrap();
    for (id, prompt) in PROMPTS.iter().enumerate() {
        engine.submit(job(id as u64, prompt)).unwrap();
    }
    let mut answers = BTreeMap::new();
    while answers.len() < PROMPTS.len() {
        let event = events
            .blocking_recv()
            .expect("the engine tells every job's end");
        if let EngineEvent::Finished { id, record, .. } = event {
            let Outcome::Completed(completed) = record.outcome else {
                panic!("job {id} failed: {record:?}");
            };
            let logprobs = completed.choices[0].logprobs.clone().unwrap();
            let answer = logprobs
                .into_iter()
                .map(|token| (token.bytes, token.logprob));
            answers.insert(id, answer.collect::<Answer>());
        }
    }
    answers.into_values().collect()
}

/// candle's model by hand: a new one for every prompt, the prompt whole, then token by token.
fn candle_answers<M>(
    tokenizer: &Tokenizer,
    mut new: impl FnMut() -> M,
    mut forward: impl FnMut(&mut M, &Tensor, usize) -> candle_core::Result<Tensor>,
) -> Vec<Answer> {
    let mut answers = Vec::new();
    for prompt in PROMPTS {
        let mut model = new();
        let mut tokens = tokenizer.encode(prompt, ParseSpecial::Yes);
        let mut start = 0;
        let mut answer = Answer::new();
        while answer.len() < ANSWER {
            let input = Tensor::new(&tokens[start..], &Device::Cpu).unwrap();
            let logits = forward(&mut model, &input.unsqueeze(0).unwrap(), start).unwrap();
            let row: Vec<f32> = logits.flatten_all().unwrap().to_vec1().unwrap();
            start = tokens.len();
            let (token, logprob) = greedy(&row);
            tokens.push(token);
            answer.push((tokenizer.token_bytes(token).to_vec(), logprob));
        }
        answers.push(answer);
    }
    answers
}

fn greedy(row: &[f32]) -> (u32, f32) {
    let best = (0..row.len())
        .rev()
        .max_by(|a, b| row[*a].total_cmp(&row[*b]))
        .unwrap();
    let sum: f64 = row.iter().map(|x| f64::from(x - row[best]).exp()).sum();
    (best as u32, -sum.ln() as f32)
}

/// The same tokens, and the same probabilities as far as two ways to sum 257 numbers go.
fn assert_same(name: &str, found: &[Answer], wanted: &[Answer]) {
    assert_eq!(found.len(), wanted.len());
    for (prompt, (found, wanted)) in found.iter().zip(wanted).enumerate() {
        let bytes = |answer: &Answer| {
            answer
                .iter()
                .map(|(bytes, _)| bytes.clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(bytes(found), bytes(wanted), "{name}, prompt {prompt}");
        for ((_, found), (_, wanted)) in found.iter().zip(wanted) {
            assert!(
                (found - wanted).abs() < 1e-4,
                "{name}: {found} and {wanted}"
            );
        }
    }
    assert_eq!(
        found[0], found[3],
        "{name}: the same prompt, the same answer"
    );
    assert_ne!(found[0], found[2], "{name}: another prompt, another answer");
}

#[test]
fn numerics_name_the_candle_that_is_locked() {
    let lock = include_str!("../../../../../Cargo.lock");
    let version = crate::model::numerics::CANDLE
        .strip_prefix("candle-")
        .unwrap();
    let entry = format!("name = \"candle-transformers\"\nversion = \"{version}\"\n");
    assert!(lock.contains(&entry));
}
