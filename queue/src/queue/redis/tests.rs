//! What a queue on Redis must do beyond the contract.

use super::*;
use crate::queue::contract::{self, held, joined, many, text as piece, work};
use crate::request::Input;
use rbee_test_services::Redis;
use std::time::Instant;

mod kinds;

/// The longest that anything here may take.
const DEADLINE: Duration = Duration::from_secs(120);

async fn open() -> (RedisQueue, Redis) {
    let server = Redis::start();
    let queue = RedisQueue::open(&server.url()).await.unwrap();
    (queue, server)
}

contract::queue_contract!(open);

/// Speaks to the server beside the queue.
async fn say<T: redis::FromRedisValue>(server: &Redis, words: &[&str]) -> T {
    let client = redis::Client::open(server.url()).unwrap();
    let mut wire = client.get_multiplexed_async_connection().await.unwrap();
    let mut cmd = redis::cmd(words[0]);
    cmd.arg(&words[1..]);
    cmd.query_async(&mut wire).await.unwrap()
}

async fn used_memory(server: &Redis) -> u64 {
    let info: String = say(server, &["INFO", "memory"]).await;
    let line = (info.lines()).find_map(|line| line.strip_prefix("used_memory:"));
    line.unwrap().trim().parse().unwrap()
}

/// Repeats what fails while a server is away.
async fn until_done<T, F: Future<Output = Result<T, QueueError>>>(
    mut action: impl FnMut() -> F,
) -> T {
    let begun = Instant::now();
    loop {
        match action().await {
            Ok(done) => return done,
            Err(QueueError::Unavailable { .. }) if begun.elapsed() < DEADLINE => {
                tokio::task::yield_now().await;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

async fn soon<T>(waited: impl Future<Output = T>) -> T {
    (tokio::time::timeout(DEADLINE, waited).await).expect("it comes before the deadline")
}

fn failure(opened: Result<RedisQueue, QueueError>) -> String {
    match opened {
        Ok(_) => panic!("it was opened"),
        Err(error) => error.to_string(),
    }
}

#[tokio::test]
async fn flushed_server_costs_a_join_and_a_push() {
    let (queue, server) = open().await;
    let node = joined(&queue, 9).await;
    queue.push(&node, many(0..3)).await.unwrap();
    assert_eq!(queue.take(&node, 1).await.unwrap(), many(0..1));
    queue.control(&node, Control::Drain).await.unwrap();
    assert_eq!(queue.next_control(&node).await.unwrap(), Control::Drain);
    let () = say(&server, &["FLUSHALL"]).await;
    let () = say(&server, &["SCRIPT", "FLUSH"]).await;
    let error = queue.take(&node, 9).await.unwrap_err();
    assert_eq!(error, QueueError::NoSuchNode { node: node.clone() });
    queue.join(&node, 9).await.unwrap();
    // Its counters begin again, and the reader does not skip anything.
    queue.push(&node, many(1..3)).await.unwrap();
    queue.control(&node, Control::Drain).await.unwrap();
    assert_eq!(queue.take(&node, 9).await.unwrap(), many(1..3));
    let message = soon(queue.next_control(&node)).await.unwrap();
    assert_eq!(message, Control::Drain);
}

#[tokio::test]
async fn each_deleted_key_is_made_up_for() {
    let (queue, server) = open().await;
    let node = joined(&queue, 9).await;
    for name in ["inbox", "urgent", "waiting", "work", "running", "controls"] {
        let urgent = Work {
            priority: Priority::Interactive,
            ..work(7)
        };
        queue.push(&node, many(0..4)).await.unwrap();
        queue.push(&node, vec![urgent.clone()]).await.unwrap();
        assert_eq!(
            queue.take(&node, 1).await.unwrap(),
            std::slice::from_ref(&urgent)
        );
        let key = format!("rbee:{{{node}}}:{name}");
        let _: i64 = say(&server, &["DEL", &key]).await;
        // What a heartbeat and reconciling do.
        queue.join(&node, 9).await.unwrap();
        let lies = queue.held(&node).await.unwrap();
        let all = many(0..4).into_iter().chain([urgent.clone()]);
        let missing = all.filter(|work| !lies.contains(&work.held()));
        queue.push(&node, missing.collect()).await.unwrap();
        // Some may come twice: the node knows that it has them.
        let mut seen = Vec::new();
        while queue.depth(&node).await.unwrap().waiting > 0 || seen.len() < 4 {
            let taken = soon(queue.take(&node, 9)).await.unwrap();
            seen.extend(taken.iter().map(|work| work.job.index.0));
            seen.sort();
            seen.dedup();
            seen.retain(|index| *index < 4);
        }
        let ended: Vec<Held> = queue.held(&node).await.unwrap();
        queue.done(&node, &ended).await.unwrap();
        assert_eq!(
            queue.depth(&node).await.unwrap(),
            Depth::default(),
            "{name}"
        );
    }
}

#[tokio::test]
async fn waiting_callers_outlive_a_restarted_server() {
    let (queue, mut server) = open().await;
    let node = joined(&queue, 9).await;
    let other_side = RedisQueue::open(&server.url()).await.unwrap();
    let taking = async {
        loop {
            match queue.take(&node, 9).await {
                Ok(work) => return work,
                Err(QueueError::Unavailable { .. } | QueueError::NoSuchNode { .. }) => {
                    tokio::task::yield_now().await;
                }
                Err(error) => panic!("{error}"),
            }
        }
    };
    let controlled = async {
        loop {
            match queue.next_control(&node).await {
                Ok(message) => return message,
                Err(QueueError::Unavailable { .. } | QueueError::NoSuchNode { .. }) => {
                    tokio::task::yield_now().await;
                }
                Err(error) => panic!("{error}"),
            }
        }
    };
    let restarted = async {
        tokio::task::yield_now().await;
        tokio::task::spawn_blocking(move || {
            server.down();
            server.up();
            server
        })
        .await
        .unwrap()
    };
    let pushed = async {
        let server = restarted.await;
        until_done(|| other_side.join(&node, 9)).await;
        until_done(|| other_side.push(&node, many(0..2))).await;
        until_done(|| other_side.control(&node, Control::Drain)).await;
        server
    };
    let (work, message, server) = soon(async { tokio::join!(taking, controlled, pushed) }).await;
    assert_eq!(work, many(0..2));
    assert_eq!(message, Control::Drain);
    // The bells are heard again, not only the looks in between.
    let mut watcher = until_done(|| other_side.watch(held(0).job)).await;
    let mut wait = std::pin::pin!(queue.take(&node, 9));
    assert!(!contract::is_ready(wait.as_mut()).await);
    queue.publish(vec![piece(0, 0)]).await;
    assert_eq!(soon(watcher.recv()).await.unwrap(), piece(0, 0));
    other_side.push(&node, many(2..3)).await.unwrap();
    assert_eq!(soon(wait).await.unwrap(), many(2..3));
    drop(server);
}

#[tokio::test]
async fn work_of_an_abandoned_take_is_handed_out_again() {
    let (queue, server) = open().await;
    let node = joined(&queue, 9).await;
    queue.push(&node, many(0..3)).await.unwrap();
    assert_eq!(queue.take(&node, 1).await.unwrap(), many(0..1));
    {
        let mut take = std::pin::pin!(queue.take(&node, 1));
        // The command is sent, and nobody reads the answer.
        while queue.depth(&node).await.unwrap().running < 2 {
            assert!(!contract::is_ready(take.as_mut()).await);
        }
    }
    assert_eq!(queue.depth(&node).await.unwrap().running, 2);
    assert_eq!(queue.take(&node, 9).await.unwrap(), many(1..3));
    assert_eq!(queue.depth(&node).await.unwrap().running, 3);
    drop(server);
}

#[tokio::test]
async fn ended_jobs_leave_nothing_behind() {
    let (queue, server) = open().await;
    let node = joined(&queue, 300).await;
    let keys_before: u64 = say(&server, &["DBSIZE"]).await;
    let mut memory = Vec::new();
    for round in 0..40 {
        let from = round * 200;
        let work: Vec<Work> = (many(from..from + 200).into_iter())
            .map(|work| with_prompt(work, 2_000))
            .collect();
        queue.push(&node, work).await.unwrap();
        let taken = queue.take(&node, 300).await.unwrap();
        assert_eq!(taken.len(), 200);
        let taken: Vec<Held> = taken.iter().map(Work::held).collect();
        queue.done(&node, &taken).await.unwrap();
        memory.push(used_memory(&server).await);
    }
    let keys_after: u64 = say(&server, &["DBSIZE"]).await;
    assert_eq!(keys_after, keys_before);
    let grown = memory[39].saturating_sub(memory[4]);
    assert!(grown < 300_000, "used memory grew by {grown}: {memory:?}");
    queue.leave(&node).await.unwrap();
    let keys_left: u64 = say(&server, &["DBSIZE"]).await;
    assert_eq!(keys_left, 0);
}

fn with_prompt(work: Work, bytes: usize) -> Work {
    let mut request = work.request.clone().unwrap();
    request.input = Input::Prompt {
        text: "x".repeat(bytes),
        raw: false,
    };
    Work {
        request: Some(request),
        ..work
    }
}

#[tokio::test]
async fn every_key_of_an_inbox_has_a_time_to_live_that_a_join_renews() {
    let (queue, server) = open().await;
    let node = joined(&queue, 9).await;
    queue.push(&node, many(0..3)).await.unwrap();
    queue.take(&node, 1).await.unwrap();
    queue.control(&node, Control::Drain).await.unwrap();
    let keys: Vec<String> = say(&server, &["KEYS", "*"]).await;
    assert_eq!(keys.len(), 5, "{keys:?}");
    for key in &keys {
        let seconds: i64 = say(&server, &["TTL", key]).await;
        assert!(seconds > 600, "{key} lives for {seconds} s");
        let _: i64 = say(&server, &["EXPIRE", key, "5"]).await;
    }
    queue.join(&node, 9).await.unwrap();
    for key in &keys {
        let seconds: i64 = say(&server, &["TTL", key]).await;
        assert!(seconds > 600, "{key} lives for {seconds} s");
    }
}

#[tokio::test]
async fn full_server_refuses_work_loudly_and_keeps_what_it_took_over() {
    let server = Redis::with(&["--maxmemory", "6mb", "--maxmemory-policy", "noeviction"]);
    let queue = RedisQueue::open(&server.url()).await.unwrap();
    let node = joined(&queue, 100_000).await;
    let mut taken_over = 0;
    let error = loop {
        let work = with_prompt(work(taken_over), 60_000);
        match queue.push(&node, vec![work]).await {
            Ok(()) => taken_over += 1,
            Err(error) => break error,
        }
        assert!(taken_over < 1_000);
    };
    let QueueError::Unavailable { reason, .. } = &error else {
        panic!("{error}");
    };
    assert!(reason.contains("memory is full"), "{reason}");
    assert_eq!(queue.held(&node).await.unwrap().len() as u64, taken_over);
    // Heartbeats, taking and ending go on, and make room.
    queue.join(&node, 100_000).await.unwrap();
    let taken = queue.take(&node, 1_000).await.unwrap();
    assert_eq!(taken.len() as u64, taken_over);
    let taken: Vec<Held> = taken.iter().map(Work::held).collect();
    queue.done(&node, &taken).await.unwrap();
    queue.push(&node, many(0..10)).await.unwrap();
}

#[tokio::test]
async fn request_that_is_too_large_stays_in_the_store() {
    let (queue, server) = open().await;
    let node = joined(&queue, 9).await;
    let (small, large) = (with_prompt(work(0), 60_000), with_prompt(work(1), 70_000));
    queue
        .push(&node, vec![small.clone(), large.clone()])
        .await
        .unwrap();
    let without = Work {
        request: None,
        ..large
    };
    assert_eq!(queue.take(&node, 9).await.unwrap(), [small, without]);
    drop(server);
}

#[tokio::test]
async fn payload_of_another_version_is_reported_and_not_handed_out() {
    let (queue, server) = open().await;
    let node = joined(&queue, 9).await;
    queue.push(&node, many(0..3)).await.unwrap();
    let key = format!("rbee:{{{node}}}:work");
    let _: i64 = say(&server, &["HSET", &key, "1.1.1", "2{\"later\":true}"]).await;
    let error = queue.take(&node, 9).await.unwrap_err();
    let unreadable = QueueError::Unreadable {
        node: node.clone(),
        jobs: vec![held(1)],
    };
    assert_eq!(error, unreadable);
    assert_eq!(queue.take(&node, 9).await.unwrap(), [work(0), work(2)]);
    queue
        .done(&node, &[held(0), held(1), held(2)])
        .await
        .unwrap();
    assert_eq!(queue.depth(&node).await.unwrap(), Depth::default());
}

#[tokio::test]
async fn coordinator_and_node_meet_on_one_server() {
    let (node_side, server) = open().await;
    let server_side = RedisQueue::open(&server.url()).await.unwrap();
    let node = joined(&node_side, 2).await;
    let taken = async {
        let work = node_side.take(&node, 5).await.unwrap();
        node_side.publish(vec![piece(0, 0), piece(0, 2)]).await;
        let Control::Logs { ask, .. } = node_side.next_control(&node).await.unwrap() else {
            panic!("another message");
        };
        node_side.answer(&ask, "lines".into()).await.unwrap();
        node_side.done(&node, &[held(0)]).await.unwrap();
        work
    };
    let placed = async {
        server_side.room_made().await;
        let mut watcher = server_side.watch(held(0).job).await.unwrap();
        server_side.push(&node, many(0..2)).await.unwrap();
        assert_eq!(watcher.recv().await.unwrap(), piece(0, 0));
        assert_eq!(watcher.recv().await.unwrap(), piece(0, 2));
        let logs = Control::Logs {
            ask: "a".into(),
            lines: 3,
        };
        server_side.control(&node, logs).await.unwrap();
        let answer = server_side.answered("a", DEADLINE).await.unwrap();
        assert_eq!(answer.as_deref(), Some("lines"));
        server_side.room_made().await;
        until_room(&server_side, &node).await;
    };
    let (work, ()) = soon(async { tokio::join!(taken, placed) }).await;
    assert_eq!(work, many(0..2));
}

async fn until_room(queue: &RedisQueue, node: &NodeInstance) {
    while let Err(error) = queue.push(node, many(2..3)).await {
        assert!(matches!(error, QueueError::Full { .. }), "{error}");
        queue.room_made().await;
    }
}

#[tokio::test]
async fn channel_is_given_up_when_its_last_watcher_is_gone() {
    let (queue, server) = open().await;
    let watchers = [
        queue.watch(held(0).job).await.unwrap(),
        queue.watch(held(1).job).await.unwrap(),
    ];
    let channels: Vec<String> = say(&server, &["PUBSUB", "CHANNELS"]).await;
    assert_eq!(channels.len(), 2);
    drop(watchers);
    let begun = Instant::now();
    loop {
        let channels: Vec<String> = say(&server, &["PUBSUB", "CHANNELS"]).await;
        if channels.is_empty() {
            break;
        }
        assert!(begun.elapsed() < DEADLINE, "{channels:?}");
    }
}

#[tokio::test]
async fn missing_server_is_said_with_its_place() {
    let mut server = Redis::start();
    let url = server.url();
    server.down();
    let error = failure(RedisQueue::open(&url).await);
    assert!(error.contains(&url), "{error}");
}
