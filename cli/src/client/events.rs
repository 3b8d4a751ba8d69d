//! Server-sent events from a server, gone on with where a connection broke.

use std::collections::VecDeque;
use std::pin::Pin;
use std::time::Duration;

use anyhow::anyhow;
use futures_util::{Stream, StreamExt};
use reqwest::header::{ACCEPT, HeaderValue};
use reqwest::{Method, RequestBuilder, Response};
use serde_json::Value;

use super::Client;
use crate::failure::Failure;
use crate::talk::Talk;

/// The most bytes of one event.
const MAX_EVENT_BYTES: usize = 64 << 20;
/// A server shows a sign of life more often than this.
const SILENCE: Duration = Duration::from_secs(40);
/// How often in a row a broken stream is gone on with before it is given up.
const TRIES: u32 = 60;
/// The first wait before it is gone on with; it doubles each time.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// The longest wait.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// The header by which a stream is gone on with.
const LAST_EVENT_ID: &str = "Last-Event-ID";

/// One event.
#[derive(Debug, Clone, PartialEq)]
pub struct ServerEvent {
    /// Its name.
    pub name: String,
    /// Its JSON.
    pub body: Value,
}

/// Reads the events of one answer.
pub struct EventReader {
    pieces: Pin<Box<dyn Stream<Item = reqwest::Result<Vec<u8>>> + Send>>,
    lines: Lines,
    ready: VecDeque<Raw>,
}

/// An event as it came.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Raw {
    /// Its name; empty where it has none.
    pub name: String,
    /// What comes next after it.
    pub id: Option<String>,
    /// Its text.
    pub data: String,
}

impl EventReader {
    /// Reads a response.
    pub fn new(response: Response) -> EventReader {
        let pieces = response
            .bytes_stream()
            .map(|piece| piece.map(|piece| piece.to_vec()));
        EventReader {
            pieces: Box::pin(pieces),
            lines: Lines::default(),
            ready: VecDeque::new(),
        }
    }

    /// The next event; `None` at the end of the answer.
    pub async fn next(&mut self, client: &Client) -> Result<Option<Raw>, Failure> {
        loop {
            if let Some(raw) = self.ready.pop_front() {
                return Ok(Some(raw));
            }
            let silent = || anyhow!("{} has not said anything for a while", client.address());
            let piece = tokio::time::timeout(SILENCE, self.pieces.next())
                .await
                .map_err(|_| silent())?;
            match piece {
                None => return Ok(None),
                Some(Err(error)) => return Err(client.broken(error)),
                Some(Ok(piece)) => self.lines.take(&piece, &mut self.ready)?,
            }
        }
    }
}

/// Bytes on their way to events.
#[derive(Debug, Default)]
struct Lines {
    buffer: Vec<u8>,
    event: Raw,
}

impl Lines {
    fn take(&mut self, piece: &[u8], ready: &mut VecDeque<Raw>) -> Result<(), Failure> {
        let mut looked = self.buffer.len();
        self.buffer.extend_from_slice(piece);
        let mut begin = 0;
        while let Some(found) = self.buffer[looked..].iter().position(|byte| *byte == b'\n') {
            let end = looked + found;
            let line = String::from_utf8_lossy(&self.buffer[begin..end]);
            if let Some(event) = self.event.line(line.trim_end_matches('\r')) {
                ready.push_back(event);
            }
            (begin, looked) = (end + 1, end + 1);
        }
        self.buffer.drain(..begin);
        if self.buffer.len() + self.event.data.len() > MAX_EVENT_BYTES {
            return Err(anyhow!("the server sent an event that is too large").into());
        }
        Ok(())
    }
}

impl Raw {
    /// Takes a line; an empty one ends the event.
    fn line(&mut self, line: &str) -> Option<Raw> {
        if line.is_empty() {
            let whole = std::mem::take(self);
            return (!whole.data.is_empty()).then_some(whole);
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.name),
            "id" => self.id = Some(value.to_owned()),
            "data" => {
                if !self.data.is_empty() {
                    self.data.push('\n');
                }
                self.data.push_str(value);
            }
            // Comments are signs of life.
            _ => {}
        }
        None
    }
}

/// What is watched on a server, over as many connections as it takes.
pub struct Followed<'a> {
    client: &'a Client,
    talk: &'a Talk,
    path: Vec<String>,
    query: Vec<(String, String)>,
    reader: Option<EventReader>,
    /// Where the next connection goes on.
    last_id: Option<String>,
    /// Something came already: the server is there, and what is watched too.
    begun: bool,
    tries: u32,
    wait: Duration,
}

impl<'a> Followed<'a> {
    /// Nothing is asked yet.
    pub fn new(
        client: &'a Client,
        talk: &'a Talk,
        path: &[&str],
        query: &[(&str, &str)],
    ) -> Followed<'a> {
        Followed {
            client,
            talk,
            path: path.iter().map(|part| (*part).to_owned()).collect(),
            query: (query.iter())
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            reader: None,
            last_id: None,
            begun: false,
            tries: 0,
            wait: FIRST_WAIT,
        }
    }

    /// The next event. A connection that breaks is made again; `Err` when the server stays away, or refuses.
    pub async fn next(&mut self) -> Result<ServerEvent, Failure> {
        loop {
            match self.try_next().await {
                Ok(Some(event)) => {
                    (self.tries, self.wait, self.begun) = (0, FIRST_WAIT, true);
                    return Ok(event);
                }
                // The stream ended before its last event: a server that stops.
                Ok(None) => self.again(None).await?,
                Err(failure) => self.again(Some(failure)).await?,
            }
        }
    }

    async fn try_next(&mut self) -> Result<Option<ServerEvent>, Failure> {
        if self.reader.is_none() {
            let response = self.client.send(self.request()).await?;
            self.reader = Some(EventReader::new(response));
        }
        let reader = self.reader.as_mut().expect("it was just opened");
        let Some(raw) = reader.next(self.client).await? else {
            return Ok(None);
        };
        if let Some(id) = raw.id.filter(|id| !id.is_empty()) {
            self.last_id = Some(id);
        }
        let body = serde_json::from_str(&raw.data)
            .map_err(|error| anyhow!("the server sent an event that is no JSON: {error}"))?;
        Ok(Some(ServerEvent {
            name: raw.name,
            body,
        }))
    }

    fn request(&self) -> RequestBuilder {
        let path: Vec<&str> = self.path.iter().map(String::as_str).collect();
        let query: Vec<(&str, &str)> = (self.query.iter())
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let request = self.client.asking(Method::GET, &path, &query);
        let request = request.header(ACCEPT, "text/event-stream");
        match self.last_id.as_deref().map(HeaderValue::from_str) {
            Some(Ok(id)) => request.header(LAST_EVENT_ID, id),
            _ => request,
        }
    }

    /// Waits before another try, unless there is none.
    async fn again(&mut self, failure: Option<Failure>) -> Result<(), Failure> {
        self.reader = None;
        self.tries += 1;
        let failure = failure.unwrap_or_else(|| {
            Failure::Program(anyhow!("{} ended the events", self.client.address()))
        });
        let hopeless = !self.begun || self.tries > TRIES;
        if hopeless || matches!(failure, Failure::Usage(_)) {
            return Err(failure);
        }
        if self.tries == 2 {
            self.talk
                .note("the connection broke, going on as soon as the server is back");
        }
        tokio::time::sleep(self.wait).await;
        self.wait = (self.wait * 2).min(LONGEST_WAIT);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_whole_however_the_bytes_are_cut() {
        let text = ": hello\n\nevent: text\nid: 1.0.3\ndata: {\"a\":\"é\"}\n\ndata: [DONE]\n\n";
        for size in 1..text.len() {
            let (mut lines, mut ready) = (Lines::default(), VecDeque::new());
            for piece in text.as_bytes().chunks(size) {
                lines.take(piece, &mut ready).unwrap();
            }
            assert_eq!(ready.len(), 2, "pieces of {size} bytes");
            assert_eq!(ready[0].name, "text");
            assert_eq!(ready[0].id.as_deref(), Some("1.0.3"));
            assert_eq!(ready[0].data, "{\"a\":\"é\"}");
            assert_eq!(ready[1].data, "[DONE]");
        }
    }
}
