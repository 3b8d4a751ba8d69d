//! Batched equals single, bit for bit: whatever the batch-mates, the order of admission, the chunks, the blocks, what is
//! computed again, and the number of threads.

use rbee_tests::driver::{Answer, Driver, Schedule, Task};
use rbee_tests::loaded::{self, OnDisk};
use rbee_tests::random::Random;
use rbee_tests::spec::ModelSpec;
use rbee_tests::test_models;
use rbee_tests::to_gguf::BlockTypes;
use rbee_worker::model::LoadOptions;

/// Prompts of mixed lengths, some with a common beginning, some as short as one token.
fn tasks(vocabulary: usize, count: usize, longest: usize, seed: u64) -> Vec<Task> {
    let mut random = Random::new(seed);
    let common: Vec<u32> = (0..longest / 2)
        .map(|_| random.below(vocabulary) as u32)
        .collect();
    (0..count)
        .map(|at| {
            let mut prompt = if at % 3 == 0 {
                common.clone()
            } else {
                Vec::new()
            };
            let more = 1 + random.below(longest / 2);
            prompt.extend((0..more).map(|_| random.below(vocabulary) as u32));
            Task {
                prompt,
                generate: 1 + random.below(8),
            }
        })
        .collect()
}

fn alone(driver: &mut Driver, tasks: &[Task]) -> Vec<Vec<u32>> {
    tasks
        .iter()
        .map(|task| driver.alone(&task.prompt, task.generate).bits())
        .collect()
}

fn bits(answers: &[Answer]) -> Vec<Vec<u32>> {
    answers.iter().map(Answer::bits).collect()
}

#[test]
fn batched_equals_single_for_every_family() {
    for spec in ModelSpec::zoo() {
        let model = OnDisk::new(&spec, BlockTypes::EveryType);
        let tasks = tasks(model.checkpoint.vocabulary.len(), 12, 90, 1);
        let right = alone(&mut model.driver(&loaded::options()), &tasks);
        for (seed, threads, slots, chunk) in
            [(1, 1, 2, 5), (2, 2, 3, 40), (3, 2, 7, 64), (4, 1, 12, 100)]
        {
            let options = LoadOptions {
                threads,
                slots: 12,
                ..loaded::options()
            };
            let mut driver = model.driver(&options);
            let schedule = Schedule {
                slots,
                chunk,
                random: Some(Random::new(seed)),
            };
            let found = bits(&driver.run(&tasks, schedule));
            assert!(
                found == right,
                "{}: seed {seed}, {threads} threads, {slots} slots, chunks of {chunk}",
                spec.name
            );
        }
    }
}

#[test]
fn many_sequences_at_once_equal_one_on_the_real_model() {
    let path = test_models::smollm2();
    let open = |threads| {
        let options = LoadOptions {
            threads,
            slots: 32,
            ..loaded::options()
        };
        Driver::new(loaded::open(&loaded::gguf(&path), &options).model)
    };
    let tasks = tasks(40_000, 32, 40, 5);
    let mut two = open(2);
    let right = alone(&mut two, &tasks[..8]);
    let schedule = |seed| Schedule {
        slots: 32,
        chunk: 16,
        random: Some(Random::new(seed)),
    };
    assert!(
        bits(&two.run(&tasks, schedule(1)))[..8] == right,
        "two threads, seed 1"
    );
    drop(two);
    assert!(
        bits(&open(1).run(&tasks[..8], schedule(2))) == right,
        "one thread, seed 2"
    );
}
