//! The engine over a real, small model: the stored results are the same whatever the slots, chunks, order of admission and
//! memory.

use rbee_queue::{Params, ResultRecord};
use rbee_tests::engine::{Answering, FewBlocks, error, job};
use rbee_tests::loaded::{self, OnDisk};
use rbee_tests::prompts::words;
use rbee_tests::random::Random;
use rbee_tests::spec::ModelSpec;
use rbee_tests::to_gguf::BlockTypes;
use rbee_worker::engine::{EngineJob, EngineOptions, TextFace};

/// Blocks that [`crowd`] does not fit into.
const FEW: usize = 10;

/// Six choices that enter in one step: five of them or more run at once, and each grows to three blocks at least.
fn crowd() -> EngineJob {
    let params = Params {
        max_tokens: 80,
        temperature: 1.0,
        ignore_eos: true,
        n: 6,
        ..Params::default()
    };
    job(100, "river", params)
}

fn jobs() -> Vec<EngineJob> {
    let mut random = Random::new(23);
    (0..24)
        .map(|id| {
            let length = 1 + random.below(12);
            let text = words(&mut random, length);
            let params = Params {
                max_tokens: 1 + random.below(60) as u32,
                temperature: [0.0, 0.7, 1.3][id as usize % 3],
                top_p: [1.0, 0.9][id as usize % 2],
                min_p: [0.0, 0.02][id as usize / 2 % 2],
                repetition_penalty: [1.0, 1.1][id as usize / 3 % 2],
                seed: (id % 4 == 0).then_some(id),
                ignore_eos: id % 5 == 0,
                logprobs: id % 3 == 0,
                top_logprobs: (id % 4) as u8 * u8::from(id % 3 == 0),
                n: 1 + u32::from(id % 7 == 0),
                ..Params::default()
            };
            job(id, &text, params)
        })
        .collect()
}

/// The results under these settings, with the jobs in a shuffled order behind the crowd and at most this many KV blocks.
fn results(
    model: &OnDisk,
    options: EngineOptions,
    blocks: usize,
    seed: u64,
) -> Vec<(u64, ResultRecord)> {
    let loaded = loaded::open(&loaded::gguf(&model.path), &loaded::options());
    let text = TextFace {
        tokenizer: loaded.tokenizer,
        template: loaded.template,
    };
    let few = FewBlocks {
        model: loaded.model,
        blocks,
    };
    let mut jobs = jobs();
    Random::new(seed).shuffle(&mut jobs);
    let mut answering = Answering::start(Box::new(few), text, options);
    answering.begin(crowd());
    let results = answering.answers(jobs);
    if blocks <= FEW {
        assert!(
            answering.preemptions() > 0,
            "{blocks} blocks were enough, so nothing is preempted"
        );
    }
    results
}

#[test]
fn slots_chunks_order_and_preemption_change_no_result() {
    for spec in [ModelSpec::qwen3(), ModelSpec::gemma3()] {
        let model = OnDisk::new(&spec, BlockTypes::EveryType);
        let right = results(
            &model,
            EngineOptions {
                slots: 1,
                chunk_tokens: 0,
                share_prefixes: false,
            },
            usize::MAX,
            1,
        );
        let answered = right
            .iter()
            .filter(|(_, record)| error(record).is_none())
            .count();
        assert_eq!(answered, right.len());
        for (seed, (slots, chunk_tokens, blocks)) in [
            (8, 0, usize::MAX),
            (3, 1, 60),
            (8, 7, 24),
            (8, 33, FEW),
            (8, 33, FEW),
        ]
        .into_iter()
        .enumerate()
        {
            let share_prefixes = seed != 3;
            let found = results(
                &model,
                EngineOptions {
                    slots,
                    chunk_tokens,
                    share_prefixes,
                },
                blocks,
                seed as u64,
            );
            for (right, found) in right.iter().zip(&found) {
                assert_eq!(
                    right, found,
                    "{}: {slots} slots, chunks of {chunk_tokens}, {blocks} blocks",
                    spec.name
                );
            }
        }
    }
}
