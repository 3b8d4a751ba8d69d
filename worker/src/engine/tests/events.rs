//! What the engine tells while it runs, and how it ends.

use super::models::Gated;
use super::*;
use std::sync::mpsc;

#[test]
fn texts_join_to_the_answer_without_gaps() {
    let params = Params {
        temperature: 1.2,
        n: 2,
        stop: vec!["zz".into(), "e".into()],
        ..Params::default()
    };
    let mut streamed = job(3, "stream this", params);
    streamed.stream = true;
    let (engine, mut events) = start(stub(64), options(2, 0));
    engine.submit(streamed).unwrap();
    let started = events.blocking_recv().unwrap();
    assert_eq!(
        started,
        EngineEvent::Started {
            id: 3,
            prompt_tokens: 11
        }
    );
    let mut texts = [String::new(), String::new()];
    let mut next = [0, 0];
    let record = loop {
        match events.blocking_recv().unwrap() {
            EngineEvent::Text {
                id,
                choice,
                first_token,
                tokens,
                text,
            } => {
                assert_eq!((id, first_token), (3, next[choice as usize]));
                next[choice as usize] += tokens;
                texts[choice as usize].push_str(&text);
            }
            EngineEvent::Finished { record, .. } => break record,
            EngineEvent::Started { .. } => panic!("started twice"),
        }
    };
    let Outcome::Completed(completed) = &record.outcome else {
        panic!("it has an answer");
    };
    for choice in &completed.choices {
        assert_eq!(choice.text, texts[choice.index as usize]);
    }
}

#[test]
fn late_watcher_gets_a_snapshot_and_then_every_text() {
    let (open, gate) = mpsc::channel();
    let (steps, stepped) = mpsc::channel();
    let inner = StubModel::new(&StubOptions::default());
    let (engine, mut events) = start(Box::new(Gated { inner, gate, steps }), options(1, 0));
    let params = Params {
        ignore_eos: true,
        max_tokens: 40,
        ..Params::default()
    };
    engine.submit(job(0, "watch me", params)).unwrap();
    for _ in 0..10 {
        open.send(()).unwrap();
        stepped.recv().unwrap();
    }
    assert!(matches!(
        events.blocking_recv(),
        Some(EngineEvent::Started { .. })
    ));
    assert!(
        events.try_recv().is_err(),
        "nobody watches, so nothing is told"
    );
    engine.watch(0);
    drop(open);
    let mut text_so_far = String::new();
    let mut next = 0;
    loop {
        match events.blocking_recv().unwrap() {
            EngineEvent::Text {
                first_token,
                tokens,
                text,
                ..
            } => {
                assert_eq!(first_token, next);
                if next == 0 {
                    assert!(
                        (9..=13).contains(&tokens),
                        "a snapshot of all so far: {tokens}"
                    );
                }
                next += tokens;
                text_so_far.push_str(&text);
            }
            EngineEvent::Finished { record, .. } => {
                assert_eq!(text(&record), text_so_far);
                break;
            }
            EngineEvent::Started { .. } => panic!("started twice"),
        }
    }
}

#[test]
fn watcher_who_asks_while_a_job_is_prepared_gets_its_text() {
    for id in 0..100 {
        // Nothing is computed before the watcher has asked.
        let (open, gate) = mpsc::channel::<()>();
        let (steps, _stepped) = mpsc::channel();
        let inner = StubModel::new(&StubOptions::default());
        let (engine, mut events) = start(Box::new(Gated { inner, gate, steps }), options(1, 0));
        let params = Params {
            ignore_eos: true,
            max_tokens: 3,
            ..Params::default()
        };
        engine.submit(job(id, "watch me at once", params)).unwrap();
        engine.watch(id);
        drop(open);
        let mut told = String::new();
        let record = loop {
            match events.blocking_recv().unwrap() {
                EngineEvent::Text { text, .. } => told.push_str(&text),
                EngineEvent::Finished { record, .. } => break record,
                EngineEvent::Started { .. } => {}
            }
        };
        assert_eq!(told, text(&record), "job {id}");
    }
}

#[test]
fn job_that_cannot_be_taken_comes_back() {
    let (open, gate) = mpsc::channel::<()>();
    let (steps, _stepped) = mpsc::channel();
    let inner = StubModel::new(&StubOptions::default());
    let (engine, mut events) = start(Box::new(Gated { inner, gate, steps }), options(1, 0));
    engine.submit(job(5, "a", Params::default())).unwrap();
    let duplicate = engine.submit(job(5, "b", Params::default()));
    assert!(matches!(duplicate, Err(SubmitError::Duplicate(job)) if job.id == 5));
    engine.drain();
    let late = engine.submit(job(6, "c", Params::default()));
    assert!(matches!(late, Err(SubmitError::Closed(job)) if job.id == 6));
    drop(open);
    assert_eq!(
        collect(&mut events, 1).len(),
        1,
        "what was taken runs to its end"
    );
}

#[test]
fn full_engine_refuses_and_takes_again_later() {
    let (open, gate) = mpsc::channel::<()>();
    let (steps, _stepped) = mpsc::channel();
    let inner = StubModel::new(&StubOptions::default());
    let (engine, mut events) = start(Box::new(Gated { inner, gate, steps }), options(32, 0));
    for id in 0..MAX_LIVE_JOBS as u64 {
        engine
            .submit(job(
                id,
                "x",
                Params {
                    max_tokens: 1,
                    ..Params::default()
                },
            ))
            .unwrap();
    }
    let full = engine.submit(job(9999, "x", Params::default()));
    assert!(matches!(full, Err(SubmitError::Full(_))));
    drop(open);
    assert_eq!(collect(&mut events, MAX_LIVE_JOBS).len(), MAX_LIVE_JOBS);
    engine.submit(job(9999, "x", Params::default())).unwrap();
    assert_eq!(collect(&mut events, 1).len(), 1);
}

#[test]
fn shutdown_waits_neither_for_jobs_nor_for_a_receiver_that_does_not_read() {
    let (engine, mut events) = start(stub(2000), options(8, 0));
    for id in 0..200 {
        let mut endless = job(
            id,
            "x",
            Params {
                ignore_eos: true,
                max_tokens: 20_000,
                ..Params::default()
            },
        );
        endless.stream = true;
        engine.submit(endless).unwrap();
    }
    // The channel is full soon; the engine waits for us.
    assert!(events.blocking_recv().is_some());
    engine.shutdown();
    let mut rest = 0;
    while let Some(event) = events.blocking_recv() {
        assert!(!matches!(event, EngineEvent::Finished { .. }));
        rest += 1;
    }
    assert!(rest <= EVENTS);
}

#[test]
fn engine_ends_when_nobody_listens() {
    let (engine, events) = start(stub(64), options(1, 0));
    drop(events);
    engine.submit(job(0, "x", Params::default())).unwrap();
    while engine.submit(job(1, "y", Params::default())).is_ok() {
        engine.cancel(1);
        std::thread::yield_now();
    }
}

#[test]
fn stats_count_tokens_and_steps() {
    let jobs: Vec<EngineJob> = (0..10)
        .map(|id| {
            job(
                id,
                "ten bytes!",
                Params {
                    ignore_eos: true,
                    max_tokens: 50,
                    ..Params::default()
                },
            )
        })
        .collect();
    let (engine, mut events) = start(stub(14), options(8, 3));
    for job in &jobs {
        engine.submit(job.clone()).unwrap();
    }
    let finished = collect(&mut events, 10);
    let stats = engine.stats();
    assert_eq!((stats.prompt_tokens, stats.completion_tokens), (100, 500));
    let preempted: u32 = finished.values().map(|(_, stats)| stats.preemptions).sum();
    assert_eq!(u64::from(preempted), stats.preemptions);
    assert!(
        stats.steps >= 50 && stats.completion_tokens_per_s > 0.0,
        "{stats:?}"
    );
    assert_eq!((stats.slots, stats.kv_blocks), (8, 14));
}

#[test]
fn interactive_job_overtakes_a_full_batch() {
    let (open, gate) = mpsc::channel();
    let (steps, stepped) = mpsc::channel();
    let inner = StubModel::new(&StubOptions::default());
    let (engine, mut events) = start(Box::new(Gated { inner, gate, steps }), options(1, 0));
    let endless = Params {
        ignore_eos: true,
        max_tokens: 20_000,
        ..Params::default()
    };
    engine.submit(job(0, "batch", endless)).unwrap();
    open.send(()).unwrap();
    stepped.recv().unwrap();
    let mut urgent = job(1, "now", Params::default());
    urgent.priority = Priority::Interactive;
    engine.submit(urgent).unwrap();
    // Step until it runs; the batch job needs many more steps than that takes.
    while !matches!(soon(&mut events), Some(EngineEvent::Started { id: 1, .. })) {
        open.send(()).unwrap();
        stepped.recv().unwrap();
    }
    drop(open);
    let first = loop {
        if let EngineEvent::Finished { id, .. } = events.blocking_recv().unwrap() {
            break id;
        }
    };
    assert_eq!(first, 1);
    assert_eq!(collect(&mut events, 1)[&0].1.preemptions, 1);
}
