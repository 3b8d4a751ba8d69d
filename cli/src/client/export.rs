//! Results from a server: frames of whole lines, copied without being parsed, gone on with where a connection broke.

use std::time::Duration;

use anyhow::anyhow;
use futures_util::{Stream, StreamExt};
use rbee_scheduler::http::types::{FRAMED, Frame};
use reqwest::Method;
use reqwest::header::ACCEPT;

use super::Client;
use crate::failure::Failure;
use crate::results::{Destinations, GAPS_NAMED, Sinks, Written};
use crate::talk::Talk;

/// The longest head of a frame.
const MAX_HEAD_BYTES: usize = 1 << 20;
/// The most bytes of one frame: a page of results, in which one line may be large.
const MAX_FRAME_BYTES: usize = 1 << 30;
/// How often in a row a broken export is gone on with before it is given up.
const TRIES: u32 = 6;
/// The same while somebody follows: a server may be away for a while.
const TRIES_FOLLOWING: u32 = 60;
/// The first wait before an export is gone on with; it doubles each time.
const FIRST_WAIT: Duration = Duration::from_millis(200);
/// The longest wait.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// What is asked of the server.
#[derive(Debug, Clone, Default)]
pub struct ExportQuery {
    pub format: Option<&'static str>,
    pub with_stats: bool,
    pub with_keys: bool,
    pub follow: bool,
}

/// The results of one batch on a server.
pub struct Remote<'a> {
    pub client: &'a Client,
    pub id: &'a str,
    pub query: ExportQuery,
    pub talk: &'a Talk,
}

/// What ended one connection.
enum Broken {
    /// The connection: it is worth another try.
    Off(Failure),
    /// Something that another try does not change.
    For(Failure),
}

impl Remote<'_> {
    /// Writes the results as they come. A file gets its name only when all was written.
    pub async fn write(&self, to: &Destinations) -> Result<Written, Failure> {
        self.write_into(to.open()?).await
    }

    /// The same to what is open already.
    pub async fn write_into(&self, to: Sinks) -> Result<Written, Failure> {
        let mut out = Out {
            to,
            written: Written::default(),
            next: 0,
            follow: self.query.follow,
        };
        let (mut tries, mut wait) = (0, FIRST_WAIT);
        loop {
            let before = out.next;
            match self.connection(&mut out).await {
                Ok(()) => return out.finish(),
                Err(Broken::For(failure)) => return Err(failure),
                Err(Broken::Off(failure)) => {
                    if out.next > before {
                        (tries, wait) = (0, FIRST_WAIT);
                    }
                    tries += 1;
                    let most = match self.query.follow {
                        true => TRIES_FOLLOWING,
                        false => TRIES,
                    };
                    // Before the first line nothing was there to go on with.
                    if tries >= most || (before == 0 && out.next == 0 && !self.query.follow) {
                        return Err(failure);
                    }
                    if tries == 1 {
                        self.talk.note("the connection broke, going on from there");
                    }
                }
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    async fn connection(&self, out: &mut Out) -> Result<(), Broken> {
        let (from, flag) = (
            out.next.to_string(),
            |set: bool| if set { "true" } else { "false" },
        );
        let mut query = vec![
            ("from", from.as_str()),
            ("follow", flag(self.query.follow)),
            ("with_stats", flag(self.query.with_stats)),
            ("with_keys", flag(self.query.with_keys)),
        ];
        query.extend(self.query.format.map(|format| ("format", format)));
        let path = ["v1", "batches", self.id, "results"];
        let request = self.client.asking(Method::GET, &path, &query);
        let request = request.header(ACCEPT, FRAMED);
        let response = match self.client.send(request).await {
            Ok(response) => response,
            // A server that is being restarted.
            Err(failure @ (Failure::NoServer(_) | Failure::Program(_))) if out.next > 0 => {
                return Err(Broken::Off(failure));
            }
            Err(failure) => return Err(Broken::For(failure)),
        };
        let mut frames = Frames {
            pieces: Box::pin(response.bytes_stream()),
            buffer: Vec::new(),
            at: 0,
        };
        loop {
            let (frame, lines) = frames.next(self.client).await?;
            if frame.end {
                return Ok(());
            }
            out.take(&frame, lines).map_err(Broken::For)?;
        }
    }
}

/// Where lines go, and how far they are.
struct Out {
    to: Sinks,
    written: Written,
    /// The first job that was not written.
    next: u64,
    follow: bool,
}

impl Out {
    fn take(&mut self, frame: &Frame, lines: &[u8]) -> Result<(), Failure> {
        let Sinks { results, errors } = &mut self.to;
        match errors {
            Some(errors) if !frame.failed.is_empty() => {
                let mut failed = frame.failed.iter().copied().peekable();
                for (at, line) in lines.split_inclusive(|byte| *byte == b'\n').enumerate() {
                    if failed.next_if_eq(&at).is_some() {
                        errors.lines(line)?;
                    } else {
                        results.lines(line)?;
                    }
                }
            }
            _ => results.lines(lines)?,
        }
        let written = &mut self.written;
        written.results += frame.lines as u64;
        written.failed += frame.failed.len() as u64;
        written.missing += frame.missing;
        let room = GAPS_NAMED - written.missing_lines.len();
        let more = frame.missing_lines.iter().take(room);
        written.missing_lines.extend(more);
        self.next = frame.next;
        if self.follow {
            self.to.results.flush()?;
        }
        Ok(())
    }

    fn finish(self) -> Result<Written, Failure> {
        self.to.finish()?;
        Ok(self.written)
    }
}

/// Frames as they arrive.
struct Frames<S> {
    pieces: S,
    buffer: Vec<u8>,
    /// Bytes of the buffer that were handed out.
    at: usize,
}

impl<S, B> Frames<S>
where
    S: Stream<Item = reqwest::Result<B>> + Unpin,
    B: AsRef<[u8]>,
{
    /// The next frame and its lines.
    async fn next(&mut self, client: &Client) -> Result<(Frame, &[u8]), Broken> {
        let mut looked = 0;
        let end = loop {
            let rest = &self.buffer[self.at..];
            if let Some(found) = rest[looked..].iter().position(|byte| *byte == b'\n') {
                break looked + found;
            }
            looked = rest.len();
            if looked > MAX_HEAD_BYTES {
                return Err(strange("a frame has no end"));
            }
            looked = self.more(client, looked).await?;
        };
        let head = &self.buffer[self.at..self.at + end];
        let head = head.strip_prefix(b"#");
        let frame = head.and_then(|head| serde_json::from_slice::<Frame>(head).ok());
        let frame = frame.ok_or_else(|| strange("a frame cannot be read"))?;
        if frame.bytes > MAX_FRAME_BYTES {
            return Err(strange("a frame is too large"));
        }
        self.at += end + 1;
        while self.buffer.len() - self.at < frame.bytes {
            self.more(client, 0).await?;
        }
        let (start, bytes) = (self.at, frame.bytes);
        self.at += bytes;
        Ok((frame, &self.buffer[start..start + bytes]))
    }

    /// Waits for the next piece. Hands `keep` through, which counts from the first byte that was not handed out.
    async fn more(&mut self, client: &Client, keep: usize) -> Result<usize, Broken> {
        self.buffer.drain(..self.at);
        self.at = 0;
        match self.pieces.next().await {
            Some(Ok(piece)) => self.buffer.extend_from_slice(piece.as_ref()),
            Some(Err(error)) => return Err(Broken::Off(client.broken(error))),
            None => {
                return Err(Broken::Off(Failure::Program(anyhow!(
                    "the server ended the results before they were whole"
                ))));
            }
        }
        Ok(keep)
    }
}

fn strange(what: &str) -> Broken {
    Broken::For(Failure::Program(anyhow!(
        "the server's results cannot be understood: {what}"
    )))
}
