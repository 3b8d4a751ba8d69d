//! Results: one a job, numbered, counted; cancels and retries.

use super::*;
use crate::state::{BatchStatus, JobState};
use std::time::Duration;

fn stored(finish_no: u64, batch_done: bool) -> FinishOutcome {
    FinishOutcome::Stored {
        finish_no,
        batch_done,
    }
}

async fn result_of(store: &dyn Store, job: JobRef) -> ResultRecord {
    let found = store.job_get(&[job]).await.unwrap();
    found[0].clone().unwrap().result.unwrap().record
}

pub async fn finish_stores_one_result_with_a_number(store: &dyn Store) {
    let batch = shown(store, vec![job(0), bad_job(1), job(2), job(3)]).await;
    let late = placed(store, at(&batch, 2)).await;
    let early = placed(store, at(&batch, 0)).await;
    // The bad line has number 1 since it was loaded.
    let outcome = finish(store, at(&batch, 0), early, answer("a")).await;
    assert_eq!(outcome, stored(2, false));
    let outcome = finish(store, at(&batch, 2), late, answer("b")).await;
    assert_eq!(outcome, stored(3, false));
    assert_eq!(result_of(store, at(&batch, 0)).await, answer("a"));
    let batch = fresh(store, &batch).await;
    assert_eq!((batch.input_tokens, batch.output_tokens), (6, 4));
    assert_eq!(batch.last_finish_no, 3);
    check_counters(store, &batch).await;
}

pub async fn late_result_of_an_old_attempt_changes_nothing(store: &dyn Store) {
    let batch = shown(store, vec![job(0), job(1)]).await;
    let old = placed(store, at(&batch, 0)).await;
    store.release_batch(batch.no, &[]).await.unwrap();
    let new = placed(store, at(&batch, 0)).await;
    let before = (
        fresh(store, &batch).await,
        store.job_get(&[at(&batch, 0)]).await.unwrap(),
    );
    let outcome = finish(store, at(&batch, 0), old, answer("old")).await;
    assert_eq!(outcome, FinishOutcome::Fenced);
    let after = (
        fresh(store, &batch).await,
        store.job_get(&[at(&batch, 0)]).await.unwrap(),
    );
    assert_eq!(before, after);
    assert_eq!(
        finish(store, at(&batch, 0), new, answer("new")).await,
        stored(1, false)
    );
    assert_eq!(result_of(store, at(&batch, 0)).await, answer("new"));
}

pub async fn second_result_of_one_attempt_changes_nothing(store: &dyn Store) {
    let batch = shown(store, vec![job(0), job(1)]).await;
    let attempt = placed(store, at(&batch, 0)).await;
    finish(store, at(&batch, 0), attempt, answer("first")).await;
    let outcome = finish(store, at(&batch, 0), attempt, answer("second")).await;
    assert_eq!(outcome, FinishOutcome::Fenced);
    assert_eq!(result_of(store, at(&batch, 0)).await, answer("first"));
    check_counters(store, &batch).await;
}

pub async fn one_call_with_the_same_job_twice_stores_it_once(store: &dyn Store) {
    let batch = shown(store, vec![job(0), job(1)]).await;
    let first = placed(store, at(&batch, 0)).await;
    let other = placed(store, at(&batch, 1)).await;
    let outcomes = store
        .finish_many(vec![
            finish_of(at(&batch, 0), first, answer("first")),
            finish_of(at(&batch, 0), first, answer("again")),
            finish_of(at(&batch, 1), other, answer("other")),
        ])
        .await
        .unwrap();
    assert_eq!(
        outcomes,
        [stored(1, true), FinishOutcome::Fenced, stored(2, true)]
    );
    assert_eq!(result_of(store, at(&batch, 0)).await, answer("first"));
    check_counters(store, &batch).await;
}

pub async fn last_result_completes_the_batch(store: &dyn Store) {
    let batch = shown(store, (0..300).map(job).collect()).await;
    let jobs: Vec<JobRef> = (0..300).map(|index| at(&batch, index)).collect();
    let outcomes = place(store, &jobs).await;
    let mut finishes: Vec<Finish> = jobs
        .iter()
        .zip(outcomes)
        .map(|(job, outcome)| match outcome {
            PlaceOutcome::Placed(attempt) => finish_of(*job, attempt, answer("x")),
            other => panic!("{other:?}"),
        })
        .collect();
    let last = finishes.pop().unwrap();
    let outcomes = store.finish_many(finishes).await.unwrap();
    assert_eq!(outcomes[298], stored(299, false));
    assert_eq!(fresh(store, &batch).await.status, BatchStatus::InProgress);
    let outcomes = store.finish_many(vec![last]).await.unwrap();
    assert_eq!(outcomes, [stored(300, true)]);
    let batch = fresh(store, &batch).await;
    assert_eq!(batch.status, BatchStatus::Completed);
    assert!(batch.finished_at_us.unwrap() >= batch.created_at_us);
    check_counters(store, &batch).await;
}

pub async fn counters_equal_rows_after_every_kind_of_end(store: &dyn Store) {
    let batch = shown(store, (0..6).map(job).chain([bad_job(6)]).collect()).await;
    let mut attempts = Vec::new();
    for index in 0..4 {
        attempts.push(placed(store, at(&batch, index)).await);
    }
    check_counters(store, &batch).await;
    finish(store, at(&batch, 0), attempts[0], answer("x")).await;
    let error = ResultRecord::failed("context_length_exceeded", "too long");
    finish(store, at(&batch, 1), attempts[1], error).await;
    check_counters(store, &batch).await;
    store.batch_cancel(batch.no).await.unwrap();
    check_counters(store, &batch).await;
    store.release_batch(batch.no, &[]).await.unwrap();
    check_counters(store, &batch).await;
    let batch = fresh(store, &batch).await;
    assert_eq!(batch.status, BatchStatus::Cancelled);
    assert_eq!(batch.counts.failed, 6);
}

pub async fn cancel_ends_queued_jobs_and_waits_for_placed_ones(store: &dyn Store) {
    let batch = shown(store, (0..5).map(job).collect()).await;
    let attempt = placed(store, at(&batch, 0)).await;
    assert_eq!(store.batch_cancel(batch.no).await.unwrap(), 1);
    assert_eq!(fresh(store, &batch).await.status, BatchStatus::Cancelling);
    assert_eq!(store.recount(batch.no).await.unwrap(), [0, 1, 0, 0, 4]);
    let again = store.batch_cancel(batch.no).await.unwrap();
    assert_eq!(again, 1, "a second cancel is the same as the first");
    let stopped = ResultRecord::failed("cancelled", "the node stopped it");
    let outcome = finish(store, at(&batch, 0), attempt, stopped).await;
    assert_eq!(outcome, stored(5, true));
    assert_eq!(store.recount(batch.no).await.unwrap(), [0, 0, 0, 0, 5]);
    assert_eq!(fresh(store, &batch).await.status, BatchStatus::Cancelled);
    let error = store.batch_cancel(batch.no).await.unwrap_err();
    assert!(matches!(error, StoreError::WrongState { .. }), "{error}");
    check_counters(store, &batch).await;
}

pub async fn result_in_a_cancelling_batch_is_kept(store: &dyn Store) {
    let batch = shown(store, (0..2).map(job).collect()).await;
    let attempt = placed(store, at(&batch, 0)).await;
    store.batch_cancel(batch.no).await.unwrap();
    let outcome = finish(store, at(&batch, 0), attempt, answer("done")).await;
    assert_eq!(outcome, stored(2, true));
    assert_eq!(result_of(store, at(&batch, 0)).await, answer("done"));
}

async fn one_of_each_failure(store: &dyn Store) -> Batch {
    let batch = shown(store, vec![job(0), job(1), bad_job(2), job(3)]).await;
    for (index, code) in [(0, "out_of_memory"), (1, "context_length_exceeded")] {
        let attempt = placed(store, at(&batch, index)).await;
        let record = ResultRecord::failed(code, "…");
        finish(store, at(&batch, index), attempt, record).await;
    }
    let attempt = placed(store, at(&batch, 3)).await;
    finish(store, at(&batch, 3), attempt, answer("x")).await;
    batch
}

pub async fn retry_runs_circumstances_again_and_keeps_verdicts(store: &dyn Store) {
    let batch = one_of_each_failure(store).await;
    assert_eq!(fresh(store, &batch).await.status, BatchStatus::Completed);
    assert_eq!(store.retry_failed(batch.no, true).await.unwrap(), 1);
    assert_eq!(fresh(store, &batch).await.status, BatchStatus::InProgress);
    check_counters(store, &batch).await;
    let attempt = placed(store, at(&batch, 0)).await;
    assert_eq!(attempt, Attempt(2));
    let outcome = finish(store, at(&batch, 0), attempt, answer("now")).await;
    assert_eq!(outcome, stored(5, true));
    assert_eq!(result_of(store, at(&batch, 0)).await, answer("now"));
    assert_eq!(store.retry_failed(batch.no, true).await.unwrap(), 0);
    assert_eq!(fresh(store, &batch).await.status, BatchStatus::Completed);
    check_counters(store, &batch).await;
}

pub async fn retry_of_all_failures_spares_bad_lines(store: &dyn Store) {
    let batch = one_of_each_failure(store).await;
    assert_eq!(store.retry_failed(batch.no, false).await.unwrap(), 2);
    assert_eq!(store.recount(batch.no).await.unwrap(), [2, 0, 1, 1, 0]);
    assert_eq!(
        store.job_get(&[at(&batch, 2)]).await.unwrap()[0]
            .as_ref()
            .unwrap()
            .state,
        JobState::Failed
    );
    check_counters(store, &batch).await;
}

pub async fn retry_of_a_cancelling_batch_is_refused(store: &dyn Store) {
    let batch = shown(store, (0..3).map(job).collect()).await;
    let attempt = placed(store, at(&batch, 0)).await;
    store.batch_cancel(batch.no).await.unwrap();
    // Its jobs would be queued in a batch that places none.
    let error = store.retry_failed(batch.no, false).await.unwrap_err();
    assert!(matches!(error, StoreError::WrongState { .. }), "{error}");
    assert_eq!(store.recount(batch.no).await.unwrap(), [0, 1, 0, 0, 2]);
    finish(store, at(&batch, 0), attempt, answer("x")).await;
    assert_eq!(fresh(store, &batch).await.status, BatchStatus::Cancelled);
    assert_eq!(store.retry_failed(batch.no, false).await.unwrap(), 2);
    assert_eq!(fresh(store, &batch).await.status, BatchStatus::InProgress);
    check_counters(store, &batch).await;
}

pub async fn batch_whose_time_is_up_ends_its_jobs_as_expired(store: &dyn Store) {
    let batch = shown(store, (0..5).map(job).collect()).await;
    let first = placed(store, at(&batch, 0)).await;
    let second = placed(store, at(&batch, 1)).await;
    placed(store, at(&batch, 2)).await;
    assert_eq!(store.batch_expire(batch.no).await.unwrap(), 3);
    let now = fresh(store, &batch).await;
    assert_eq!(now.status, BatchStatus::Finalizing);
    assert!(now.times.finalizing_us.is_some());
    let open = store.batch_open().await.unwrap();
    assert_eq!(open.len(), 1);
    // A cancel comes too late, and the end that was cut off goes on.
    assert!(store.batch_cancel(batch.no).await.is_err());
    assert_eq!(store.batch_expire(batch.no).await.unwrap(), 3);
    let expired = ResultRecord {
        outcome: crate::record::Outcome::Failed(JobError::expired()),
        ..answer("")
    };
    assert_eq!(result_of(store, at(&batch, 4)).await, expired);
    // One was done in time, one was stopped by its node, one came back with its node's end.
    finish(store, at(&batch, 0), first, answer("in time")).await;
    let stopped = ResultRecord::failed("cancelled", "the node stopped it");
    finish(store, at(&batch, 1), second, stopped).await;
    store.release_batch(batch.no, &[]).await.unwrap();
    assert_eq!(result_of(store, at(&batch, 0)).await, answer("in time"));
    for index in 1..5 {
        assert_eq!(result_of(store, at(&batch, index)).await, expired);
    }
    let now = fresh(store, &batch).await;
    assert_eq!(now.status, BatchStatus::Expired);
    assert_eq!((now.counts.succeeded, now.counts.failed), (1, 4));
    check_counters(store, &batch).await;
    assert_eq!(store.retry_failed(batch.no, false).await.unwrap(), 4);
    assert_eq!(fresh(store, &batch).await.times.expires_us, None);
}

pub async fn unfinished_jobs_of_all_batches_are_counted(store: &dyn Store) {
    assert_eq!(store.jobs_open().await.unwrap(), 0);
    let batch = shown(store, (0..3).map(job).chain([bad_job(3)]).collect()).await;
    shown(store, vec![job(0)]).await;
    assert_eq!(store.jobs_open().await.unwrap(), 4);
    let attempt = placed(store, at(&batch, 0)).await;
    finish(store, at(&batch, 0), attempt, answer("a")).await;
    assert_eq!(store.jobs_open().await.unwrap(), 3);
    store.batch_cancel(batch.no).await.unwrap();
    assert_eq!(store.jobs_open().await.unwrap(), 1);
}

pub async fn state_changes_leave_lines_as_they_are(store: &dyn Store) {
    let batch = shown(store, vec![job(0), job(1)]).await;
    let attempt = placed(store, at(&batch, 0)).await;
    finish(store, at(&batch, 0), attempt, answer("x")).await;
    store.batch_cancel(batch.no).await.unwrap();
    for index in 0..2 {
        let found = store.job_get(&[at(&batch, index)]).await.unwrap();
        assert_eq!(found[0].as_ref().unwrap().line, job(index).line);
    }
}

pub async fn ended_batches_are_found_by_owner_and_age(store: &dyn Store) {
    const OLD: Duration = Duration::from_secs(3_600);
    let done = shown(store, vec![job(0)]).await;
    let attempt = placed(store, at(&done, 0)).await;
    finish(store, at(&done, 0), attempt, answer("a")).await;
    let cancelled = shown(store, vec![job(0)]).await;
    store.batch_cancel(cancelled.no).await.unwrap();
    let retried = shown(store, vec![job(0)]).await;
    store.batch_cancel(retried.no).await.unwrap();
    store.retry_failed(retried.no, false).await.unwrap();
    shown(store, vec![job(0)]).await;
    let ended = async |owner, age, limit| {
        let found = store.batch_ended(owner, age, limit).await.unwrap();
        found.iter().map(|batch| batch.no).collect::<Vec<_>>()
    };
    let both = [done.no, cancelled.no];
    assert_eq!(ended(None, Duration::ZERO, 9).await, both);
    assert_eq!(ended(Some(OWNER), Duration::ZERO, 9).await, both);
    assert_eq!(ended(None, Duration::ZERO, 1).await, [done.no]);
    assert_eq!(ended(Some("nobody"), Duration::ZERO, 9).await, []);
    assert_eq!(ended(None, OLD, 9).await, []);
}
