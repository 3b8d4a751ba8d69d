//! Making batches: hidden until whole, refused as a whole, one a key.

use super::*;
use crate::batch::INTERACTIVE_OWNER;
use crate::state::{BatchStatus, JobState};

pub async fn filled_batch_is_seen_only_once_sealed(store: &dyn Store) {
    let (id, no) = store.batch_create(new_batch(Some("k"))).await.unwrap();
    store.batch_fill(no, vec![job(0), job(1)]).await.unwrap();
    assert_eq!(store.batch_get(&id).await.unwrap(), None);
    assert_eq!(store.batch_by_key(OWNER, "k").await.unwrap(), None);
    assert!(store.batch_list(None, None, 10).await.unwrap().is_empty());
    let query = QueuedQuery {
        batch: no,
        model: ModelNo(0),
        limit: 10,
    };
    assert!(store.job_queued(query).await.unwrap().is_empty());
    store.batch_fill(no, vec![job(2)]).await.unwrap();
    let Sealed::Shown(batch) = store.batch_seal(no).await.unwrap() else {
        panic!("the batch is not shown");
    };
    assert_eq!(store.batch_get(&id).await.unwrap().unwrap(), *batch);
    assert_eq!(
        store.batch_by_key(OWNER, "k").await.unwrap().unwrap(),
        *batch
    );
    assert_eq!(
        (batch.status, batch.counts.total),
        (BatchStatus::InProgress, 3)
    );
    assert_eq!(batch.models, new_batch(None).models);
    assert_eq!(batch.spec, new_batch(None).spec);
    assert_eq!(store.job_queued(query).await.unwrap().len(), 3);
    let again = store.batch_fill(no, vec![job(3)]).await;
    assert!(again.is_err(), "a shown batch took another job");
}

pub async fn sealed_batch_counts_its_bad_lines_as_failed(store: &dyn Store) {
    let batch = shown(store, vec![job(0), bad_job(1), job(2), bad_job(3)]).await;
    assert_eq!((batch.counts.total, batch.counts.failed), (4, 2));
    assert_eq!(batch.last_finish_no, 2);
    let page = store.results_page(batch.no, JobIndex(0), 10).await.unwrap();
    let states: Vec<JobState> = page.jobs.iter().map(|job| job.state).collect();
    use JobState::{Failed, Queued};
    assert_eq!(states, [Queued, Failed, Queued, Failed]);
    let error = page.jobs[1].result.as_ref().unwrap();
    assert_eq!(
        error.record,
        ResultRecord::failed("invalid_json", "the line is broken")
    );
    assert_eq!(page.jobs[1].line_number, 3);
    check_counters(store, &batch).await;
}

pub async fn batch_of_bad_lines_only_is_completed(store: &dyn Store) {
    let batch = shown(store, vec![bad_job(0)]).await;
    assert_eq!(batch.status, BatchStatus::Completed);
    assert!(batch.finished_at_us.is_some());
}

pub async fn empty_batch_is_refused_and_gone(store: &dyn Store) {
    let outcome = sealed(store, new_batch(Some("k")), vec![]).await;
    assert_eq!(outcome, Sealed::Refused(Refusal::Empty));
    assert!(store.batch_hidden().await.unwrap().is_empty());
}

pub async fn duplicate_ids_are_listed_with_their_lines(store: &dyn Store) {
    let jobs = vec![
        named(0, "b"),
        named(1, "a"),
        named(2, "c"),
        named(3, "b"),
        named(4, "a"),
        named(5, "b"),
    ];
    let Sealed::Refused(Refusal::Duplicates { ids, count }) =
        sealed(store, new_batch(Some("k")), jobs).await
    else {
        panic!("duplicates were not refused");
    };
    assert_eq!(count, 2);
    let expected = vec![
        ("b".to_owned(), vec![1, 7, 11]),
        ("a".to_owned(), vec![3, 9]),
    ];
    assert_eq!(ids, expected);
    assert!(store.batch_hidden().await.unwrap().is_empty());
    assert!(store.batch_list(None, None, 10).await.unwrap().is_empty());
}

pub async fn defaulted_ids_take_part_in_the_duplicate_check(store: &dyn Store) {
    let outcome = sealed(store, new_batch(None), vec![job(0), named(1, "0")]).await;
    let ids = vec![("0".to_owned(), vec![1, 3])];
    assert_eq!(
        outcome,
        Sealed::Refused(Refusal::Duplicates { ids, count: 1 })
    );
    // A number that no line has by default, and one with a leading zero, are just names.
    shown(store, vec![job(0), named(1, "7"), named(2, "00")]).await;
    // A line's own index is its own.
    shown(store, vec![named(0, "0"), job(1)]).await;
}

pub async fn equal_jobs_are_numbered_in_input_order(store: &dyn Store) {
    let equal = |index: u64, model: u32| NewJob {
        content: ContentHash([7; 32]),
        verdict: Ok(ModelNo(model)),
        ..job(index)
    };
    let jobs = vec![equal(0, 0), job(1), equal(2, 0), equal(3, 1), equal(4, 0)];
    let single = job(1).content;
    let batch = shown(store, jobs).await;
    let page = store.results_page(batch.no, JobIndex(0), 10).await.unwrap();
    let keys: Vec<_> = page.jobs.iter().map(|job| job.key).collect();
    let equal_key = |n| crate::ids::JobKey::new(&ContentHash([7; 32]), n);
    assert_eq!(
        keys,
        [
            equal_key(0),
            crate::ids::JobKey::new(&single, 0),
            equal_key(1),
            equal_key(0),
            equal_key(2)
        ]
    );
}

pub async fn second_batch_with_a_key_is_answered_by_the_first(store: &dyn Store) {
    let Sealed::Shown(first) = sealed(store, new_batch(Some("k")), vec![job(0)]).await else {
        panic!("the first batch is not shown");
    };
    let second = sealed(store, new_batch(Some("k")), vec![job(0)]).await;
    assert_eq!(second, Sealed::Existing(first));
    assert!(store.batch_hidden().await.unwrap().is_empty());
    assert_eq!(store.batch_list(None, None, 10).await.unwrap().len(), 1);
}

pub async fn key_is_free_after_cancel_purge_and_request(store: &dyn Store) {
    for round in 0..3 {
        let Sealed::Shown(batch) = sealed(store, new_batch(Some("k")), vec![job(0)]).await else {
            panic!("the key was not free in round {round}");
        };
        match round {
            0 => assert_eq!(store.batch_cancel(batch.no).await.unwrap(), 0),
            1 => assert!(store.batch_delete(batch.no).await.unwrap()),
            _ => store.batch_free_key(batch.no).await.unwrap(),
        }
        assert_eq!(store.batch_by_key(OWNER, "k").await.unwrap(), None);
    }
}

pub async fn keys_of_two_owners_do_not_meet(store: &dyn Store) {
    sealed(store, new_batch(Some("k")), vec![job(0)]).await;
    let other = NewBatch {
        owner: "bob".into(),
        ..new_batch(Some("k"))
    };
    assert!(matches!(
        sealed(store, other, vec![job(0)]).await,
        Sealed::Shown(_)
    ));
    assert_eq!(
        store.batch_list(Some("bob"), None, 10).await.unwrap().len(),
        1
    );
    assert_eq!(store.batch_list(None, None, 10).await.unwrap().len(), 2);
    let single = NewBatch {
        owner: INTERACTIVE_OWNER.into(),
        ..new_batch(None)
    };
    let single = sealed(store, single, vec![job(0)]).await;
    assert!(matches!(single, Sealed::Shown(_)));
    assert_eq!(
        store.batch_list(None, None, 10).await.unwrap().len(),
        2,
        "single requests are listed for those who ask only"
    );
    let asked = store.batch_list(Some(INTERACTIVE_OWNER), None, 10).await;
    assert_eq!(asked.unwrap().len(), 1);
}

pub async fn hidden_batches_are_listed_for_the_sweeper(store: &dyn Store) {
    let orphan = store.batch_create(new_batch(Some("k"))).await.unwrap();
    store.batch_fill(orphan.1, vec![job(0)]).await.unwrap();
    shown(store, vec![job(0)]).await;
    let hidden = store.batch_hidden().await.unwrap();
    assert_eq!(hidden.len(), 1);
    assert_eq!((&hidden[0].id, hidden[0].no), (&orphan.0, orphan.1));
    assert!(hidden[0].idle < Duration::from_secs(60));
    assert!(store.batch_delete(orphan.1).await.unwrap());
    assert!(store.batch_hidden().await.unwrap().is_empty());
    assert!(!store.batch_delete(orphan.1).await.unwrap());
}

pub async fn deleted_batch_leaves_nothing(store: &dyn Store) {
    let batch = shown(store, (0..20).map(job).collect()).await;
    let kept = shown(store, vec![job(0)]).await;
    let attempt = placed(store, at(&batch, 3)).await;
    finish(store, at(&batch, 3), attempt, answer("x")).await;
    assert!(store.batch_delete(batch.no).await.unwrap());
    assert_eq!(store.batch_get(&batch.id).await.unwrap(), None);
    assert_eq!(store.recount(batch.no).await.unwrap(), [0; 5]);
    assert!(store.job_get(&[at(&batch, 3)]).await.unwrap()[0].is_none());
    assert_eq!(fresh(store, &kept).await, kept);
}

pub async fn batches_are_listed_from_the_newest_in_pages(store: &dyn Store) {
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(shown(store, vec![job(0)]).await.id);
    }
    ids.reverse();
    let mut found = Vec::new();
    loop {
        let page = store
            .batch_list(Some(OWNER), found.last(), 2)
            .await
            .unwrap();
        if page.is_empty() {
            break;
        }
        found.extend(page.into_iter().map(|batch| batch.id));
    }
    assert_eq!(found, ids);
}

pub async fn oversized_call_is_refused(store: &dyn Store) {
    let (_, no) = store.batch_create(new_batch(None)).await.unwrap();
    let jobs = (0..=MAX_JOBS_A_CALL as u64).map(job).collect();
    let error = store.batch_fill(no, jobs).await.unwrap_err();
    assert!(matches!(error, StoreError::TooMany { .. }), "{error}");
}
