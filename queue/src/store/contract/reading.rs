//! Reading: in input order, in the order results came, by name.

use super::*;

pub async fn pages_give_every_job_once_in_input_order(store: &dyn Store) {
    let batch = shown(store, (0..25).map(job).collect()).await;
    let mut found = Vec::new();
    let mut next = Some(JobIndex(0));
    while let Some(from) = next {
        let page = store.results_page(batch.no, from, 10).await.unwrap();
        assert!(page.jobs.len() <= 10);
        found.extend(page.jobs.iter().map(|job| job.index.0));
        next = page.next;
    }
    assert_eq!(found, (0..25).collect::<Vec<_>>());
}

pub async fn page_is_bounded_in_bytes(store: &dyn Store) {
    const LONG: usize = 3 << 20;
    let long = |index: u64| NewJob {
        line: "x".repeat(LONG),
        ..job(index)
    };
    let batch = shown(store, (0..6).map(long).collect()).await;
    let page = store
        .results_page(batch.no, JobIndex(0), 100)
        .await
        .unwrap();
    assert!(
        page.jobs.len() < 6,
        "a page of {} long lines",
        page.jobs.len()
    );
    assert_eq!(page.next, Some(JobIndex(page.jobs.len() as u64)));
}

pub async fn results_are_followed_in_the_order_they_came(store: &dyn Store) {
    let batch = shown(store, (0..4).map(job).collect()).await;
    for index in [2, 0, 3] {
        let attempt = placed(store, at(&batch, index)).await;
        finish(
            store,
            at(&batch, index),
            attempt,
            answer(&index.to_string()),
        )
        .await;
    }
    let first = store.finished_since(batch.no, 0, 2).await.unwrap();
    let indices: Vec<u64> = first.iter().map(|result| result.index.0).collect();
    assert_eq!(indices, [2, 0]);
    let rest = store
        .finished_since(batch.no, first[1].finish_no, 9)
        .await
        .unwrap();
    assert_eq!(rest.len(), 1);
    assert_eq!((rest[0].finish_no, rest[0].index), (3, JobIndex(3)));
    assert_eq!(rest[0].result.record, answer("3"));
}

pub async fn errors_are_followed_without_the_answers_between_them(store: &dyn Store) {
    let batch = shown(store, (0..9).map(job).collect()).await;
    for index in 0..9 {
        let attempt = placed(store, at(&batch, index)).await;
        let record = match index % 3 {
            1 => ResultRecord::failed("template_error", "it is wrong"),
            _ => answer("right"),
        };
        finish(store, at(&batch, index), attempt, record).await;
    }
    let numbers = |found: Vec<Finished>| -> Vec<u64> {
        found.iter().map(|result| result.finish_no).collect()
    };
    let read =
        async |after, limit| numbers(store.failed_since(batch.no, after, limit).await.unwrap());
    assert_eq!(read(0, 9).await, [2, 5, 8]);
    assert_eq!(read(2, 1).await, [5]);
    assert!(read(8, 9).await.is_empty());
    for (count, after) in [(0, 8), (1, 5), (2, 2), (3, 0), (9, 0)] {
        let found = store.failed_before_last(batch.no, count).await.unwrap();
        assert_eq!(found, after, "{count}");
    }
}

pub async fn text_with_nul_quotes_and_emoji_reads_back(store: &dyn Store) {
    let strange = "a\u{0}b\u{7f}\"\\\r\n\u{2028}👩‍👩‍👧 '; DROP TABLE jobs; --";
    let mut odd = named(0, "it's \"odd\" 👩‍👩‍👧");
    odd.line = serde_json::json!({ "prompt": strange }).to_string();
    let line = odd.line.clone();
    let batch = shown(store, vec![odd]).await;
    let attempt = placed(store, at(&batch, 0)).await;
    finish(store, at(&batch, 0), attempt, answer(strange)).await;
    let page = store.results_page(batch.no, JobIndex(0), 1).await.unwrap();
    assert_eq!(page.jobs[0].line, line);
    assert_eq!(
        page.jobs[0].result.as_ref().unwrap().record,
        answer(strange)
    );
}

pub async fn ids_and_models_with_nul_read_back(store: &dyn Store) {
    let strange = BatchModel {
        requested: "a\u{0}b".into(),
        ..model(0)
    };
    let new = NewBatch {
        models: vec![strange.clone()],
        ..new_batch(None)
    };
    let ids = vec![named(0, "x\u{0}1"), named(1, "x\u{0}2"), named(2, "x")];
    let batch = match sealed(store, new, ids).await {
        Sealed::Shown(batch) => *batch,
        other => panic!("{other:?}"),
    };
    assert_eq!(batch.models, [strange]);
    let twice = vec![named(0, "x\u{0}1"), named(1, "x\u{0}1")];
    let refused = sealed(store, new_batch(None), twice).await;
    let ids = vec![("x\u{0}1".to_owned(), vec![1, 3])];
    assert_eq!(
        refused,
        Sealed::Refused(Refusal::Duplicates { ids, count: 1 })
    );
}

pub async fn jobs_are_found_by_name(store: &dyn Store) {
    let batch = shown(store, (0..4).map(job).collect()).await;
    let other = shown(store, vec![job(0)]).await;
    let names = [at(&batch, 3), at(&other, 1), at(&other, 0), at(&batch, 3)];
    let found = store.job_get(&names).await.unwrap();
    let indices: Vec<Option<u64>> = found
        .iter()
        .map(|job| job.as_ref().map(|job| job.index.0))
        .collect();
    assert_eq!(indices, [Some(3), None, Some(0), Some(3)]);
}
