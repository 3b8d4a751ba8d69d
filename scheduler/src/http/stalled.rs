//! Clients of event streams that take nothing are dropped.
//!
//! Owns the connections' write side: one whose client takes no byte for a while, in the middle of events, ends with an
//! error, and everything that it held goes with it. Other answers may wait as long as their client likes: an export may
//! run into a pager.

use axum::extract::Request;
use axum::http::{HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;
use socket2::SockRef;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

/// How long a client of events may take nothing.
const STALLED_AFTER: Duration = Duration::from_secs(15);
/// Bytes that the system takes of an answer beyond what is on its way. With more, as it has it by itself, a client of a
/// slow stream would be found to take nothing minutes later.
const UNSENT_BYTES: u32 = 64 << 10;
/// The content type of events.
const EVENTS: &[u8] = b"text/event-stream";

/// Lets the system say soon that a client takes nothing, where the system can.
pub fn notice_soon(stream: &TcpStream) {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if let Err(error) = SockRef::from(stream).set_tcp_notsent_lowat(UNSENT_BYTES) {
        tracing::debug!(%error, "a stalled client will be noticed late");
    }
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let _ = SockRef::from(stream).set_send_buffer_size(UNSENT_BYTES as usize);
}

/// Whether a connection has an event stream.
#[derive(Clone, Debug, Default)]
pub struct Streaming(Arc<AtomicBool>);

/// Notes on the connection whether its answer is an event stream.
pub async fn note(request: Request, next: Next) -> Response {
    let streaming = request.extensions().get::<Streaming>().cloned();
    let response = next.run(request).await;
    if let Some(streaming) = streaming {
        let kind = response.headers().get(header::CONTENT_TYPE);
        let events = kind.map(HeaderValue::as_bytes) == Some(EVENTS);
        streaming.0.store(events, Ordering::Release);
    }
    response
}

/// A connection to a client.
pub struct Connection<T> {
    io: T,
    streaming: Streaming,
    patience: Duration,
    /// Runs while the client takes nothing.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<T> Connection<T> {
    /// A connection on which nothing is sent yet.
    pub fn new(io: T) -> Connection<T> {
        Connection::with_patience(io, STALLED_AFTER)
    }

    fn with_patience(io: T, patience: Duration) -> Connection<T> {
        Connection {
            io,
            streaming: Streaming::default(),
            patience,
            stalled: None,
        }
    }

    /// Whether it has an event stream, as requests on it say.
    pub fn streaming(&self) -> Streaming {
        self.streaming.clone()
    }

    /// Takes the outcome of a write: one that waits too long is an error.
    fn judge<R>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<R>>,
    ) -> Poll<io::Result<R>> {
        if written.is_ready() || !self.streaming.0.load(Ordering::Acquire) {
            self.stalled = None;
            return written;
        }
        let patience = self.patience;
        let sleep = || Box::pin(tokio::time::sleep(patience));
        let stalled = self.stalled.get_or_insert_with(sleep);
        ready!(stalled.as_mut().poll(context));
        tracing::info!("a client of events that took nothing is dropped");
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Connection<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Connection<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(context, bytes);
        self.judge(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(context, bytes);
        self.judge(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(context);
        self.judge(context, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    const SHORT: Duration = Duration::from_millis(60);

    #[tokio::test]
    async fn client_of_events_that_takes_nothing_is_dropped() {
        let (server, mut client) = tokio::io::duplex(16);
        let mut connection = Connection::with_patience(server, SHORT);
        connection.streaming.0.store(true, Ordering::Release);
        let mut buffer = [0; 32];
        let (written, read) = tokio::join!(
            connection.write_all(&[1; 32]),
            client.read_exact(&mut buffer)
        );
        written.unwrap();
        read.unwrap();
        let error = connection.write_all(&[1; 32]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn other_answers_wait_for_their_client() {
        let (server, _client) = tokio::io::duplex(16);
        let mut connection = Connection::with_patience(server, SHORT);
        let written = tokio::time::timeout(SHORT * 5, connection.write_all(&[1; 32])).await;
        assert!(written.is_err(), "it still waits");
    }
}
