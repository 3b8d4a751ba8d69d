use super::*;
use crate::batch::{BatchModel, BatchSpec, Priority, RunKey};
use crate::ids::{JobIndex, JobRef, ModelNo, ModelSha};
use crate::jsonl::{LineOptions, Rendering, survey};
use crate::queue::MemoryQueue;
use crate::record::{Choice, Completed, FinishReason, JobStats, Outcome, ResultRecord, Usage};
use crate::state::BatchStatus;
use crate::store::{Place, PlaceOutcome, SqliteStore};
use std::io::{Cursor, Read};

struct Home {
    batches: Batches,
    dir: tempfile::TempDir,
}

async fn home() -> Home {
    let dir = tempfile::tempdir().unwrap();
    let batches = open(dir.path()).await;
    Home { batches, dir }
}

/// What a new process sees of a home.
async fn open(dir: &Path) -> Batches {
    let path = dir.join("rbee.db");
    let store = SqliteStore::open(&path).await.unwrap();
    Batches::embedded(Arc::new(store), Arc::new(MemoryQueue::new()), &path)
}

fn submission(input: &'static str) -> Submission {
    let spec = BatchSpec::new(LineOptions::new("m"));
    let survey = survey(input.as_bytes(), &spec.options).unwrap();
    let models: Vec<BatchModel> = survey
        .models
        .iter()
        .enumerate()
        .map(|(no, (requested, _))| BatchModel {
            no: ModelNo(no as u32),
            requested: requested.clone(),
            sha256: Some(ModelSha([no as u8; 32])),
            revision: None,
            numerics: None,
        })
        .collect();
    let named: Vec<_> = models
        .iter()
        .map(|model| (model.requested.clone(), model.sha256))
        .collect();
    let key = RunKey {
        input: &survey.digest,
        spec: &spec,
        models: &named,
        numerics: Some("x"),
    };
    Submission {
        owner: "ann".into(),
        name: None,
        key: Some(key.to_key()),
        priority: Priority::Batch,
        pinned_node: None,
        on_done: None,
        digest: Some(survey.digest),
        asked: None,
        spec,
        models,
    }
}

const INPUT: &str =
    "{\"prompt\": \"a\"}\n{\"prompt\": \"b\", \"model\": \"n\"}\noops\n\n{\"prompt\": \"a\"}\n";

async fn submit(batches: &Batches, input: &'static str) -> Result<Submitted, SubmitError> {
    batches.submit(Cursor::new(input), submission(input)).await
}

async fn submitted(batches: &Batches, input: &'static str) -> (Batch, Option<BatchLock>) {
    match submit(batches, input).await.unwrap() {
        Submitted::New(batch, lock) => (*batch, lock),
        Submitted::Existing(batch) => panic!("{} existed", batch.id),
    }
}

/// Answers every queued job with its key, as a deterministic engine would.
async fn answer_all(batches: &Batches, batch: &Batch) {
    let node = NodeInstance::generate();
    let page = batches
        .store()
        .results_page(batch.no, JobIndex(0), 1000)
        .await
        .unwrap();
    for job in page.jobs.iter().filter(|job| !job.state.is_terminal()) {
        let name = JobRef {
            batch: batch.no,
            index: job.index,
        };
        let place = Place {
            job: name,
            node: node.clone(),
            numerics: Some("x".into()),
        };
        let outcome = batches.store().place_many(vec![place]).await.unwrap()[0];
        let PlaceOutcome::Placed(attempt) = outcome else {
            let now = batches.store().job_get(&[name]).await.unwrap();
            let now = now[0].as_ref().unwrap();
            assert!(now.result.is_some(), "{name} is not placed: {outcome:?}");
            continue;
        };
        let record = ResultRecord::completed(Completed {
            choices: vec![Choice {
                index: 0,
                text: job.key.to_hex(),
                finish_reason: FinishReason::Stop,
                logprobs: None,
            }],
            usage: Usage::default(),
            ..Completed::default()
        });
        let finish = Finish {
            job: name,
            attempt,
            record,
            stats: JobStats::default(),
        };
        batches.finish(&node, vec![finish]).await.unwrap();
    }
}

async fn exported(batches: &Batches, batch: &Batch) -> Vec<Option<String>> {
    let mut export = batches
        .export(&batch.id, Rendering::default())
        .await
        .unwrap();
    let mut lines = Vec::new();
    while let Some(page) = export.next_page().await.unwrap() {
        lines.extend(page.into_iter().map(|line| line.rendered.map(|r| r.line)));
    }
    lines
}

#[tokio::test]
async fn input_becomes_a_batch_and_its_results_lines_in_input_order() {
    let home = home().await;
    let (batch, lock) = submitted(&home.batches, INPUT).await;
    assert!(lock.is_some());
    assert_eq!((batch.counts.total, batch.counts.failed), (4, 1));
    let before = exported(&home.batches, &batch).await;
    assert_eq!(before.iter().filter(|line| line.is_none()).count(), 3);
    answer_all(&home.batches, &batch).await;
    let lines = exported(&home.batches, &batch).await;
    let lines: Vec<String> = lines.into_iter().map(Option::unwrap).collect();
    assert_eq!(lines.len(), 4);
    for (index, line) in lines.iter().enumerate() {
        assert!(line.contains(&format!("\"index\":{index},")), "{line}");
    }
    assert!(
        lines[2].contains("invalid_json") && lines[2].contains("\"line\":3"),
        "{}",
        lines[2]
    );
    assert_ne!(lines[0], lines[3], "equal lines have keys of their own");
}

#[tokio::test]
async fn two_homes_give_the_same_bytes() {
    let mut exports = Vec::new();
    for _ in 0..2 {
        let home = home().await;
        let (batch, _lock) = submitted(&home.batches, INPUT).await;
        answer_all(&home.batches, &batch).await;
        exports.push(exported(&home.batches, &batch).await);
    }
    assert_eq!(exports[0], exports[1]);
}

#[tokio::test]
async fn equal_submit_finds_the_first_batch() {
    let home = home().await;
    let (batch, _lock) = submitted(&home.batches, INPUT).await;
    match submit(&home.batches, INPUT).await.unwrap() {
        Submitted::Existing(existing) => assert_eq!(existing.id, batch.id),
        Submitted::New(..) => panic!("an equal batch was made"),
    }
    let (other, _lock) = submitted(&home.batches, "{\"prompt\": \"c\"}").await;
    assert_ne!(other.id, batch.id);
}

#[tokio::test]
async fn running_batch_names_its_process_and_a_dead_one_is_taken_up() {
    let home = home().await;
    let (batch, lock) = submitted(&home.batches, INPUT).await;
    let node = NodeInstance::generate();
    let place = |index| Place {
        job: JobRef {
            batch: batch.no,
            index: JobIndex(index),
        },
        node: node.clone(),
        numerics: Some("x".into()),
    };
    home.batches
        .store()
        .place_many(vec![place(0), place(1)])
        .await
        .unwrap();
    let second = open(home.dir.path()).await;
    let error = second.take(&batch.id).unwrap_err();
    assert!(
        error.to_string().contains(&std::process::id().to_string()),
        "{error}"
    );
    drop(lock);
    let _lock = second.take(&batch.id).unwrap();
    let resumed = second.resume(&batch).await.unwrap();
    assert_eq!((resumed.released, resumed.retried), (2, 0));
    answer_all(&second, &batch).await;
    let done = second.store().batch_get(&batch.id).await.unwrap().unwrap();
    assert_eq!(done.status, BatchStatus::Completed);
}

#[tokio::test]
async fn input_that_changed_since_the_survey_is_refused() {
    let home = home().await;
    let error = home
        .batches
        .submit(Cursor::new("{\"prompt\": \"z\"}"), submission(INPUT))
        .await
        .unwrap_err();
    assert!(matches!(error, SubmitError::InputChanged), "{error}");
    assert!(
        home.batches
            .store()
            .batch_hidden()
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn broken_input_leaves_nothing() {
    let broken = Cursor::new("{\"prompt\": \"a\"}\n".repeat(10_000)).chain(Failing);
    let home = home().await;
    let error = home
        .batches
        .submit(std::io::BufReader::new(broken), submission(INPUT))
        .await
        .unwrap_err();
    assert!(matches!(error, SubmitError::Read(_)), "{error}");
    assert!(
        home.batches
            .store()
            .batch_hidden()
            .await
            .unwrap()
            .is_empty()
    );
    assert!(
        home.batches
            .store()
            .batch_list(None, None, 9)
            .await
            .unwrap()
            .is_empty()
    );
}

struct Failing;

impl Read for Failing {
    fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
        Err(std::io::Error::other("the cable was pulled"))
    }
}

#[tokio::test]
async fn sweep_takes_orphans_and_spares_loads_under_way() {
    let home = home().await;
    let new = || crate::store::NewBatch {
        id: BatchId::generate(),
        owner: "ann".into(),
        name: None,
        idempotency_key: None,
        priority: Priority::Batch,
        pinned_node: None,
        on_done: None,
        spec: BatchSpec::new(LineOptions::new("m")),
        models: vec![],
        asked: None,
    };
    home.batches.store().batch_create(new()).await.unwrap();
    let (loading, _) = home.batches.store().batch_create(new()).await.unwrap();
    let lock = home.batches.take(&loading).unwrap();
    assert_eq!(home.batches.sweep().await.unwrap(), 1);
    assert_eq!(home.batches.store().batch_hidden().await.unwrap().len(), 1);
    drop(lock);
    assert_eq!(home.batches.sweep().await.unwrap(), 1);
}

#[tokio::test]
async fn duplicates_refuse_the_batch_with_all_their_lines() {
    let home = home().await;
    let input = "{\"id\": \"x\", \"prompt\": \"a\"}\n\n{\"id\": \"x\", \"prompt\": \"b\"}\n";
    let error = submit(&home.batches, input).await.unwrap_err();
    assert!(error.to_string().contains("\"x\": lines 1, 3"), "{error}");
}

#[tokio::test]
async fn purge_is_refused_while_the_batch_runs() {
    let home = home().await;
    let (batch, lock) = submitted(&home.batches, INPUT).await;
    assert!(matches!(
        home.batches.purge(&batch).await,
        Err(PurgeError::Lock(_))
    ));
    drop(lock);
    home.batches.purge(&batch).await.unwrap();
    assert_eq!(
        home.batches.store().batch_get(&batch.id).await.unwrap(),
        None
    );
}

#[tokio::test]
async fn failures_by_circumstance_run_again_on_resume() {
    let home = home().await;
    let (batch, _lock) = submitted(&home.batches, INPUT).await;
    let node = NodeInstance::generate();
    let job = JobRef {
        batch: batch.no,
        index: JobIndex(0),
    };
    let place = Place {
        job,
        node: node.clone(),
        numerics: None,
    };
    let outcome = home.batches.store().place_many(vec![place]).await.unwrap()[0];
    let PlaceOutcome::Placed(attempt) = outcome else {
        panic!("{outcome:?}");
    };
    let finish = Finish {
        job,
        attempt,
        record: ResultRecord::failed("out_of_memory", "no room"),
        stats: JobStats::default(),
    };
    home.batches.finish(&node, vec![finish]).await.unwrap();
    let resumed = home.batches.resume(&batch).await.unwrap();
    assert_eq!((resumed.released, resumed.retried), (0, 1));
    answer_all(&home.batches, &batch).await;
    let found = home.batches.store().job_get(&[job]).await.unwrap();
    let result = found[0].clone().unwrap().result.unwrap();
    assert!(matches!(result.record.outcome, Outcome::Completed(_)));
}
