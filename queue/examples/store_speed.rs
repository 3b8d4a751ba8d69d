//! Measures a store: loading beside a bare COPY of the same rows, placing, finishing, reading.
//!
//! `store_speed URL|PATH [JOBS]`, where the URL names an empty Postgres database and the path a new
//! SQLite file. One line of figures a step, as JSON at the end.

use rbee_queue::ids::ContentHash;
use rbee_queue::jsonl::{Answer, LineOptions, Renderer, Rendering, Shape};
use rbee_queue::store::{
    Finish, FinishOutcome, NewBatch, NewJob, Place, PlaceOutcome, QueuedQuery, Sealed,
};
use rbee_queue::{
    Batch, BatchId, BatchModel, BatchSpec, Choice, Completed, FinishReason, JobIndex, JobStats,
    ModelNo, ModelSha, NodeInstance, PostgresStore, Priority, ResultRecord, SqliteStore, Store,
    Usage,
};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Connection};
use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Jobs of one fill, as a submit has them.
const FILL_JOBS: u64 = 10_000;
/// Jobs of one placement and of one group of results.
const GROUP_JOBS: usize = 500;
/// Jobs of one page.
const PAGE_JOBS: usize = 1_000;
/// Characters of a prompt.
const PROMPT_CHARS: usize = 200;
/// How often the load is measured, in turns with the COPY.
const TURNS: usize = 3;

#[tokio::main]
async fn main() -> Outcome<()> {
    let mut arguments = std::env::args().skip(1);
    let place = arguments.next().ok_or("store_speed URL|PATH [JOBS]")?;
    let jobs: u64 = arguments.next().map_or(Ok(100_000), |text| text.parse())?;
    let postgres = place.starts_with("postgres");
    let store: Arc<dyn Store> = match postgres {
        true => Arc::new(PostgresStore::open(&place).await?),
        false => Arc::new(SqliteStore::open(Path::new(&place)).await?),
    };
    let (mut copies, mut loads) = (Vec::new(), Vec::new());
    let mut batch = None;
    for _ in 0..TURNS {
        if postgres {
            copies.push(bare_copy(&place, jobs).await?);
        }
        let begun = Instant::now();
        batch = Some(load(store.as_ref(), jobs).await?);
        loads.push(begun.elapsed());
    }
    let batch = batch.ok_or("no turn was measured")?;
    let (copy, load) = (middle(&mut copies), middle(&mut loads));
    let [queued, placed, finished] = run(store.as_ref(), &batch, jobs).await?;
    let [paged, rendered] = read(store.as_ref(), &batch).await?;
    let rate = |time: Duration| (jobs as f64 / time.as_secs_f64()).round();
    let figures = serde_json::json!({
        "jobs": jobs,
        "bare_copy_s": copy.map(|time| time.as_secs_f64()),
        "load_s": load.map(|time| time.as_secs_f64()),
        "load_over_copy": copy.zip(load).map(|(copy, load)| load.as_secs_f64() / copy.as_secs_f64()),
        "queued_a_second": rate(queued),
        "placed_a_second": rate(placed),
        "finished_a_second": rate(finished),
        "placed_and_finished_a_second": rate(placed + finished),
        "paged_a_second": rate(paged),
        "rendered_a_second": rate(rendered),
    });
    println!("{figures:#}");
    Ok(())
}

fn middle(times: &mut [Duration]) -> Option<Duration> {
    times.sort_unstable();
    times.get(times.len() / 2).copied()
}

fn line(index: u64) -> String {
    let prompt = format!("{index:08} ").repeat(PROMPT_CHARS / 9 + 1);
    serde_json::json!({ "prompt": &prompt[..PROMPT_CHARS] }).to_string()
}

fn new_job(index: u64) -> NewJob {
    let line = line(index);
    NewJob {
        index: JobIndex(index),
        line_number: index + 1,
        content: ContentHash::of_bad_line(line.as_bytes()),
        line,
        shape: Some(Shape::Short),
        custom_id: None,
        verdict: Ok(ModelNo(0)),
        same_as: None,
    }
}

/// One COPY of keys and lines into a table with the same key.
async fn bare_copy(url: &str, jobs: u64) -> Outcome<Duration> {
    let options: PgConnectOptions = url.parse()?;
    let mut connection: PgConnection = options.connect().await?;
    sqlx::raw_sql(
        "DROP TABLE IF EXISTS bare_copy; CREATE TABLE bare_copy (batch_no BIGINT NOT NULL, \
         idx BIGINT NOT NULL, line TEXT NOT NULL, PRIMARY KEY (batch_no, idx)); CHECKPOINT",
    )
    .execute(&mut connection)
    .await?;
    let begun = Instant::now();
    let mut copy = connection.copy_in_raw("COPY bare_copy FROM STDIN").await?;
    for first in (0..jobs).step_by(FILL_JOBS as usize) {
        let mut rows = String::new();
        for index in first..jobs.min(first + FILL_JOBS) {
            rows.push_str(&format!("1\t{index}\t{}\n", line(index)));
        }
        copy.send(rows.as_bytes()).await?;
    }
    copy.finish().await?;
    let took = begun.elapsed();
    sqlx::raw_sql("DROP TABLE bare_copy; CHECKPOINT")
        .execute(&mut connection)
        .await?;
    connection.close().await?;
    Ok(took)
}

async fn load(store: &dyn Store, jobs: u64) -> Outcome<Batch> {
    let new = NewBatch {
        id: BatchId::generate(),
        owner: "speed".into(),
        name: None,
        idempotency_key: None,
        priority: Priority::Batch,
        pinned_node: None,
        on_done: None,
        spec: BatchSpec::new(LineOptions::new("m")),
        models: vec![BatchModel {
            no: ModelNo(0),
            requested: "m".into(),
            sha256: Some(ModelSha([1; 32])),
            revision: None,
            numerics: None,
        }],
        asked: None,
    };
    let (_, no) = store.batch_create(new).await?;
    let (sender, mut chunks) = tokio::sync::mpsc::channel(2);
    let making = std::thread::spawn(move || {
        for first in (0..jobs).step_by(FILL_JOBS as usize) {
            let chunk: Vec<NewJob> = (first..jobs.min(first + FILL_JOBS)).map(new_job).collect();
            if sender.blocking_send(chunk).is_err() {
                return;
            }
        }
    });
    let begun = Instant::now();
    while let Some(chunk) = chunks.recv().await {
        store.batch_fill(no, chunk).await?;
    }
    making.join().map_err(|_| "the making thread panicked")?;
    let filled = begun.elapsed();
    let Sealed::Shown(batch) = store.batch_seal(no).await? else {
        return Err("the batch is not shown".into());
    };
    eprintln!(
        "filled in {:.2} s, sealed in {:.2} s",
        filled.as_secs_f64(),
        (begun.elapsed() - filled).as_secs_f64()
    );
    Ok(*batch)
}

fn answer(index: u64) -> ResultRecord {
    ResultRecord::completed(Completed {
        choices: vec![Choice {
            index: 0,
            text: format!("the answer to number {index}, of about a hundred characters. ")
                .repeat(2),
            finish_reason: FinishReason::Stop,
            logprobs: None,
        }],
        usage: Usage {
            prompt_tokens: 50,
            completion_tokens: 20,
        },
        ..Completed::default()
    })
}

/// Finds, places and finishes all jobs; the times of each.
async fn run(store: &dyn Store, batch: &Batch, jobs: u64) -> Outcome<[Duration; 3]> {
    let node = NodeInstance::generate();
    let mut times = [Duration::ZERO; 3];
    let mut done = 0;
    while done < jobs {
        let begun = Instant::now();
        let query = QueuedQuery {
            batch: batch.no,
            model: ModelNo(0),
            limit: GROUP_JOBS,
        };
        let queued = store.job_queued(query).await?;
        times[0] += begun.elapsed();
        let places = queued
            .iter()
            .map(|job| Place {
                job: job.job,
                node: node.clone(),
                numerics: Some("x".into()),
            })
            .collect();
        let begun = Instant::now();
        let outcomes = store.place_many(places).await?;
        times[1] += begun.elapsed();
        let mut finishes = Vec::new();
        for (job, outcome) in queued.iter().zip(outcomes) {
            let PlaceOutcome::Placed(attempt) = outcome else {
                return Err(format!("{} was not placed: {outcome:?}", job.job).into());
            };
            finishes.push(Finish {
                job: job.job,
                attempt,
                record: answer(job.job.index.0),
                stats: JobStats {
                    node: node.to_string(),
                    ..JobStats::default()
                },
            });
        }
        let begun = Instant::now();
        let outcomes = store.finish_many(finishes).await?;
        times[2] += begun.elapsed();
        let stored = outcomes
            .iter()
            .filter(|outcome| matches!(outcome, FinishOutcome::Stored { .. }));
        done += stored.count() as u64;
    }
    Ok(times)
}

/// Reads and renders all results; the times of both.
async fn read(store: &dyn Store, batch: &Batch) -> Outcome<[Duration; 2]> {
    let renderer = Renderer::new(
        batch.spec.options.clone(),
        batch.spec.seed,
        batch.shape,
        Rendering::default(),
    );
    let mut times = [Duration::ZERO; 2];
    let mut next = Some(JobIndex(0));
    while let Some(from) = next {
        let begun = Instant::now();
        let page = store.results_page(batch.no, from, PAGE_JOBS).await?;
        times[0] += begun.elapsed();
        let begun = Instant::now();
        for job in &page.jobs {
            let result = job.result.as_ref().ok_or("a job has no result")?;
            let rendered = renderer.render(&Answer {
                index: job.index,
                number: job.line_number,
                text: &job.line,
                key: job.key,
                model: Some(ModelSha([1; 32])),
                numerics: None,
                record: &result.record,
                stats: None,
                finished_at_s: 0,
            });
            std::hint::black_box(rendered);
        }
        times[1] += begun.elapsed();
        next = page.next;
    }
    Ok(times)
}
