//! Attempts: given out once, fenced, ended without a result.

use super::*;
use crate::state::{BatchStatus, JobState};

fn queued(batch: &Batch, model: u32, limit: usize) -> QueuedQuery {
    QueuedQuery {
        batch: batch.no,
        model: ModelNo(model),
        limit,
    }
}

fn release_of(job: JobRef, attempt: Attempt, cause: ReleaseCause) -> Release {
    Release {
        job,
        attempt,
        cause,
    }
}

pub async fn each_placement_has_a_greater_attempt(store: &dyn Store) {
    let batch = shown(store, vec![job(0)]).await;
    let mut last = Attempt(0);
    for _ in 0..3 {
        let attempt = placed(store, at(&batch, 0)).await;
        assert!(attempt > last);
        last = attempt;
        let release = release_of(at(&batch, 0), attempt, ReleaseCause::Returned);
        assert_eq!(store.release_many(vec![release]).await.unwrap(), [true]);
    }
}

pub async fn job_is_placed_once(store: &dyn Store) {
    let batch = shown(store, vec![job(0), bad_job(1)]).await;
    let nowhere = at(&batch, 99);
    let outcomes = place(
        store,
        &[at(&batch, 0), at(&batch, 0), at(&batch, 1), nowhere],
    )
    .await;
    assert_eq!(
        outcomes,
        [
            PlaceOutcome::Placed(Attempt(1)),
            PlaceOutcome::NotQueued,
            PlaceOutcome::NotQueued,
            PlaceOutcome::NotQueued
        ]
    );
    assert!(
        store
            .job_queued(queued(&batch, 0, 9))
            .await
            .unwrap()
            .is_empty()
    );
    check_counters(store, &batch).await;
}

pub async fn first_placement_pins_the_numerics(store: &dyn Store) {
    let second = NewJob {
        verdict: Ok(ModelNo(1)),
        ..job(2)
    };
    let batch = shown(store, vec![job(0), job(1), second]).await;
    let node = NodeInstance::generate();
    let jobs = [at(&batch, 0)];
    place_on(store, &jobs, &node, "x").await;
    let refused = place_on(store, &[at(&batch, 1)], &node, "y").await;
    assert_eq!(refused, [PlaceOutcome::OtherNumerics]);
    // Another model of the same batch is pinned by itself.
    let other = place_on(store, &[at(&batch, 2)], &node, "y").await;
    assert!(matches!(other[..], [PlaceOutcome::Placed(_)]));
    let models = fresh(store, &batch).await.models;
    let pinned: Vec<_> = models
        .iter()
        .map(|model| model.numerics.as_deref())
        .collect();
    assert_eq!(pinned, [Some("x"), Some("y")]);
}

pub async fn batch_for_any_numerics_pins_nothing(store: &dyn Store) {
    let mut new = new_batch(None);
    new.spec.any_numerics = true;
    let Sealed::Shown(batch) = sealed(store, new, vec![job(0), job(1)]).await else {
        panic!("the batch is not shown");
    };
    let node = NodeInstance::generate();
    for (index, numerics) in [(0, "x"), (1, "y")] {
        let outcome = place_on(store, &[at(&batch, index)], &node, numerics).await;
        assert!(matches!(outcome[..], [PlaceOutcome::Placed(_)]));
    }
    assert_eq!(fresh(store, &batch).await.models[0].numerics, None);
}

pub async fn paused_batch_places_nothing(store: &dyn Store) {
    let batch = shown(store, vec![job(0)]).await;
    store
        .batch_pause(batch.no, Some("disk_full"))
        .await
        .unwrap();
    assert_eq!(
        fresh(store, &batch).await.paused_reason.as_deref(),
        Some("disk_full")
    );
    assert!(
        store
            .job_queued(queued(&batch, 0, 9))
            .await
            .unwrap()
            .is_empty()
    );
    let outcome = place(store, &[at(&batch, 0)]).await;
    assert_eq!(outcome, [PlaceOutcome::NotQueued]);
    store.batch_pause(batch.no, None).await.unwrap();
    placed(store, at(&batch, 0)).await;
}

pub async fn queued_jobs_come_in_input_order_by_model(store: &dyn Store) {
    let jobs = (0..10)
        .map(|index| NewJob {
            verdict: Ok(ModelNo((index % 2) as u32)),
            ..job(index)
        })
        .collect();
    let batch = shown(store, jobs).await;
    place(store, &[at(&batch, 1)]).await;
    let found = store.job_queued(queued(&batch, 1, 3)).await.unwrap();
    let indices: Vec<u64> = found.iter().map(|job| job.job.index.0).collect();
    assert_eq!(indices, [3, 5, 7]);
    assert_eq!(found[0].line, job(3).line);
    let waiting = store.job_waiting(batch.no).await.unwrap();
    let counts: Vec<u64> = waiting.iter().map(|summary| summary.queued).collect();
    assert_eq!(counts, [5, 4]);
}

pub async fn released_job_is_queued_again_under_its_old_attempt_no_more(store: &dyn Store) {
    let batch = shown(store, vec![job(0)]).await;
    let old = placed(store, at(&batch, 0)).await;
    let release = release_of(at(&batch, 0), old, ReleaseCause::Lost);
    assert_eq!(store.release_many(vec![release]).await.unwrap(), [true]);
    assert_eq!(store.release_many(vec![release]).await.unwrap(), [false]);
    let late = finish(store, at(&batch, 0), old, answer("late")).await;
    assert_eq!(late, FinishOutcome::Fenced);
    let new = placed(store, at(&batch, 0)).await;
    // The old holder cannot take the job from the new one.
    assert_eq!(store.release_many(vec![release]).await.unwrap(), [false]);
    let outcome = finish(store, at(&batch, 0), new, answer("new")).await;
    assert!(matches!(outcome, FinishOutcome::Stored { .. }));
    check_counters(store, &batch).await;
}

pub async fn release_of_a_batch_spares_the_kept_nodes(store: &dyn Store) {
    let batch = shown(store, (0..6).map(job).collect()).await;
    let (dead, alive) = (NodeInstance::generate(), NodeInstance::generate());
    for index in 0..4 {
        let node = if index == 2 { &alive } else { &dead };
        place_on(store, &[at(&batch, index)], node, "x").await;
    }
    assert_eq!(store.release_batch(batch.no, &[alive]).await.unwrap(), 3);
    assert_eq!(store.recount(batch.no).await.unwrap(), [5, 1, 0, 0, 0]);
    assert_eq!(store.release_batch(batch.no, &[]).await.unwrap(), 1);
}

pub async fn third_crash_alone_fails_the_job(store: &dyn Store) {
    let batch = shown(store, vec![job(0)]).await;
    let blamed = ReleaseCause::Blamed { alone: true };
    for crash in 1..=3 {
        let attempt = placed(store, at(&batch, 0)).await;
        let release = release_of(at(&batch, 0), attempt, blamed);
        assert_eq!(store.release_many(vec![release]).await.unwrap(), [true]);
        let left = store.job_queued(queued(&batch, 0, 9)).await.unwrap();
        assert_eq!(left.len(), usize::from(crash < 3));
        assert!(left.iter().all(|job| job.alone));
    }
    let batch = fresh(store, &batch).await;
    assert_eq!(batch.status, BatchStatus::Completed);
    let found = store.job_get(&[at(&batch, 0)]).await.unwrap();
    let result = found[0].as_ref().unwrap().result.clone().unwrap();
    let Outcome::Failed(error) = result.record.outcome else {
        panic!("the job did not fail");
    };
    assert_eq!(error.code, "worker_crashed");
    check_counters(store, &batch).await;
}

pub async fn crash_among_mates_makes_the_job_run_alone_and_fails_it_never(store: &dyn Store) {
    let batch = shown(store, vec![job(0)]).await;
    assert!(!store.job_queued(queued(&batch, 0, 9)).await.unwrap()[0].alone);
    for _ in 0..5 {
        let attempt = placed(store, at(&batch, 0)).await;
        let cause = ReleaseCause::Blamed { alone: false };
        let release = release_of(at(&batch, 0), attempt, cause);
        store.release_many(vec![release]).await.unwrap();
        assert!(store.job_queued(queued(&batch, 0, 9)).await.unwrap()[0].alone);
        let stored = store.job_get(&[at(&batch, 0)]).await.unwrap();
        assert!(stored[0].as_ref().unwrap().alone);
    }
    assert_eq!(
        store.job_get(&[at(&batch, 0)]).await.unwrap()[0]
            .as_ref()
            .unwrap()
            .state,
        JobState::Queued
    );
}

use crate::record::Outcome;
