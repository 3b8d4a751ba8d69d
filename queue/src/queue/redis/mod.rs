//! The queue on a Redis server, or anything that speaks its language.
//!
//! Inboxes are a few keys for each node (join.lua names them), changed by Lua scripts only, so
//! that each change is whole. Everything that is sent may be done twice without harm. No command
//! blocks: whoever waits looks, waits for a bell (a published message), and looks again.
//!
//! A job that was taken while the taker's connection or task went away is not lost: each `take`
//! carries what the taker last received, and what was handed out after that is handed out again.

mod check;
mod ears;
mod link;
mod payload;
mod place;
mod probe;
mod scripts;
mod seat;
#[cfg(test)]
mod tests;
mod tls;

use super::{Control, Depth, Held, Queue, QueueError, TextEvent, Work};
use crate::batch::Priority;
use crate::ids::{JobRef, NodeInstance};
use async_trait::async_trait;
use ears::{Ears, text_channel};
use link::Link;
use place::{Place, Wire};
pub use probe::QueueProbe;
use scripts::Keys;
use seat::Seat;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::broadcast;

/// The keys of a node live this long after its last heartbeat.
const INBOX_TTL: Duration = Duration::from_secs(15 * 60);
/// Control messages that may wait for a node.
const MAX_CONTROLS: usize = 1024;
/// Jobs that one call cancels: longer lists are cut, so that no script runs long.
const CANCELS_AT_ONCE: usize = 500;
/// Whoever waits for a bell looks again after this long by itself.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// How long an answer is kept for whoever asked.
const ANSWER_KEPT: Duration = Duration::from_secs(60);
/// Text is not worth a longer wait.
const PUBLISH_PATIENCE: Duration = Duration::from_millis(500);

/// The queue of a cluster, on Redis 6.2 or newer, or Valkey.
pub struct RedisQueue {
    place: Arc<Place>,
    link: Link,
    ears: Ears,
    seats: Mutex<HashMap<NodeInstance, Arc<Seat>>>,
}

impl RedisQueue {
    /// Connects, and looks at the server's version and settings. The URL: `redis://`, `rediss://`
    /// with TLS; `redis+sentinel://[:password@]h1:p,h2:p/master[/db]`;
    /// `redis+cluster://[:password@]h1:p,h2:p`; with `rediss+…` those with TLS, whose certificates
    /// `?ssl_ca_certs=FILE&ssl_certfile=FILE&ssl_keyfile=FILE` names.
    ///
    /// # Errors
    /// [`QueueError::Unavailable`]: the URL is of no such form, the server cannot be reached, or it
    /// is too old.
    pub async fn open(url: &str) -> Result<RedisQueue, QueueError> {
        let place = Place::parse(url).map_err(|reason| QueueError::Unavailable {
            place: "the given URL".into(),
            reason,
        })?;
        let place = Arc::new(place);
        let link = Link::new(Arc::clone(&place));
        let server = place.server().await;
        let mut server = server.map_err(|error| link.unavailable(&error))?;
        let checked = check::check(&mut server, place.shown()).await;
        checked.map_err(|reason| QueueError::Unavailable {
            place: place.shown().to_owned(),
            reason,
        })?;
        // The first command would do this too; here an unusable cluster is noticed.
        link.ask::<Option<String>>(redis::cmd("GET").arg("rbee:opened"))
            .await?;
        Ok(RedisQueue {
            ears: Ears::open(Arc::clone(&place)),
            link,
            place,
            seats: Mutex::default(),
        })
    }

    fn bell_of(&self, node: &NodeInstance) -> String {
        format!("rbee:{}:bell:{node}", self.place.db())
    }

    fn room_channel(&self) -> String {
        format!("rbee:{}:room", self.place.db())
    }

    fn answer_channel(&self, ask: &str) -> String {
        format!("rbee:{}:answer:{ask}", self.place.db())
    }
}

fn gone(node: &NodeInstance) -> QueueError {
    QueueError::NoSuchNode { node: node.clone() }
}

fn text(value: impl ToString) -> Vec<u8> {
    value.to_string().into_bytes()
}

fn ttl() -> Vec<u8> {
    text(INBOX_TTL.as_secs())
}

fn jobs_in(texts: &[String]) -> Vec<Held> {
    texts
        .iter()
        .filter_map(|text| payload::job_of(text))
        .collect()
}

#[async_trait]
impl Queue for RedisQueue {
    async fn join(&self, node: &NodeInstance, room: usize) -> Result<(), QueueError> {
        let born = text(uuid::Uuid::now_v7().simple());
        let arguments = [text(room), born, ttl(), text(self.room_channel())];
        let keys = Keys::of(node).all();
        let _made: i64 = self.link.run(&scripts::JOIN, &keys, &arguments).await?;
        Ok(())
    }

    async fn leave(&self, node: &NodeInstance) -> Result<Vec<Held>, QueueError> {
        let arguments = [text(self.bell_of(node)), text(self.room_channel())];
        let keys = Keys::of(node).all();
        let held: Vec<String> = self.link.run(&scripts::LEAVE, &keys, &arguments).await?;
        let mut seats = self.seats.lock().unwrap_or_else(PoisonError::into_inner);
        seats.remove(node);
        Ok(jobs_in(&held))
    }

    async fn push(&self, node: &NodeInstance, work: Vec<Work>) -> Result<(), QueueError> {
        let mut arguments = Vec::with_capacity(2 + work.len() * 3);
        arguments.extend([ttl(), text(self.bell_of(node))]);
        for work in &work {
            let kind = match work.priority {
                Priority::Interactive => "u",
                Priority::Batch => "w",
            };
            let body = payload::encode(work).into_bytes();
            arguments.extend([
                payload::job_text(&work.held()).into_bytes(),
                text(kind),
                body,
            ]);
        }
        let keys = Keys::of(node).jobs();
        let reply: Option<(i64, usize, usize)> =
            self.link.run(&scripts::PUSH, &keys, &arguments).await?;
        match reply {
            None => Err(gone(node)),
            Some((1, _, _)) => Ok(()),
            Some((_, room, given)) => Err(QueueError::Full {
                node: node.clone(),
                room,
                given,
            }),
        }
    }

    async fn take(&self, node: &NodeInstance, most: usize) -> Result<Vec<Work>, QueueError> {
        let bell = self.ears.bell(&self.bell_of(node));
        loop {
            let arrived = bell.arrived.notified();
            let work = self.take_now(node, most).await?;
            if !work.is_empty() {
                return Ok(work);
            }
            // Without a bell it looks again too.
            let _ = tokio::time::timeout(LOOK_AGAIN, arrived).await;
        }
    }

    async fn done(&self, node: &NodeInstance, jobs: &[Held]) -> Result<(), QueueError> {
        if jobs.is_empty() {
            return Ok(());
        }
        let mut arguments = vec![text(self.room_channel())];
        arguments.extend(jobs.iter().map(|job| payload::job_text(job).into_bytes()));
        let keys = Keys::of(node).some(&["work", "running"]);
        let _gone: i64 = self.link.run(&scripts::DONE, &keys, &arguments).await?;
        Ok(())
    }

    async fn cancel(&self, node: &NodeInstance, jobs: &[Held]) -> Result<Vec<Held>, QueueError> {
        let keys = Keys::of(node).all();
        let mut removed = Vec::new();
        for jobs in jobs.chunks(CANCELS_AT_ONCE) {
            let mut arguments = vec![
                ttl(),
                text(self.bell_of(node)),
                text(self.room_channel()),
                text(MAX_CONTROLS),
            ];
            arguments.extend(jobs.iter().map(|job| payload::job_text(job).into_bytes()));
            let some: Vec<String> = self.link.run(&scripts::CANCEL, &keys, &arguments).await?;
            removed.extend(jobs_in(&some));
        }
        Ok(removed)
    }

    async fn control(&self, node: &NodeInstance, message: Control) -> Result<(), QueueError> {
        let body = payload::control_text(&message).into_bytes();
        let arguments = [ttl(), text(self.bell_of(node)), text(MAX_CONTROLS), body];
        let keys = Keys::of(node).some(&["inbox", "controls"]);
        let left: Option<i64> = self.link.run(&scripts::CONTROL, &keys, &arguments).await?;
        match left {
            None => Err(gone(node)),
            Some(0) => Err(QueueError::Full {
                node: node.clone(),
                room: 0,
                given: 1,
            }),
            Some(_) => Ok(()),
        }
    }

    async fn next_control(&self, node: &NodeInstance) -> Result<Control, QueueError> {
        let bell = self.ears.bell(&self.bell_of(node));
        loop {
            let controlled = bell.controlled.notified();
            if let Some(message) = self.control_now(node).await? {
                return Ok(message);
            }
            // Without a bell it looks again too.
            let _ = tokio::time::timeout(LOOK_AGAIN, controlled).await;
        }
    }

    async fn depth(&self, node: &NodeInstance) -> Result<Depth, QueueError> {
        let keys = Keys::of(node).some(&["inbox", "urgent", "waiting", "running"]);
        let depth: Option<(usize, usize)> = self.link.run(&scripts::DEPTH, &keys, &[]).await?;
        let (waiting, running) = depth.ok_or_else(|| gone(node))?;
        Ok(Depth { waiting, running })
    }

    async fn held(&self, node: &NodeInstance) -> Result<Vec<Held>, QueueError> {
        let keys = Keys::of(node).some(&["inbox", "work", "running"]);
        let held: Option<Vec<String>> = self.link.run(&scripts::HELD, &keys, &[]).await?;
        Ok(jobs_in(&held.ok_or_else(|| gone(node))?))
    }

    async fn room_made(&self) {
        let bell = self.ears.bell(&self.room_channel());
        bell.arrived.notified().await;
    }

    async fn publish(&self, events: Vec<TextEvent>) {
        // Without a connection it is lost, and the watchers see a gap.
        let Some(wire) = self.link.at_hand() else {
            return;
        };
        let mut messages: Vec<(JobRef, Vec<TextEvent>)> = Vec::new();
        let mut places: HashMap<JobRef, usize> = HashMap::new();
        for event in events {
            let place = *places.entry(event.job).or_insert(messages.len());
            match messages.get_mut(place) {
                Some((_, events)) => events.push(event),
                None => messages.push((event.job, vec![event])),
            }
        }
        let said = |(job, events): (JobRef, Vec<TextEvent>)| {
            let body = serde_json::to_vec(&events).expect("events have text keys only");
            (text_channel(self.place.db(), job), body)
        };
        let sent = send_all(wire, messages.into_iter().map(said).collect());
        match tokio::time::timeout(PUBLISH_PATIENCE, sent).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "text was not published"),
            Err(_) => tracing::debug!("text was not published in time"),
        }
    }

    async fn watch(&self, job: JobRef) -> Result<broadcast::Receiver<TextEvent>, QueueError> {
        let heard = self.ears.text(text_channel(self.place.db(), job)).await;
        heard.map_err(|reason| QueueError::Unavailable {
            place: self.place.shown().to_owned(),
            reason,
        })
    }

    async fn answer(&self, ask: &str, body: String) -> Result<(), QueueError> {
        let mut kept = redis::cmd("SET");
        kept.arg(answer_key(ask)).arg(body);
        kept.arg("EX").arg(ANSWER_KEPT.as_secs());
        self.link.ask::<()>(&kept).await?;
        let mut rung = redis::cmd("PUBLISH");
        rung.arg(self.answer_channel(ask)).arg("");
        self.link.ask::<i64>(&rung).await?;
        Ok(())
    }

    async fn answered(&self, ask: &str, patience: Duration) -> Result<Option<String>, QueueError> {
        let bell = self.ears.bell(&self.answer_channel(ask));
        let taken = redis::Cmd::get_del(answer_key(ask));
        let waited = tokio::time::timeout(patience, async {
            loop {
                let arrived = bell.arrived.notified();
                let answer: Option<String> = self.link.ask(&taken).await?;
                if let Some(answer) = answer {
                    return Ok(answer);
                }
                let _ = tokio::time::timeout(LOOK_AGAIN, arrived).await;
            }
        });
        waited.await.ok().transpose()
    }
}

fn answer_key(ask: &str) -> String {
    format!("rbee:answer:{ask}")
}

/// Publishes messages, in one go where there is one server.
async fn send_all(mut wire: Wire, messages: Vec<(String, Vec<u8>)>) -> redis::RedisResult<()> {
    let mut pipeline = redis::pipe();
    for (channel, body) in &messages {
        pipeline.publish(channel, body).ignore();
    }
    if let Wire::Single(_) = wire {
        return pipeline.query_async(&mut wire).await;
    }
    let sent = messages.into_iter().map(|(channel, body)| {
        let mut wire = wire.clone();
        async move {
            redis::Cmd::publish(channel, body)
                .exec_async(&mut wire)
                .await
        }
    });
    futures_util::future::try_join_all(sent).await?;
    Ok(())
}
