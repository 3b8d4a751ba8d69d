//! How many jobs a second go through an inbox: pushed, taken and done in groups.
//!
//!     cargo run --release -p rbee-queue --example queue_speed [redis://…] [jobs]
//!
//! Without a URL it starts a server of its own. Two queues take part, as in a cluster: one pushes,
//! one takes and ends.

use rbee_queue::queue::{Held, Queue, QueueError, RedisQueue, Work};
use rbee_queue::request::{Endpoint, Input, Params, Request};
use rbee_queue::{Attempt, BatchNo, JobIndex, JobKey, JobRef, ModelSha, NodeInstance, Priority};
use rbee_test_services::Redis;
use std::time::Instant;

const ROOM: usize = 2_000;
/// A prompt's length in bytes.
const PROMPT: usize = 200;

fn work(index: u64) -> Work {
    Work {
        job: JobRef {
            batch: BatchNo(1),
            index: JobIndex(index),
        },
        attempt: Attempt(1),
        request: Some(Request {
            endpoint: Endpoint::ChatCompletions,
            model: "a-model".into(),
            input: Input::Prompt {
                text: "x".repeat(PROMPT),
                raw: false,
            },
            params: Params::default(),
        }),
        key: JobKey([7; 32]),
        seed: 0,
        template_date: "2024-07-26".into(),
        model: ModelSha([9; 32]),
        alone: false,
        priority: Priority::Batch,
    }
}

async fn push_all(
    queue: &RedisQueue,
    node: &NodeInstance,
    jobs: u64,
    group: u64,
) -> Result<(), QueueError> {
    let mut next = 0;
    while next < jobs {
        let work: Vec<Work> = (next..jobs.min(next + group)).map(work).collect();
        match queue.push(node, work).await {
            Ok(()) => next += group,
            Err(QueueError::Full { .. }) => queue.room_made().await,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

async fn take_all(
    queue: &RedisQueue,
    node: &NodeInstance,
    jobs: u64,
    group: u64,
) -> Result<(), QueueError> {
    let mut ended = 0;
    while ended < jobs {
        let taken = queue.take(node, group as usize).await?;
        let held: Vec<Held> = taken.iter().map(Work::held).collect();
        queue.done(node, &held).await?;
        ended += held.len() as u64;
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), QueueError> {
    let mut arguments = std::env::args().skip(1);
    let given = arguments.next();
    let own = given.is_none().then(Redis::start);
    let url = (given.or_else(|| own.as_ref().map(Redis::url))).unwrap_or_default();
    let jobs: u64 = (arguments.next().and_then(|number| number.parse().ok())).unwrap_or(200_000);
    let (coordinator, taker) = (RedisQueue::open(&url).await?, RedisQueue::open(&url).await?);
    for group in [100, 250, 500] {
        let node = NodeInstance::generate();
        taker.join(&node, ROOM).await?;
        let begun = Instant::now();
        tokio::try_join!(
            push_all(&coordinator, &node, jobs, group),
            take_all(&taker, &node, jobs, group),
        )?;
        let seconds = begun.elapsed().as_secs_f64();
        println!(
            "{jobs} jobs in groups of {group}: {:.0} jobs/s",
            jobs as f64 / seconds
        );
        taker.leave(&node).await?;
    }
    Ok(())
}
