//! Answers that a batch takes over from another one.

use super::*;
use crate::state::{BatchStatus, JobState};

fn adoption(batch: &Batch, numerics: Option<&str>, indices: &[u64]) -> Adoption {
    let adopt = |index: &u64| Adopt {
        index: JobIndex(*index),
        record: answer("taken"),
        stats: Some(JobStats::default()),
    };
    Adoption {
        batch: batch.no,
        model: ModelNo(0),
        numerics: numerics.map(str::to_owned),
        jobs: indices.iter().map(adopt).collect(),
    }
}

pub async fn answers_are_taken_over_by_queued_jobs_only(store: &dyn Store) {
    let other = NewJob {
        verdict: Ok(ModelNo(1)),
        ..job(4)
    };
    let jobs = vec![job(0), job(1), bad_job(2), same(3, 0), other, job(5)];
    let batch = shown(store, jobs).await;
    let attempt = placed(store, at(&batch, 1)).await;
    // One is placed, one is bad, one is another model's; one brings another with it.
    let taken = store
        .adopt_many(adoption(&batch, Some("x"), &[0, 1, 2, 4]))
        .await;
    assert_eq!(taken.unwrap(), 2);
    let states: Vec<JobState> = (store.results_page(batch.no, JobIndex(0), 10).await.unwrap())
        .jobs
        .iter()
        .map(|job| job.state)
        .collect();
    use JobState::{Failed, Placed, Queued, Succeeded};
    assert_eq!(
        states,
        [Succeeded, Placed, Failed, Succeeded, Queued, Queued]
    );
    check_counters(store, &batch).await;
    assert_eq!(fresh(store, &batch).await.output_tokens, 4);
    finish(store, at(&batch, 1), attempt, answer("computed")).await;
    let last = placed(store, at(&batch, 4)).await;
    finish(store, at(&batch, 4), last, answer("other")).await;
    let taken = store.adopt_many(adoption(&batch, Some("x"), &[0, 5])).await;
    assert_eq!(taken.unwrap(), 1);
    assert_eq!(fresh(store, &batch).await.status, BatchStatus::Completed);
    let closed = store.adopt_many(adoption(&batch, Some("x"), &[5])).await;
    assert_eq!(closed.unwrap(), 0);
}

pub async fn taken_over_answers_pin_their_numerics(store: &dyn Store) {
    let batch = shown(store, vec![job(0), job(1), job(2)]).await;
    let take = async |numerics, index| {
        let adoption = adoption(&batch, numerics, &[index]);
        store.adopt_many(adoption).await.unwrap()
    };
    assert_eq!(take(None, 0).await, 0);
    assert_eq!(take(Some("x"), 0).await, 1);
    assert_eq!(take(Some("y"), 1).await, 0);
    let node = NodeInstance::generate();
    let refused = place_on(store, &[at(&batch, 1)], &node, "y").await;
    assert_eq!(refused, [PlaceOutcome::OtherNumerics]);
    assert_eq!(take(Some("x"), 1).await, 1);
}
