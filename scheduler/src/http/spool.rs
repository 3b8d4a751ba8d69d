//! An upload on its way: looked at while it comes in, and kept in a file without a name, so that it can be read again.
//!
//! Owns the thread that reads it. What is cut off leaves nothing: the file is gone with its last handle.

use super::error::ApiError;
use axum::body::Bytes;
use rbee_queue::jsonl::{LineOptions, ReadError, Survey, survey};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Pieces of an upload between the network and the reading thread.
const PIECES_WAITING: usize = 32;
/// Bytes read at once when the file is read again.
const READ_BYTES: usize = 1 << 18;

enum Piece {
    Bytes(Bytes),
    End,
}

/// An upload that is being read.
pub struct Spool {
    pieces: mpsc::Sender<Piece>,
    reading: JoinHandle<io::Result<(File, Result<Survey, ReadError>)>>,
}

impl Spool {
    /// Begins an upload whose file grows in `dir`.
    pub fn begin(dir: &Path, options: LineOptions) -> io::Result<Spool> {
        let file = tempfile::tempfile_in(dir)?;
        let (pieces, receiver) = mpsc::channel(PIECES_WAITING);
        let reading = tokio::task::spawn_blocking(move || {
            let mut arriving = Arriving {
                pieces: receiver,
                current: Bytes::new(),
                ended: false,
                file,
            };
            let found = survey(&mut arriving, &options);
            Ok((arriving.file, found))
        });
        Ok(Spool { pieces, reading })
    }

    /// Hands a piece over. False: the reader has seen enough, since the input is refused or its limit is reached.
    pub async fn push(&self, bytes: Bytes) -> bool {
        self.pieces.send(Piece::Bytes(bytes)).await.is_ok()
    }

    /// The whole upload has arrived.
    pub async fn end(self) -> Result<(File, Survey), ApiError> {
        let (file, found) = self.finish().await?;
        Ok((file, found?))
    }

    /// The same, with what was found wrong as it was found.
    pub async fn finish(self) -> Result<(File, Result<Survey, ReadError>), ApiError> {
        // A reader that has seen enough does not listen any more.
        let _ = self.pieces.send(Piece::End).await;
        drop(self.pieces);
        self.reading
            .await
            .map_err(|error| ApiError::internal(format!("an upload could not be read: {error}")))?
            .map_err(|error| ApiError::internal(format!("an upload could not be kept: {error}")))
    }
}

/// The pieces as one reader that writes down what it hands out.
struct Arriving {
    pieces: mpsc::Receiver<Piece>,
    current: Bytes,
    ended: bool,
    file: File,
}

impl BufRead for Arriving {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.current.is_empty() && !self.ended {
            match self.pieces.blocking_recv() {
                Some(Piece::Bytes(bytes)) => {
                    self.file.write_all(&bytes)?;
                    self.current = bytes;
                }
                Some(Piece::End) => self.ended = true,
                None => {
                    return Err(io::Error::new(
                        io::ErrorKind::UnexpectedEof,
                        "the upload was cut off",
                    ));
                }
            }
        }
        Ok(&self.current)
    }

    fn consume(&mut self, amount: usize) {
        let _ = self.current.split_to(amount);
    }
}

impl Read for Arriving {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let there = self.fill_buf()?;
        let count = there.len().min(buffer.len());
        buffer[..count].copy_from_slice(&there[..count]);
        self.consume(count);
        Ok(count)
    }
}

/// Tells a load that its client went away, unless the load was ended by itself.
pub struct Waiting(Arc<AtomicBool>);

impl Waiting {
    /// A client that waits.
    pub fn new() -> Waiting {
        Waiting(Arc::default())
    }

    /// What learns when it is over.
    pub fn watched(&self) -> Watched {
        Watched(Arc::clone(&self.0))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Learns that nobody waits any more.
#[derive(Clone, Debug)]
pub struct Watched(Arc<AtomicBool>);

impl Watched {
    /// Whether nobody waits any more.
    pub fn is_over(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// The kept upload from its first byte on, for as long as its client waits: what nobody waits for is not made.
pub fn again(mut file: File, client: &Watched) -> io::Result<impl BufRead + Send + 'static> {
    file.seek(SeekFrom::Start(0))?;
    let watched = WhileWaiting {
        file,
        client: client.clone(),
    };
    Ok(BufReader::with_capacity(READ_BYTES, watched))
}

struct WhileWaiting {
    file: File,
    client: Watched,
}

impl Read for WhileWaiting {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.client.is_over() {
            return Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "the client went away",
            ));
        }
        self.file.read(buffer)
    }
}
