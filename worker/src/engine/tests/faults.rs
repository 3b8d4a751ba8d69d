//! What goes wrong with one job stays with it.

use super::models::{Faulty, Gated, INFINITY, NAN, PANIC, REFUSE};
use super::*;
use std::sync::mpsc;

fn faulty() -> Box<dyn StepModel> {
    Box::new(Faulty(StubModel::new(&StubOptions::default())))
}

/// Runs one bad job among seven mates, all in one step, and compares the mates with an undisturbed run.
fn among_seven_mates(bad: char, temperature: f32) -> String {
    let params = || Params {
        temperature,
        ..Params::default()
    };
    let mates = |id: u64| job(id, &format!("good content {id}"), params());
    let good: Vec<EngineJob> = (0..8).filter(|id| *id != 4).map(mates).collect();
    let mut expected = records(&run(stub(200), options(8, 0), &good));
    let mut jobs: Vec<EngineJob> = (0..8).map(mates).collect();
    jobs[4] = job(4, &format!("bad content {bad}"), params());
    let finished = run(faulty(), options(8, 512), &jobs);
    let code = error_code(&finished[&4].0).to_owned();
    let mut got = records(&finished);
    got.remove(&4);
    expected.remove(&4);
    assert_eq!(got, expected);
    code
}

#[test]
fn panic_of_the_model_fails_one_job_among_seven_mates() {
    assert_eq!(among_seven_mates(PANIC, 0.0), "engine_error");
}

#[test]
fn refusal_of_the_model_fails_one_job_among_seven_mates() {
    assert_eq!(among_seven_mates(REFUSE, 1.0), "engine_error");
}

#[test]
fn nan_and_infinite_logits_fail_one_job_greedy_or_sampled() {
    for temperature in [0.0, 1.0] {
        assert_eq!(among_seven_mates(NAN, temperature), "nan_logits");
        assert_eq!(among_seven_mates(INFINITY, temperature), "nan_logits");
    }
}

#[test]
fn failure_of_one_choice_ends_the_job_once() {
    let params = Params {
        n: 5,
        temperature: 1.0,
        ..Params::default()
    };
    let jobs = [
        job(0, &format!("x{NAN}"), params),
        job(1, "good", Params::default()),
    ];
    let finished = run(faulty(), options(8, 0), &jobs);
    assert_eq!(error_code(&finished[&0].0), "nan_logits");
    assert!(!text(&finished[&1].0).is_empty());
}

#[test]
fn lone_bad_job_leaves_the_engine_usable() {
    let (engine, mut events) = start(faulty(), options(2, 0));
    engine
        .submit(job(0, &PANIC.to_string(), Params::default()))
        .unwrap();
    assert_eq!(error_code(&collect(&mut events, 1)[&0].0), "engine_error");
    engine
        .submit(job(0, "again, the id is free", Params::default()))
        .unwrap();
    assert!(!text(&collect(&mut events, 1)[&0].0).is_empty());
}

#[test]
fn answer_without_end_stops_at_max_tokens_or_the_context_with_length() {
    let endless = |max_tokens| Params {
        ignore_eos: true,
        max_tokens,
        ..Params::default()
    };
    let long = "x".repeat(stub::STUB_CONTEXT - 10);
    let jobs = [job(0, "a", endless(77)), job(1, &long, endless(1_000_000))];
    let finished = run(stub(2000), options(2, 0), &jobs);
    for (id, tokens) in [(0, 77), (1, 10)] {
        let Outcome::Completed(completed) = &finished[&id].0.outcome else {
            panic!("job {id} has an answer");
        };
        assert_eq!(
            completed.choices[0].finish_reason,
            rbee_queue::FinishReason::Length
        );
        assert_eq!(completed.usage.completion_tokens, tokens);
    }
}

#[test]
fn prompt_over_the_context_fails_and_its_mates_run() {
    let jobs = [
        job(0, &"long ".repeat(2_000_000), Params::default()),
        job(1, "short", Params::default()),
    ];
    let finished = run(stub(2000), options(2, 0), &jobs);
    assert_eq!(
        error_code(&finished[&0].0),
        prepare::CONTEXT_LENGTH_EXCEEDED
    );
    assert!(!text(&finished[&1].0).is_empty());
}

#[test]
fn cancel_takes_effect_within_two_steps() {
    let (open, gate) = mpsc::channel();
    let (steps, stepped) = mpsc::channel();
    let inner = StubModel::new(&StubOptions::default());
    let (engine, mut events) = start(Box::new(Gated { inner, gate, steps }), options(4, 0));
    let endless = || Params {
        ignore_eos: true,
        max_tokens: 10_000,
        ..Params::default()
    };
    engine.submit(job(0, "one", endless())).unwrap();
    open.send(()).unwrap();
    stepped.recv().unwrap();
    engine.submit(job(1, "two", endless())).unwrap();
    // Step until both run.
    loop {
        open.send(()).unwrap();
        if stepped.recv().unwrap() == 2 {
            break;
        }
        soon(&mut events);
    }
    engine.cancel(0);
    for _ in 0..2 {
        open.send(()).unwrap();
        stepped.recv().unwrap();
    }
    // The step that follows has one chunk only, and the event is out before it begins.
    open.send(()).unwrap();
    assert_eq!(stepped.recv().unwrap(), 1);
    let finished = collect(&mut events, 1);
    assert_eq!(error_code(&finished[&0].0), "cancelled");
    drop(open);
    engine.shutdown();
}

#[test]
fn cancelled_job_that_waits_never_runs() {
    let (open, gate) = mpsc::channel();
    let (steps, stepped) = mpsc::channel();
    let inner = StubModel::new(&StubOptions::default());
    let (engine, mut events) = start(Box::new(Gated { inner, gate, steps }), options(1, 0));
    engine.submit(job(0, "one", Params::default())).unwrap();
    engine.submit(job(1, "two", Params::default())).unwrap();
    engine.cancel(1);
    drop(open);
    let finished = collect(&mut events, 2);
    assert_eq!(error_code(&finished[&1].0), "cancelled");
    assert!(!text(&finished[&0].0).is_empty());
    engine.shutdown();
    assert!(stepped.iter().all(|chunks| chunks == 1));
}
