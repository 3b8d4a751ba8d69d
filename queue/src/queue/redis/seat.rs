//! The side of the node: one look into its inbox, and what it remembers of the last one.

use super::payload;
use super::scripts::{self, Keys};
use super::{RedisQueue, gone, text, ttl};
use crate::ids::NodeInstance;
use crate::queue::{Control, Held, QueueError, Work};
use redis::Value;
use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};

/// Control messages that are read at once.
const CONTROLS_AT_ONCE: usize = 64;

/// What the process that is a node remembers of its inbox.
#[derive(Default)]
pub(super) struct Seat {
    work: tokio::sync::Mutex<Received>,
    controls: tokio::sync::Mutex<Messages>,
}

/// How far the last reply went.
#[derive(Default)]
struct Received {
    /// The life of the inbox that the number belongs to.
    born: Vec<u8>,
    /// The number of the last reply that arrived.
    number: u64,
    /// Work that arrived beside work that cannot be read, and is for the next call.
    kept: Vec<Work>,
}

#[derive(Default)]
struct Messages {
    born: Vec<u8>,
    number: u64,
    unread: VecDeque<Control>,
}

impl RedisQueue {
    fn seat(&self, node: &NodeInstance) -> Arc<Seat> {
        let mut seats = self.seats.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(seats.entry(node.clone()).or_default())
    }

    /// One look into the inbox.
    pub(super) async fn take_now(
        &self,
        node: &NodeInstance,
        most: usize,
    ) -> Result<Vec<Work>, QueueError> {
        let seat = self.seat(node);
        let mut received = seat.work.lock().await;
        if !received.kept.is_empty() {
            let count = most.min(received.kept.len());
            return Ok(received.kept.drain(..count).collect());
        }
        let arguments = [
            text(most),
            received.born.clone(),
            text(received.number),
            ttl(),
        ];
        let keys = Keys::of(node).jobs();
        let reply: Option<Vec<Value>> = self.link.run(&scripts::TAKE, &keys, &arguments).await?;
        let reply = reply.ok_or_else(|| gone(node))?;
        let mut values = reply.into_iter();
        received.born = values.next().and_then(bytes_of).unwrap_or_default();
        received.number = match values.next() {
            Some(Value::Int(number)) => number.try_into().unwrap_or_default(),
            _ => 0,
        };
        let mut work = Vec::new();
        let mut jobs = Vec::new();
        while let (Some(job), Some(body)) = (values.next(), values.next()) {
            match bytes_of(body).as_deref().and_then(payload::decode) {
                Some(taken) => work.push(taken),
                None => jobs.extend(bytes_of(job).and_then(job_in)),
            }
        }
        if jobs.is_empty() {
            return Ok(work);
        }
        received.kept = work;
        Err(QueueError::Unreadable {
            node: node.clone(),
            jobs,
        })
    }

    /// One look at the messages.
    pub(super) async fn control_now(
        &self,
        node: &NodeInstance,
    ) -> Result<Option<Control>, QueueError> {
        let seat = self.seat(node);
        let mut messages = seat.controls.lock().await;
        if let Some(message) = messages.unread.pop_front() {
            return Ok(Some(message));
        }
        let arguments = [
            messages.born.clone(),
            text(messages.number),
            text(CONTROLS_AT_ONCE),
        ];
        let keys = Keys::of(node).some(&["inbox", "controls"]);
        let script = &scripts::NEXT_CONTROL;
        let reply: Option<Vec<String>> = self.link.run(script, &keys, &arguments).await?;
        let mut reply = reply.ok_or_else(|| gone(node))?.into_iter();
        let born = reply.next().unwrap_or_default().into_bytes();
        if born != messages.born {
            messages.born = born;
            messages.number = 0;
        }
        for entry in reply {
            let Some((number, message)) = payload::control_of(&entry) else {
                continue;
            };
            messages.number = number;
            match message {
                Some(message) => messages.unread.push_back(message),
                None => tracing::warn!(%node, "a control message of another version is left out"),
            }
        }
        Ok(messages.unread.pop_front())
    }
}

fn bytes_of(value: Value) -> Option<Vec<u8>> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) => Some(text.into_bytes()),
        _ => None,
    }
}

fn job_in(text: Vec<u8>) -> Option<Held> {
    payload::job_of(std::str::from_utf8(&text).ok()?)
}
