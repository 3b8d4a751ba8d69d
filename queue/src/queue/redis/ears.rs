//! What a process listens to: bells of inboxes, room, answers, and the text of watched jobs.
//!
//! Owns the one pub/sub connection of the process and the task that reads it. A bell says "look
//! again" and nothing more, so a lost one costs time only: every bell rings after a reconnect, and
//! whoever waits for one looks again by itself now and then. Lost text shows as a gap in token
//! numbers.

use super::link;
use super::place::Place;
use crate::ids::JobRef;
use crate::queue::TextEvent;
use futures_util::{FutureExt, StreamExt};
use redis::aio::{PubSubSink, PubSubStream};
use redis::{Msg, RedisError};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, broadcast, mpsc, oneshot};
use tokio::task::JoinHandle;

/// Pieces of text that a slow watcher may lag behind.
const WATCH_BUFFER: usize = 256;
/// Requests to listen that may wait for the task.
const ASKS_WAITING: usize = 1024;
/// Channels that one command subscribes to at most.
const ASKS_AT_ONCE: usize = 256;
/// How often the connection is tried and channels without listeners are given up.
const LOOK_AFTER: Duration = Duration::from_secs(2);
/// The server must answer within this.
const PATIENCE: Duration = Duration::from_secs(3);
/// A bell that nobody waited for this long is given up.
const BELL_KEPT: Duration = Duration::from_secs(60);
/// The wait between two tries to connect, doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// What rings on one channel.
#[derive(Default)]
pub struct Bell {
    /// For those who wait for work, for room or for an answer.
    pub arrived: Notify,
    /// For those who wait for control messages.
    pub controlled: Notify,
}

impl Bell {
    fn ring(&self, message: &[u8]) {
        match message {
            b"work" | b"" => self.arrived.notify_one(),
            b"control" => self.controlled.notify_one(),
            // The inbox is gone, or something was missed: everybody looks.
            _ => {
                self.arrived.notify_one();
                self.arrived.notify_waiters();
                self.controlled.notify_one();
                self.controlled.notify_waiters();
            }
        }
    }
}

enum Ask {
    /// Listen to a channel whose bell is in the map.
    Bell(String),
    /// Listen to a job's text.
    Text(String, Answer),
}

type Heard = broadcast::Receiver<TextEvent>;
type Answer = oneshot::Sender<Result<Heard, String>>;
type Bells = Arc<Mutex<HashMap<String, (Arc<Bell>, Instant)>>>;

/// The process's ears.
pub struct Ears {
    bells: Bells,
    asks: mpsc::Sender<Ask>,
    task: JoinHandle<()>,
}

impl Drop for Ears {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The guarded sections do not panic; if one did, the map is still whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Ears {
    /// Starts the task; it connects when something is to be heard.
    pub fn open(place: Arc<Place>) -> Ears {
        let (asks, receiver) = mpsc::channel(ASKS_WAITING);
        let bells = Bells::default();
        let listener = Listener {
            place,
            bells: Arc::clone(&bells),
            texts: HashMap::new(),
            asks: receiver,
        };
        let task = tokio::spawn(listener.run());
        Ears { bells, asks, task }
    }

    /// The bell of a channel. It rings once when the listening begins.
    pub fn bell(&self, channel: &str) -> Arc<Bell> {
        let mut bells = locked(&self.bells);
        if let Some((bell, used)) = bells.get_mut(channel) {
            *used = Instant::now();
            return Arc::clone(bell);
        }
        let bell = Arc::new(Bell::default());
        // With too many asks waiting, the task is not connected; it then begins with all bells.
        let _ = self.asks.try_send(Ask::Bell(channel.to_owned()));
        bells.insert(channel.to_owned(), (Arc::clone(&bell), Instant::now()));
        bell
    }

    /// A job's text from now on.
    pub async fn text(&self, channel: String) -> Result<Heard, String> {
        let (answer, answered) = oneshot::channel();
        let asked = self.asks.send(Ask::Text(channel, answer)).await;
        asked.map_err(|_| "the queue is closed".to_owned())?;
        answered
            .await
            .unwrap_or_else(|_| Err("the queue is closed".to_owned()))
    }
}

struct Listener {
    place: Arc<Place>,
    bells: Bells,
    texts: HashMap<String, broadcast::Sender<TextEvent>>,
    asks: mpsc::Receiver<Ask>,
}

/// The connection and what it is subscribed to.
struct Line {
    sink: PubSubSink,
    stream: PubSubStream,
    channels: HashSet<String>,
}

impl Listener {
    async fn run(mut self) {
        let mut turn = 0;
        let mut pause = FIRST_PAUSE;
        let mut first = self.asks.recv().await;
        while first.is_some() || !self.asks.is_closed() {
            match self.connected(turn).await {
                Ok(line) => {
                    pause = FIRST_PAUSE;
                    let Err(error) = self.listen(line, first.take()).await else {
                        return;
                    };
                    tracing::warn!(
                        place = self.place.shown(),
                        reason = link::reason(&error),
                        "the queue's pub/sub connection broke"
                    );
                }
                Err(error) => {
                    self.refuse(first.take(), &link::reason(&error));
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
            turn += 1;
        }
    }

    /// A new connection that hears everything that the last one heard.
    async fn connected(&mut self, turn: usize) -> Result<Line, RedisError> {
        self.forget_unused();
        let (sink, stream) = self.place.ears(turn).await?.split();
        let mut line = Line {
            sink,
            stream,
            channels: HashSet::new(),
        };
        let mut channels: Vec<String> = locked(&self.bells).keys().cloned().collect();
        channels.extend(self.texts.keys().cloned());
        line.subscribe(channels).await?;
        for (bell, _) in locked(&self.bells).values() {
            bell.ring(b"missed");
        }
        Ok(line)
    }

    /// Those who ask while there is no connection are told so.
    fn refuse(&mut self, first: Option<Ask>, reason: &str) {
        let more = std::iter::from_fn(|| self.asks.try_recv().ok());
        for ask in first.into_iter().chain(more) {
            if let Ask::Text(_, answer) = ask {
                drop(answer.send(Err(reason.to_owned())));
            }
        }
    }

    /// Serves the connection until it breaks, or until nobody can ask any more.
    async fn listen(&mut self, mut line: Line, first: Option<Ask>) -> Result<(), RedisError> {
        let mut asks: Vec<Ask> = first.into_iter().collect();
        self.answer(&mut line, &mut asks).await?;
        let mut tick = tokio::time::interval(LOOK_AFTER);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                message = line.stream.next() => match message {
                    Some(message) => self.hear(&message),
                    None => return Err(closed()),
                },
                count = self.asks.recv_many(&mut asks, ASKS_AT_ONCE) => {
                    if count == 0 {
                        return Ok(());
                    }
                    self.answer(&mut line, &mut asks).await?;
                }
                _ = tick.tick() => {
                    self.forget_unused();
                    self.unsubscribe_unused(&mut line).await?;
                    soon(line.sink.ping::<redis::Value>()).await?;
                }
            }
        }
    }

    /// Subscribes to what is asked for, and says so to those who asked.
    async fn answer(&mut self, line: &mut Line, asks: &mut Vec<Ask>) -> Result<(), RedisError> {
        let channel = |ask: &Ask| match ask {
            Ask::Bell(channel) | Ask::Text(channel, _) => channel.clone(),
        };
        line.subscribe(asks.iter().map(channel).collect()).await?;
        // What was said before the server confirmed is not for those who ask now.
        while let Some(Some(message)) = line.stream.next().now_or_never() {
            self.hear(&message);
        }
        for ask in asks.drain(..) {
            match ask {
                Ask::Bell(channel) => {
                    if let Some((bell, _)) = locked(&self.bells).get(&channel) {
                        bell.ring(b"missed");
                    }
                }
                Ask::Text(channel, answer) => {
                    let made = || broadcast::channel(WATCH_BUFFER).0;
                    let text = self.texts.entry(channel).or_insert_with(made);
                    drop(answer.send(Ok(text.subscribe())));
                }
            }
        }
        Ok(())
    }

    fn hear(&self, message: &Msg) {
        let channel = message.get_channel_name();
        let body = message.get_payload_bytes();
        if let Some(text) = self.texts.get(channel) {
            match serde_json::from_slice::<Vec<TextEvent>>(body) {
                // Sending fails once the last watcher is gone.
                Ok(events) => events.into_iter().for_each(|event| {
                    let _ = text.send(event);
                }),
                Err(error) => tracing::debug!(%error, channel, "text that cannot be read"),
            }
        } else if let Some((bell, _)) = locked(&self.bells).get(channel) {
            bell.ring(body);
        }
    }

    fn forget_unused(&mut self) {
        self.texts.retain(|_, text| text.receiver_count() > 0);
        locked(&self.bells)
            .retain(|_, (bell, used)| Arc::strong_count(bell) > 1 || used.elapsed() < BELL_KEPT);
    }

    async fn unsubscribe_unused(&self, line: &mut Line) -> Result<(), RedisError> {
        let unused: Vec<String> = {
            let bells = locked(&self.bells);
            let unused = line.channels.iter().filter(|channel| {
                !bells.contains_key(*channel) && !self.texts.contains_key(*channel)
            });
            unused.cloned().collect()
        };
        for channel in &unused {
            line.channels.remove(channel);
        }
        if unused.is_empty() {
            return Ok(());
        }
        soon(line.sink.unsubscribe(unused)).await
    }
}

impl Line {
    async fn subscribe(&mut self, channels: Vec<String>) -> Result<(), RedisError> {
        for some in channels.chunks(ASKS_AT_ONCE) {
            soon(self.sink.subscribe(some)).await?;
        }
        self.channels.extend(channels);
        Ok(())
    }
}

async fn soon<T>(asked: impl Future<Output = Result<T, RedisError>>) -> Result<T, RedisError> {
    let silent = || std::io::Error::new(std::io::ErrorKind::TimedOut, "it did not answer in time");
    let answered = tokio::time::timeout(PATIENCE, asked).await;
    answered.unwrap_or_else(|_| Err(silent().into()))
}

fn closed() -> RedisError {
    std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "it was closed").into()
}

/// The channel of a job's text. Databases of one server share channels, so the name has its number.
pub fn text_channel(db: i64, job: JobRef) -> String {
    format!("rbee:{db}:text:{}.{}", job.batch.0, job.index.0)
}
