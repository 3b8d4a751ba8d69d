//! Jobs that wait for the answer of an equal one.

use super::*;
use crate::state::{BatchStatus, JobState};

async fn queued(store: &dyn Store, batch: &Batch) -> Vec<u64> {
    let query = QueuedQuery {
        batch: batch.no,
        model: ModelNo(0),
        limit: 100,
    };
    let found = store.job_queued(query).await.unwrap();
    let waiting = store.job_waiting(batch.no).await.unwrap();
    let counted: u64 = waiting.iter().map(|summary| summary.queued).sum();
    assert_eq!(counted, found.len() as u64);
    found.iter().map(|job| job.job.index.0).collect()
}

async fn stored(store: &dyn Store, job: JobRef) -> StoredJob {
    let found = store.job_get(&[job]).await.unwrap();
    found[0].clone().unwrap()
}

pub async fn equal_job_waits_for_no_place_and_gets_the_same_answer(store: &dyn Store) {
    let batch = shown(
        store,
        vec![job(0), job(1), same(2, 0), same(3, 0), bad_job(4)],
    )
    .await;
    assert_eq!(queued(store, &batch).await, [0, 1]);
    check_counters(store, &batch).await;
    let attempt = placed(store, at(&batch, 0)).await;
    let other = placed(store, at(&batch, 1)).await;
    let outcome = finish(store, at(&batch, 0), attempt, answer("a")).await;
    // The bad line has number 1 since it was loaded.
    let first = FinishOutcome::Stored {
        finish_no: 2,
        batch_done: false,
    };
    assert_eq!(outcome, first);
    for index in [0, 2, 3] {
        let job = stored(store, at(&batch, index)).await;
        assert_eq!(job.state, JobState::Succeeded);
        assert_eq!(job.result.unwrap().record, answer("a"));
    }
    let finished = store.finished_since(batch.no, 1, 10).await.unwrap();
    let numbers: Vec<(u64, u64)> = (finished.iter())
        .map(|finished| (finished.finish_no, finished.index.0))
        .collect();
    assert_eq!(numbers, [(2, 0), (3, 2), (4, 3)]);
    let now = fresh(store, &batch).await;
    assert_eq!((now.input_tokens, now.output_tokens), (9, 6));
    check_counters(store, &batch).await;
    // A late result of the same attempt changes nothing, of the others neither.
    let late = finish(store, at(&batch, 0), attempt, answer("b")).await;
    assert_eq!(late, FinishOutcome::Fenced);
    let last = finish(store, at(&batch, 1), other, answer("c")).await;
    assert!(matches!(
        last,
        FinishOutcome::Stored {
            finish_no: 5,
            batch_done: true
        }
    ));
    assert_eq!(fresh(store, &batch).await.status, BatchStatus::Completed);
}

pub async fn verdicts_are_shared_and_circumstances_are_not(store: &dyn Store) {
    let jobs = vec![job(0), same(1, 0), job(2), same(3, 2)];
    let batch = shown(store, jobs).await;
    let verdict = ResultRecord::failed("context_length_exceeded", "too long");
    let circumstance = ResultRecord::failed("timeout", "it took too long");
    for (index, record) in [(0, verdict.clone()), (2, circumstance)] {
        let attempt = placed(store, at(&batch, index)).await;
        finish(store, at(&batch, index), attempt, record).await;
    }
    let shared = stored(store, at(&batch, 1)).await;
    assert_eq!(shared.state, JobState::Failed);
    assert_eq!(shared.result.unwrap().record, verdict);
    assert_eq!(queued(store, &batch).await, [3]);
    check_counters(store, &batch).await;
    let attempt = placed(store, at(&batch, 3)).await;
    finish(store, at(&batch, 3), attempt, answer("itself")).await;
    assert_eq!(fresh(store, &batch).await.status, BatchStatus::Completed);
}

pub async fn equal_jobs_are_cancelled_and_run_again_by_themselves(store: &dyn Store) {
    let jobs = vec![job(0), same(1, 0), same(2, 0), job(3), same(4, 3)];
    let batch = shown(store, jobs).await;
    let attempt = placed(store, at(&batch, 0)).await;
    assert_eq!(store.batch_cancel(batch.no).await.unwrap(), 1);
    check_counters(store, &batch).await;
    finish(store, at(&batch, 0), attempt, answer("a")).await;
    let now = fresh(store, &batch).await;
    assert_eq!(now.status, BatchStatus::Cancelled);
    assert_eq!((now.counts.succeeded, now.counts.failed), (1, 4));
    assert_eq!(store.retry_failed(batch.no, false).await.unwrap(), 4);
    // Whoever they waited for may have its answer already.
    assert_eq!(queued(store, &batch).await, [1, 2, 3, 4]);
    check_counters(store, &batch).await;
}

pub async fn equal_job_of_a_crashing_one_runs_itself(store: &dyn Store) {
    let batch = shown(store, vec![job(0), same(1, 0)]).await;
    for crash in 0..3 {
        let attempt = placed(store, at(&batch, 0)).await;
        assert!(queued(store, &batch).await.is_empty());
        let release = Release {
            job: at(&batch, 0),
            attempt,
            cause: ReleaseCause::Blamed { alone: true },
        };
        store.release_many(vec![release]).await.unwrap();
        let expected: &[u64] = if crash < 2 { &[0] } else { &[1] };
        assert_eq!(queued(store, &batch).await, expected);
    }
    check_counters(store, &batch).await;
}
