//! The decoder over candle's tensors, which GPUs run, held against the plain forward pass; here on the processor, where
//! all but the device is the same.

use candle_core::quantized::GgmlDType;
use rbee_tests::driver::{Answer, Schedule, Task};
use rbee_tests::loaded::{self, OnDisk};
use rbee_tests::logits::{distance, worst};
use rbee_tests::random::Random;
use rbee_tests::reference::Reference;
use rbee_tests::spec::ModelSpec;
use rbee_tests::to_gguf::BlockTypes;
use rbee_worker::model::LoadOptions;
use rbee_worker::model::memory::KvType;

/// f32 weights, f32 keys and values: rounding only.
const DENSE: f64 = 1e-4;
/// Quantised weights: candle rounds activations to 8 bits too, for the K-quants in blocks of 256.
const QUANTISED: f64 = 0.12;

fn over_tensors(kv: KvType) -> LoadOptions {
    LoadOptions {
        over_tensors: true,
        kv,
        ..loaded::options()
    }
}

fn task(vocabulary: usize, length: usize, seed: u64) -> Task {
    let mut random = Random::new(seed);
    let prompt = (0..length).map(|_| random.below(vocabulary) as u32);
    Task {
        prompt: prompt.collect(),
        generate: 4,
    }
}

/// The largest relative distance of an answer's logits from the right ones.
fn off(reference: &Reference, task: &Task, answer: &Answer) -> f64 {
    let mut all = task.prompt.clone();
    all.extend(&answer.tokens);
    let positions: Vec<usize> = (0..task.generate)
        .map(|at| task.prompt.len() - 1 + at)
        .collect();
    let right = reference.logits(&all, &positions);
    let rows = answer.logits.iter().zip(&right);
    worst(rows.map(|(found, right)| distance(found, right))).relative
}

#[test]
fn decoder_over_tensors_gives_the_right_logits_whatever_runs_beside() {
    for spec in ModelSpec::zoo() {
        for (types, kv, bound) in [
            (BlockTypes::All(GgmlDType::F32), KvType::F32, DENSE),
            (BlockTypes::EveryType, KvType::F16, QUANTISED),
        ] {
            let model = OnDisk::new(&spec, types);
            let reference = Reference::open(&model.path);
            let mut driver = model.driver(&over_tensors(kv));
            let vocabulary = model.checkpoint.vocabulary.len();
            let tasks: Vec<Task> = [1, 3, 40, 33]
                .iter()
                .zip(1..)
                .map(|(length, seed)| task(vocabulary, *length, seed))
                .collect();
            let schedule = Schedule {
                slots: 4,
                chunk: 24,
                random: Some(Random::new(7)),
            };
            let answers = driver.run(&tasks, schedule);
            for (task, answer) in tasks.iter().zip(&answers) {
                let found = off(&reference, task, answer);
                let (name, length) = (&spec.name, task.prompt.len());
                assert!(found < bound, "{name} {types:?}, {length} tokens: {found}");
            }
        }
    }
}
