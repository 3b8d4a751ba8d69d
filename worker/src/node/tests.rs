//! A node's way of jobs from inbox to store.

use super::bench::*;
use super::*;
use rbee_queue::JobState;
use rbee_queue::store::ReleaseCause;

#[tokio::test(flavor = "multi_thread")]
async fn every_placed_job_gets_its_result_and_the_inbox_is_empty() {
    let mut bench = bench(300, stub_shelf()).await;
    bench.loaded().await;
    bench.place(300, |_| ()).await;
    assert_eq!(bench.finished().await.len(), 300);
    let depth = bench
        .batches
        .queue()
        .depth(&bench.node.instance())
        .await
        .unwrap();
    assert_eq!((depth.waiting, depth.running), (0, 0));
    assert!(bench.running.lock().unwrap().now.is_empty());
    bench.node.drain().await;
    (&mut bench.ended).await.unwrap().unwrap();
    assert_eq!(bench.running.lock().unwrap().crowds.len(), 300);
}

#[tokio::test(flavor = "multi_thread")]
async fn job_that_runs_alone_has_no_mates() {
    let bench = bench(60, stub_shelf()).await;
    bench.loaded().await;
    let lonely = |index: u64| index % 20 == 5;
    bench
        .place(60, |work| work.alone = lonely(work.job.index.0))
        .await;
    bench.finished().await;
    let journal = bench.running.lock().unwrap();
    let crowds = |alone| {
        journal
            .crowds
            .iter()
            .filter(move |(job, _)| lonely(job.index.0) == alone)
    };
    assert!(crowds(true).all(|(_, crowd)| *crowd == 1));
    assert!(crowds(false).any(|(_, crowd)| *crowd > 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn drained_node_finishes_what_runs_and_gives_the_rest_back() {
    let (open, load) = gated();
    let mut bench = bench(200, load).await;
    bench.loaded().await;
    bench.place(200, |_| ()).await;
    bench
        .until(|status| status.engine.is_some_and(|engine| engine.jobs > 0))
        .await;
    bench.node.drain().await;
    bench.until(|status| status.draining).await;
    drop(open);
    (&mut bench.ended).await.unwrap().unwrap();
    let (done, back) = (JobState::Succeeded, JobState::Queued);
    let begun = bench.running.lock().unwrap().crowds.len() as u64;
    assert!(begun > 0 && begun < 200);
    assert_eq!(
        (bench.states(done).await, bench.states(back).await),
        (begun, 200 - begun)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn stopped_node_gives_back_what_it_had_begun() {
    let (open, load) = gated();
    let mut bench = bench(50, load).await;
    bench.loaded().await;
    bench.place(50, |_| ()).await;
    bench
        .until(|status| status.engine.is_some_and(|engine| engine.jobs > 0))
        .await;
    bench.node.stop().await;
    bench.step_to_the_end(&open).await;
    assert_eq!(bench.states(JobState::Placed).await, 0);
    assert!(bench.states(JobState::Queued).await > 0);
    drop(open);
}

#[tokio::test(flavor = "multi_thread")]
async fn resting_node_gives_back_what_runs_and_works_again_later() {
    let (open, load) = gated();
    let mut bench = bench(40, load).await;
    bench.loaded().await;
    bench.place(40, |_| ()).await;
    bench
        .until(|status| status.engine.is_some_and(|engine| engine.jobs > 0))
        .await;
    bench.node.rest(Some("it is late".to_owned())).await;
    let status = bench.until(|status| status.draining).await;
    assert_eq!(status.report.resting.as_deref(), Some("it is late"));
    // What runs gets a moment, and is then given back without its node having left.
    while bench.states(JobState::Placed).await > 0 {
        bench.batches.queue().room_made().await;
    }
    assert_eq!(bench.states(JobState::Queued).await, 40);
    bench.node.rest(None).await;
    let status = bench.until(|status| !status.draining).await;
    assert_eq!(status.report.resting, None);
    assert_eq!(status.resident, [MODEL]);
    drop(open);
    bench.place(40, |_| ()).await;
    assert_eq!(bench.finished().await.len(), 40);
    bench.node.drain().await;
    (&mut bench.ended).await.unwrap().unwrap();
    assert_eq!(bench.states(JobState::Succeeded).await, 40);
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelled_jobs_end_with_their_error_whether_begun_or_not() {
    let (open, load) = gated();
    let mut bench = bench(120, load).await;
    bench.loaded().await;
    let held = bench.place(120, |_| ()).await;
    bench
        .until(|status| status.engine.is_some_and(|engine| engine.jobs > 0))
        .await;
    let left = bench
        .batches
        .queue()
        .cancel(&bench.node.instance(), &held)
        .await
        .unwrap();
    bench
        .batches
        .release(&bench.node.instance(), &left, ReleaseCause::Returned)
        .await
        .unwrap();
    // What has not begun is ended at once.
    while bench.states(JobState::Cancelled).await == 0 {
        bench.batches.queue().room_made().await;
    }
    bench.node.drain().await;
    bench.step_to_the_end(&open).await;
    assert_eq!(bench.states(JobState::Queued).await, left.len() as u64);
    assert_eq!(bench.states(JobState::Placed).await, 0);
    assert!(bench.states(JobState::Cancelled).await > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn model_that_cannot_be_loaded_is_told_and_other_models_jobs_go_back() {
    let mut bench = bench(10, stub_shelf()).await;
    let other = ModelSha([9; 32]);
    bench.node.load(other).await;
    let status = bench.until(|status| status.load_failure.is_some()).await;
    let failure = status.load_failure.unwrap();
    assert_eq!(
        (failure.model, failure.error.code.as_str()),
        (other, "model_not_found")
    );
    bench.place(10, |_| ()).await;
    bench.loaded().await;
    bench.node.drain().await;
    (&mut bench.ended).await.unwrap().unwrap();
    assert_eq!(bench.states(JobState::Placed).await, 0);
}
