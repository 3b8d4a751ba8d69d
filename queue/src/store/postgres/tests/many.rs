//! Many processes on one batch.

use super::*;
use crate::ids::{Attempt, ModelNo};
use crate::state::BatchStatus;
use std::collections::HashSet;
use std::sync::{Arc, Mutex};

const JOBS: u64 = 400;
const PROCESSES: usize = 4;

/// What all processes together saw.
#[derive(Default)]
struct Ledger {
    placed: HashSet<(JobRef, Attempt)>,
    numbers: HashSet<u64>,
    stored: HashSet<JobRef>,
    done: usize,
}

/// Finds, places and finishes jobs, and gives every third one back, until the batch is done.
async fn work(store: PostgresStore, batch: Batch, ledger: Arc<Mutex<Ledger>>, seed: usize) {
    let node = NodeInstance::generate();
    let mut round = seed;
    loop {
        let now = contract::fresh(&store, &batch).await;
        if now.status.is_terminal() {
            return;
        }
        let query = QueuedQuery {
            batch: batch.no,
            model: ModelNo(0),
            limit: 7 + seed,
        };
        let queued = store.job_queued(query).await.unwrap();
        let mut jobs: Vec<JobRef> = queued.iter().map(|job| job.job).collect();
        // Not in the order in which rows are locked.
        if round.is_multiple_of(2) {
            jobs.reverse();
        }
        let outcomes = contract::place_on(&store, &jobs, &node, "x").await;
        let (mut finishes, mut releases) = (Vec::new(), Vec::new());
        for (job, outcome) in jobs.iter().zip(outcomes) {
            let PlaceOutcome::Placed(attempt) = outcome else {
                continue;
            };
            let first = ledger.lock().unwrap().placed.insert((*job, attempt));
            assert!(first, "{job} was placed twice under {attempt:?}");
            round += 1;
            match round % 3 {
                0 => releases.push(Release {
                    job: *job,
                    attempt,
                    cause: ReleaseCause::Lost,
                }),
                _ => finishes.push(contract::finish_of(*job, attempt, contract::answer("x"))),
            }
        }
        // The same results twice at once: the first one counts.
        let (one, two, held) = futures_util::future::join3(
            store.finish_many(finishes.clone()),
            store.finish_many(finishes.clone()),
            store.release_many(releases),
        )
        .await;
        assert!(held.unwrap().into_iter().all(|held| held));
        let outcomes = one.unwrap().into_iter().chain(two.unwrap());
        let mut ledger = ledger.lock().unwrap();
        for (finish, outcome) in finishes.iter().chain(&finishes).zip(outcomes) {
            if let FinishOutcome::Stored { finish_no, .. } = outcome {
                assert!(ledger.stored.insert(finish.job), "{} twice", finish.job);
                assert!(ledger.numbers.insert(finish_no), "number {finish_no} twice");
            }
        }
        ledger.done += 1;
    }
}

async fn stores() -> Vec<PostgresStore> {
    let url = Postgres::shared().database();
    let opens = (0..PROCESSES).map(|_| PostgresStore::open(&url));
    let opened = futures_util::future::join_all(opens).await;
    opened.into_iter().map(Result::unwrap).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_processes_place_each_attempt_once_and_store_one_result_a_job() {
    let stores = stores().await;
    let batch = contract::shown(&stores[0], (0..JOBS).map(job).collect()).await;
    let ledger = Arc::new(Mutex::new(Ledger::default()));
    let workers: Vec<_> = stores
        .iter()
        .enumerate()
        .map(|(seed, store)| {
            let work = work(store.clone(), batch.clone(), Arc::clone(&ledger), seed);
            tokio::spawn(work)
        })
        .collect();
    for worker in workers {
        worker.await.unwrap();
    }
    let seen = std::mem::take(&mut *ledger.lock().unwrap());
    assert_eq!(seen.stored.len() as u64, JOBS);
    assert_eq!(seen.numbers, (1..=JOBS).collect());
    let after = contract::fresh(&stores[1], &batch).await;
    assert_eq!(after.status, BatchStatus::Completed);
    assert_eq!(after.counts.succeeded, JOBS);
    contract::check_counters(&stores[1], &batch).await;
    let results = stores[2].finished_since(batch.no, 0, 10_000).await.unwrap();
    let numbers: Vec<u64> = results.iter().map(|result| result.finish_no).collect();
    assert_eq!(numbers, (1..=JOBS).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn cancel_amid_placements_and_releases_leaves_no_job_behind() {
    let stores = stores().await;
    let batch = contract::shown(&stores[0], (0..JOBS).map(job).collect()).await;
    let ledger = Arc::new(Mutex::new(Ledger::default()));
    let workers: Vec<_> = stores[1..]
        .iter()
        .enumerate()
        .map(|(seed, store)| {
            let work = work(store.clone(), batch.clone(), Arc::clone(&ledger), seed);
            tokio::spawn(work)
        })
        .collect();
    let deadline = std::time::Instant::now() + Duration::from_secs(120);
    while ledger.lock().unwrap().done < 3 {
        assert!(std::time::Instant::now() < deadline);
        tokio::task::yield_now().await;
    }
    stores[0].batch_cancel(batch.no).await.unwrap();
    for worker in workers {
        worker.await.unwrap();
    }
    let after = contract::fresh(&stores[0], &batch).await;
    assert_eq!(after.status, BatchStatus::Cancelled);
    assert_eq!(after.counts.unfinished(), 0);
    contract::check_counters(&stores[0], &batch).await;
    let [queued, placed, ..] = stores[0].recount(batch.no).await.unwrap();
    assert_eq!((queued, placed), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn first_of_many_placements_pins_the_numerics() {
    let stores = stores().await;
    let batch = contract::shown(&stores[0], (0..JOBS).map(job).collect()).await;
    let places = stores.iter().enumerate().map(|(process, store)| {
        let store = store.clone();
        let jobs: Vec<JobRef> = (0..JOBS)
            .filter(|index| index % PROCESSES as u64 == process as u64)
            .map(|index| contract::at(&batch, index))
            .collect();
        tokio::spawn(async move {
            let numerics = format!("numerics of {process}");
            contract::place_on(&store, &jobs, &NodeInstance::generate(), &numerics).await
        })
    });
    let mut winners = 0;
    for outcomes in futures_util::future::join_all(places).await {
        let outcomes = outcomes.unwrap();
        let placed = |outcome: &PlaceOutcome| matches!(outcome, PlaceOutcome::Placed(_));
        winners += usize::from(outcomes.iter().all(placed));
        assert!(outcomes.iter().all(placed) || !outcomes.iter().any(placed));
    }
    assert_eq!(winners, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn equal_batches_sealed_at_once_are_one() {
    let stores = stores().await;
    let seals = stores.iter().cloned().map(|store| {
        tokio::spawn(async move {
            contract::sealed(&store, new_batch(Some("k")), vec![job(0), job(1)]).await
        })
    });
    let mut shown = Vec::new();
    let mut existing = Vec::new();
    for sealed in futures_util::future::join_all(seals).await {
        match sealed.unwrap() {
            Sealed::Shown(batch) => shown.push(batch.id),
            Sealed::Existing(batch) => existing.push(batch.id),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((shown.len(), existing.len()), (1, PROCESSES - 1));
    assert!(existing.iter().all(|id| *id == shown[0]));
    let left = stores[0].batch_list(None, None, 10).await.unwrap();
    assert_eq!(left.len(), 1);
    assert!(stores[0].batch_hidden().await.unwrap().is_empty());
}
