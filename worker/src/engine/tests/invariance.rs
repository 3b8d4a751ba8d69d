//! Batched equals single, byte for byte: any slots, chunks, KV size, order of arrival.

use super::models::{ECHO_PERIOD, Echo, Sequential};
use super::*;
use proptest::prelude::*;

/// Jobs of every kind: greedy and sampled, long and short, with stop texts, several choices, log-probabilities.
fn jobs() -> Vec<EngineJob> {
    (0..24u64)
        .map(|id| {
            let prompt = format!("{} job {id}", "shared words ".repeat(id as usize % 7 * 3));
            let params = Params {
                max_tokens: 40 + (id as u32 % 5) * 30,
                temperature: [0.0, 0.7, 1.5][id as usize % 3],
                top_p: if id % 4 == 1 { 0.9 } else { 1.0 },
                top_k: if id % 4 == 2 { 4 } else { 0 },
                min_p: if id % 8 == 3 { 0.05 } else { 0.0 },
                repetition_penalty: if id % 6 == 5 { 1.2 } else { 1.0 },
                frequency_penalty: if id % 6 == 4 { 0.4 } else { 0.0 },
                seed: (id % 5 == 0).then_some(id),
                stop: if id % 3 == 0 {
                    vec!["e ".into(), "qu".into()]
                } else {
                    vec![]
                },
                ignore_eos: id % 4 == 0,
                logprobs: id % 7 == 0,
                top_logprobs: 3,
                n: 1 + (id as u32 % 11) / 5,
                ..Params::default()
            };
            job(id, &prompt, params)
        })
        .collect()
}

/// Choices of [`crowd`], and the KV blocks that each has at least when the first one ends, however small the chunks are.
const CROWD: usize = 6;
const CROWD_BLOCKS: usize = 6;

/// A job that is preempted whenever its choices run at once and there are too few blocks for them.
fn crowd() -> EngineJob {
    let params = Params {
        max_tokens: 190,
        temperature: 1.0,
        ignore_eos: true,
        n: CROWD as u32,
        ..Params::default()
    };
    job(1_000_000, "a crowd", params)
}

/// Runs a crowd and the jobs behind it in so many ways, and expects the records of each job alone, which it gives back.
pub fn batched_equals_single(jobs: &[EngineJob], cases: u32) -> Finished {
    let crowd = crowd();
    let single: Finished = (jobs.iter().chain([&crowd]))
        .flat_map(|one| run(stub(64), options(1, 0), std::slice::from_ref(one)))
        .collect();
    let expected = records(&single);
    let check = |(slots, chunk_tokens, kv_blocks, order): (usize, usize, usize, u64)| {
        let mut shuffled = jobs.to_vec();
        shuffled.sort_by_key(|job| randomness::mix(job.id ^ order));
        let (engine, mut events) = start(stub(kv_blocks), options(slots, chunk_tokens));
        begin(&engine, &mut events, &crowd);
        for job in shuffled {
            engine.submit(job).unwrap();
        }
        let finished = collect(&mut events, jobs.len() + 1);
        prop_assert_eq!(&records(&finished), &expected);
        let needed = slots.min(CROWD) * CROWD_BLOCKS;
        prop_assert!(
            needed <= kv_blocks || engine.stats().preemptions > 0,
            "{needed} blocks are needed, {kv_blocks} are there, and nothing was preempted"
        );
        Ok(())
    };
    check((8, 33, 13, 0)).unwrap();
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(cases));
    let settings = (1usize..20, 1usize..80, 13usize..28, any::<u64>());
    runner.run(&settings, check).unwrap();
    single
}

#[test]
fn batched_results_equal_single_ones_with_any_slots_chunks_and_kv() {
    batched_equals_single(&jobs(), 60);
}

#[test]
fn sequential_model_gives_the_same_results_one_by_one() {
    let jobs = jobs();
    let expected = records(&run(stub(600), options(8, 0), &jobs));
    let sequential = Sequential {
        inner: StubModel::new(&StubOptions::default()),
        positions: 0,
    };
    assert_eq!(
        records(&run(Box::new(sequential), options(8, 5), &jobs)),
        expected
    );
}

#[test]
fn choices_are_drawn_apart_and_the_first_is_the_only_one_of_n_1() {
    let params = |n| Params {
        temperature: 1.5,
        n,
        ..Params::default()
    };
    let several = run(stub(64), options(4, 0), &[job(1, "tell me", params(4))]);
    let one = run(stub(64), options(4, 0), &[job(1, "tell me", params(1))]);
    let Outcome::Completed(completed) = &several[&1].0.outcome else {
        panic!("it has an answer");
    };
    let texts: Vec<&str> = completed.choices.iter().map(|c| c.text.as_str()).collect();
    let distinct: std::collections::BTreeSet<&str> = texts.iter().copied().collect();
    assert_eq!(distinct.len(), 4, "{texts:?}");
    assert_eq!(texts[0], text(&one[&1].0));
    assert!(completed.choices.iter().map(|c| c.index).eq(0..4));
    assert_eq!(completed.usage.prompt_tokens, 7, "the prompt counts once");
}

#[test]
fn five_hundred_canaries_with_shared_prefixes_and_cancels_stay_apart() {
    let prompt = |id: u64| {
        let canary = format!("{:016x}", randomness::mix(id + 1));
        let shared = ["common instructions for all: ", "another prefix "][id as usize % 2];
        format!(
            "{shared}{canary:->width$}",
            width = ECHO_PERIOD - shared.len()
        )
    };
    let params = |n| Params {
        max_tokens: 3 * ECHO_PERIOD as u32,
        n,
        ..Params::default()
    };
    // Room for about six of the sixteen that may run: preemption all the time, and for certain among the choices of the
    // first job, whose beginning is shared and whose rest is not: 2 + 8 * 8 blocks.
    let (engine, mut events) = start(Box::new(Echo::new(60)), options(16, 48));
    begin(&engine, &mut events, &job(0, &prompt(0), params(8)));
    for id in 1..500 {
        engine.submit(job(id, &prompt(id), params(1))).unwrap();
    }
    let mut cancelled = 0;
    let mut done = 0;
    while done < 500 {
        let EngineEvent::Finished { id, record, .. } = events.blocking_recv().unwrap() else {
            continue;
        };
        done += 1;
        if randomness::mix(id).is_multiple_of(3) {
            // One that may run by now, and one that surely waits: the engine is ahead by a channel of events at most.
            engine.cancel((id + 9) % 500);
            engine.cancel(id + 200);
        }
        match &record.outcome {
            Outcome::Completed(_) => assert_eq!(text(&record), prompt(id).repeat(3), "job {id}"),
            Outcome::Failed(error) => {
                assert_eq!(error.code, "cancelled");
                cancelled += 1;
            }
        }
    }
    assert!((20..300).contains(&cancelled), "{cancelled} were cancelled");
    let stats = engine.stats();
    assert_eq!(
        (stats.kv_blocks_used, stats.slots_used, stats.jobs),
        (0, 0, 0)
    );
    assert!(stats.preemptions > 0, "{stats:?}");
}

#[test]
fn stub_answers_differ_by_content_and_end_by_themselves() {
    let jobs: Vec<EngineJob> = (0..400)
        .map(|id| job(id, &format!("question {id}"), Params::default()))
        .collect();
    let finished = run(stub(2000), options(32, 0), &jobs);
    let texts: Vec<&str> = finished.values().map(|(record, _)| text(record)).collect();
    let distinct: std::collections::BTreeSet<&&str> = texts.iter().collect();
    assert!(distinct.len() > 395, "{} distinct answers", distinct.len());
    let mean = texts.iter().map(|t| t.len()).sum::<usize>() / texts.len();
    assert!((25..40).contains(&mean), "mean length {mean}");
    let (shortest, longest) = (
        texts.iter().map(|t| t.len()).min(),
        texts.iter().map(|t| t.len()).max(),
    );
    assert!(
        shortest >= Some(5) && longest < Some(400),
        "{shortest:?} {longest:?}"
    );
}
