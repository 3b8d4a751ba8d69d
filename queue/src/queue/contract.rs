//! What every queue must do, as tests over `dyn Queue`.
//!
//! An implementation passes the suite with `queue_contract!(open)`, where `open` is an async
//! function that gives a fresh queue and a guard which keeps it alive.

use super::*;
use crate::batch::Priority;
use crate::ids::{BatchNo, JobIndex};
use crate::request::{Endpoint, Input, Params};
use std::future::Future;
use std::task::Poll;

macro_rules! queue_contract {
    (@all $how:ident ($($given:tt)*)) => {
        $crate::queue::contract::queue_contract!(@$how ($($given)*)
            work_is_taken_in_the_order_it_came,
            work_that_is_there_already_is_passed_over,
            interactive_work_goes_ahead_of_waiting_batches,
            second_join_keeps_what_is_there,
            answer_reaches_whoever_asked,
            inbox_refuses_what_does_not_fit_as_a_whole,
            done_jobs_make_room,
            taker_waits_for_the_first_job,
            taker_of_an_inbox_that_goes_away_gets_nothing,
            inbox_that_goes_away_gives_back_what_it_held,
            cancel_removes_waiting_jobs_and_tells_the_node_of_running_ones,
            control_messages_come_in_order,
            inboxes_do_not_share_jobs,
            watcher_gets_the_text_of_its_job_only,
            text_without_watchers_goes_nowhere,
        );
    };
    (@tests ($open:path) $($name:ident,)*) => {
        $(
            #[tokio::test]
            async fn $name() {
                let (queue, _guard) = $open().await;
                $crate::queue::contract::$name(&queue).await;
            }
        )*
    };
    (@each ($queue:expr) $($name:ident,)*) => {
        $($crate::queue::contract::$name(&$queue).await;)*
    };
    // The whole suite inside one test, for servers that take long to start: `queue` is made anew for each part.
    (each $queue:expr) => {
        $crate::queue::contract::queue_contract!(@all each ($queue))
    };
    ($open:path) => {
        $crate::queue::contract::queue_contract!(@all tests ($open));
    };
}
pub(crate) use queue_contract;

pub fn held(index: u64) -> Held {
    Held {
        job: JobRef {
            batch: BatchNo(1),
            index: JobIndex(index),
        },
        attempt: Attempt(1),
    }
}

pub fn work(index: u64) -> Work {
    Work {
        job: held(index).job,
        attempt: held(index).attempt,
        request: Some(Request {
            endpoint: Endpoint::ChatCompletions,
            model: "m".into(),
            input: Input::Prompt {
                text: format!("number {index}"),
                raw: false,
            },
            params: Params::default(),
        }),
        key: JobKey([0; 32]),
        seed: 0,
        template_date: "2024-07-26".into(),
        model: ModelSha([0; 32]),
        alone: false,
        priority: Priority::Batch,
    }
}

pub fn many(indices: std::ops::Range<u64>) -> Vec<Work> {
    indices.map(work).collect()
}

pub async fn joined(queue: &dyn Queue, room: usize) -> NodeInstance {
    let node = NodeInstance::generate();
    queue.join(&node, room).await.unwrap();
    node
}

/// Polls once: whether a future is ready without waiting.
pub async fn is_ready<T>(mut future: std::pin::Pin<&mut impl Future<Output = T>>) -> bool {
    std::future::poll_fn(|context| Poll::Ready(future.as_mut().poll(context).is_ready())).await
}

pub async fn work_is_taken_in_the_order_it_came(queue: &dyn Queue) {
    let node = joined(queue, 10).await;
    queue.push(&node, many(0..3)).await.unwrap();
    queue.push(&node, many(3..5)).await.unwrap();
    assert_eq!(queue.take(&node, 2).await.unwrap(), many(0..2));
    assert_eq!(queue.take(&node, 9).await.unwrap(), many(2..5));
    let depth = queue.depth(&node).await.unwrap();
    assert_eq!((depth.waiting, depth.running), (0, 5));
}

pub async fn inbox_refuses_what_does_not_fit_as_a_whole(queue: &dyn Queue) {
    let node = joined(queue, 3).await;
    queue.push(&node, many(0..2)).await.unwrap();
    queue.take(&node, 1).await.unwrap();
    let error = queue.push(&node, many(2..4)).await.unwrap_err();
    let full = QueueError::Full {
        node: node.clone(),
        room: 1,
        given: 2,
    };
    assert_eq!(error, full);
    assert_eq!(queue.depth(&node).await.unwrap().waiting, 1);
    queue.push(&node, many(2..3)).await.unwrap();
}

pub async fn done_jobs_make_room(queue: &dyn Queue) {
    let node = joined(queue, 2).await;
    queue.push(&node, many(0..2)).await.unwrap();
    queue.take(&node, 2).await.unwrap();
    queue.room_made().await;
    let mut room = std::pin::pin!(queue.room_made());
    assert!(!is_ready(room.as_mut()).await);
    queue.done(&node, &[held(0)]).await.unwrap();
    room.await;
    queue.push(&node, many(2..3)).await.unwrap();
    assert_eq!(queue.held(&node).await.unwrap().len(), 2);
}

pub async fn taker_waits_for_the_first_job(queue: &dyn Queue) {
    let node = joined(queue, 2).await;
    let mut take = std::pin::pin!(queue.take(&node, 5));
    assert!(!is_ready(take.as_mut()).await);
    queue.push(&node, many(0..1)).await.unwrap();
    assert_eq!(take.await.unwrap(), many(0..1));
}

pub async fn taker_of_an_inbox_that_goes_away_gets_nothing(queue: &dyn Queue) {
    let node = joined(queue, 2).await;
    let mut take = std::pin::pin!(queue.take(&node, 5));
    let mut control = std::pin::pin!(queue.next_control(&node));
    assert!(!is_ready(take.as_mut()).await);
    assert!(!is_ready(control.as_mut()).await);
    queue.leave(&node).await.unwrap();
    let gone = QueueError::NoSuchNode { node: node.clone() };
    assert_eq!(take.await.unwrap_err(), gone);
    assert_eq!(control.await.unwrap_err(), gone);
    let error = queue.push(&node, many(0..1)).await.unwrap_err();
    assert_eq!(error, gone);
}

pub async fn inbox_that_goes_away_gives_back_what_it_held(queue: &dyn Queue) {
    let node = joined(queue, 5).await;
    queue.push(&node, many(0..3)).await.unwrap();
    queue.take(&node, 1).await.unwrap();
    let mut back = queue.leave(&node).await.unwrap();
    back.sort_by_key(|held| held.job);
    assert_eq!(back, [held(0), held(1), held(2)]);
    assert!(queue.leave(&node).await.unwrap().is_empty());
}

pub async fn cancel_removes_waiting_jobs_and_tells_the_node_of_running_ones(queue: &dyn Queue) {
    let node = joined(queue, 5).await;
    queue.push(&node, many(0..3)).await.unwrap();
    queue.take(&node, 1).await.unwrap();
    let stale = Held {
        attempt: Attempt(7),
        ..held(2)
    };
    let removed = queue
        .cancel(&node, &[held(0), held(1), stale])
        .await
        .unwrap();
    assert_eq!(removed, [held(1)]);
    let message = queue.next_control(&node).await.unwrap();
    assert_eq!(message, Control::Cancel(vec![held(0)]));
    assert_eq!(queue.take(&node, 5).await.unwrap(), many(2..3));
}

pub async fn control_messages_come_in_order(queue: &dyn Queue) {
    let node = joined(queue, 1).await;
    let cancel = Control::Cancel(vec![held(0)]);
    queue.control(&node, cancel.clone()).await.unwrap();
    queue.control(&node, Control::Drain).await.unwrap();
    assert_eq!(queue.next_control(&node).await.unwrap(), cancel);
    assert_eq!(queue.next_control(&node).await.unwrap(), Control::Drain);
}

pub async fn inboxes_do_not_share_jobs(queue: &dyn Queue) {
    let (one, other) = (joined(queue, 5).await, joined(queue, 5).await);
    queue.push(&one, many(0..1)).await.unwrap();
    queue.push(&other, many(1..2)).await.unwrap();
    assert_eq!(queue.take(&other, 5).await.unwrap(), many(1..2));
    assert_eq!(queue.take(&one, 5).await.unwrap(), many(0..1));
}

pub fn text(index: u64, first_token: u32) -> TextEvent {
    TextEvent {
        job: held(index).job,
        attempt: Attempt(1),
        choice: 0,
        first_token,
        tokens: 2,
        text: "ab".into(),
    }
}

pub async fn watcher_gets_the_text_of_its_job_only(queue: &dyn Queue) {
    let mut watcher = queue.watch(held(0).job).await.unwrap();
    queue.publish(vec![text(0, 0), text(1, 0)]).await;
    queue.publish(vec![text(0, 2)]).await;
    assert_eq!(watcher.recv().await.unwrap(), text(0, 0));
    assert_eq!(watcher.recv().await.unwrap(), text(0, 2));
    assert!(watcher.is_empty());
}

pub async fn text_without_watchers_goes_nowhere(queue: &dyn Queue) {
    drop(queue.watch(held(0).job).await.unwrap());
    queue.publish(vec![text(0, 0)]).await;
    let late = queue.watch(held(0).job).await.unwrap();
    assert!(late.is_empty());
}

pub async fn work_that_is_there_already_is_passed_over(queue: &dyn Queue) {
    let node = joined(queue, 3).await;
    queue.push(&node, many(0..2)).await.unwrap();
    queue.take(&node, 1).await.unwrap();
    queue.push(&node, many(0..3)).await.unwrap();
    assert_eq!(queue.take(&node, 5).await.unwrap(), many(1..3));
}

pub async fn interactive_work_goes_ahead_of_waiting_batches(queue: &dyn Queue) {
    let node = joined(queue, 9).await;
    let urgent = |index| Work {
        priority: Priority::Interactive,
        ..work(index)
    };
    queue.push(&node, many(0..2)).await.unwrap();
    queue.push(&node, vec![urgent(5), work(2)]).await.unwrap();
    queue.push(&node, vec![urgent(6)]).await.unwrap();
    let taken = queue.take(&node, 9).await.unwrap();
    let order: Vec<u64> = taken.iter().map(|work| work.job.index.0).collect();
    assert_eq!(order, [5, 6, 0, 1, 2]);
}

pub async fn second_join_keeps_what_is_there(queue: &dyn Queue) {
    let node = joined(queue, 9).await;
    queue.push(&node, many(0..2)).await.unwrap();
    queue.join(&node, 9).await.unwrap();
    assert_eq!(queue.held(&node).await.unwrap().len(), 2);
}

pub async fn answer_reaches_whoever_asked(queue: &dyn Queue) {
    queue.answer("early", "bird".into()).await.unwrap();
    let patience = Duration::from_secs(120);
    let early = queue.answered("early", patience).await.unwrap();
    assert_eq!(early.as_deref(), Some("bird"));
    let (late, ()) = tokio::join!(queue.answered("late", patience), async {
        queue.answer("late", "worm".into()).await.unwrap();
    });
    assert_eq!(late.unwrap().as_deref(), Some("worm"));
    let none = queue.answered("never", Duration::from_millis(20)).await;
    assert_eq!(none.unwrap(), None);
}
