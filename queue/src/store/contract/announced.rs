//! Batches that are shown before their lines are known.

use super::files::asked;
use super::*;
use crate::file::RefusedLine;
use crate::state::BatchStatus;
use std::time::Duration;

fn new_asked() -> NewBatch {
    NewBatch {
        asked: Some(asked(60)),
        ..new_batch(None)
    }
}

/// A hidden batch with two jobs and a bad line.
async fn filled(store: &dyn Store) -> BatchNo {
    let (_, no) = store.batch_create(new_asked()).await.unwrap();
    let jobs = vec![job(0), bad_job(1), job(2)];
    store.batch_fill(no, jobs).await.unwrap();
    no
}

pub async fn announced_batch_is_seen_without_a_job_until_its_lines_take_its_place(
    store: &dyn Store,
) {
    let new = new_asked();
    let announced = store.batch_announce(new.clone()).await.unwrap();
    assert_eq!(announced.id, new.id);
    assert_eq!(announced.status, BatchStatus::Validating);
    assert_eq!(announced.counts.total, 0);
    let listed = store.batch_announced(10).await.unwrap();
    assert_eq!(listed, std::slice::from_ref(&announced));
    assert_eq!(store.batch_open().await.unwrap(), []);
    assert_eq!(store.batch_hidden().await.unwrap(), []);
    let later = shown(store, vec![job(0)]).await;
    let no = filled(store).await;
    assert_eq!(fresh(store, &announced).await, announced);
    assert_eq!(store.jobs_open().await.unwrap(), 1);
    (store.batch_pause(announced.no, Some("by ann")).await).unwrap();
    let Sealed::Shown(batch) = store.batch_seal_as(no, announced.no).await.unwrap() else {
        panic!("the batch is not shown");
    };
    assert_eq!((&batch.id, batch.no), (&announced.id, no));
    let by_no = store.batch_by_no(no).await.unwrap();
    assert_eq!(by_no.as_ref(), Some(&*batch));
    assert_eq!(store.batch_by_no(announced.no).await.unwrap(), None);
    assert_eq!(batch.status, BatchStatus::InProgress);
    assert_eq!(batch.paused_reason.as_deref(), Some("by ann"));
    assert_eq!(batch.created_at_us, announced.created_at_us);
    assert_eq!(batch.times.expires_us, announced.times.expires_us);
    assert!(batch.times.in_progress_us >= Some(announced.created_at_us));
    assert_eq!((batch.counts.total, batch.counts.failed), (3, 1));
    assert_eq!(fresh(store, &announced).await, *batch);
    check_counters(store, &batch).await;
    assert_eq!(store.batch_announced(10).await.unwrap(), []);
    // Its place among the others is that of the moment when it was announced.
    let ids = |batches: Vec<Batch>| {
        batches
            .into_iter()
            .map(|batch| batch.id)
            .collect::<Vec<_>>()
    };
    let listed = ids(store.batch_list(None, None, 10).await.unwrap());
    assert_eq!(listed, [later.id.clone(), batch.id.clone()]);
    let after = store.batch_list(None, Some(&later.id), 10).await.unwrap();
    assert_eq!(ids(after), [batch.id]);
}

pub async fn place_of_a_batch_that_was_cancelled_meanwhile_is_not_taken(store: &dyn Store) {
    let announced = store.batch_announce(new_asked()).await.unwrap();
    let no = filled(store).await;
    assert_eq!(store.batch_cancel(announced.no).await.unwrap(), 0);
    let cancelled = fresh(store, &announced).await;
    assert_eq!(cancelled.status, BatchStatus::Cancelled);
    assert_eq!(cancelled.counts.total, 0);
    assert!(cancelled.times.cancelling_us.is_some() && cancelled.finished_at_us.is_some());
    let sealed = store.batch_seal_as(no, announced.no).await.unwrap();
    assert_eq!(sealed, Sealed::Existing(Box::new(cancelled)));
    assert_eq!(store.batch_hidden().await.unwrap(), []);
    let refused = store.batch_refuse(announced.no, Vec::new()).await;
    assert!(matches!(refused, Err(StoreError::WrongState { .. })));
}

pub async fn place_is_taken_once(store: &dyn Store) {
    let announced = store.batch_announce(new_asked()).await.unwrap();
    let (first, second) = (filled(store).await, filled(store).await);
    let sealed = store.batch_seal_as(first, announced.no).await.unwrap();
    assert!(matches!(sealed, Sealed::Shown(_)));
    let late = store.batch_seal_as(second, announced.no).await;
    assert!(matches!(late, Err(StoreError::NoSuchBatch)));
    assert_eq!(store.batch_hidden().await.unwrap(), []);
    assert_eq!(fresh(store, &announced).await.no, first);
    // One that is refused as a whole leaves what it was loaded for as it is.
    let announced = store.batch_announce(new_asked()).await.unwrap();
    let (_, empty) = store.batch_create(new_asked()).await.unwrap();
    let sealed = store.batch_seal_as(empty, announced.no).await.unwrap();
    assert_eq!(sealed, Sealed::Refused(Refusal::Empty));
    assert_eq!(fresh(store, &announced).await, announced);
}

pub async fn announced_batch_expires_and_is_purged_like_any_other(store: &dyn Store) {
    let announced = store.batch_announce(new_asked()).await.unwrap();
    assert_eq!(store.batch_expire(announced.no).await.unwrap(), 0);
    let expired = fresh(store, &announced).await;
    assert_eq!(expired.status, BatchStatus::Expired);
    assert!(expired.times.in_progress_us.is_none() && expired.finished_at_us.is_some());
    let ended = store.batch_ended(None, Duration::ZERO, 10).await.unwrap();
    assert_eq!(ended, [expired]);
    assert!(store.batch_delete(announced.no).await.unwrap());
    assert_eq!(store.batch_get(&announced.id).await.unwrap(), None);
}

pub async fn batch_that_is_refused_is_kept_with_its_reasons(store: &dyn Store) {
    let new = new_asked();
    let announced = store.batch_announce(new.clone()).await.unwrap();
    let reasons = vec![RefusedLine {
        code: "duplicate_custom_id".into(),
        message: "\"x\" is used by more than one line".into(),
        line: Some(3),
        param: Some("custom_id".into()),
    }];
    (store.batch_refuse(announced.no, reasons.clone()).await).unwrap();
    let refused = fresh(store, &announced).await;
    assert_eq!(refused.status, BatchStatus::Failed);
    assert_eq!(refused.refused, reasons);
    assert!(refused.finished_at_us.is_some());
    assert_eq!(store.batch_get(&new.id).await.unwrap(), Some(refused));
    assert_eq!(store.batch_hidden().await.unwrap(), []);
    assert_eq!(store.batch_open().await.unwrap(), []);
    assert_eq!(store.batch_announced(10).await.unwrap(), []);
}
