//! Connections: accepted, bounded in number and in how long they may dawdle, and ended when the server stops.
//!
//! Owns the loop. What a connection may do while its answer goes out is `stalled`'s.

use super::stalled::{Connection, notice_soon};
use axum::Router;
use axum::extract::Request;
use axum::serve::Listener;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

/// Connections at once: streams that may be open, and as many beside them.
const MAX_CONNECTIONS: usize = 2 * super::MAX_STREAMS;
/// How long a request's head may take: whoever sends it byte by byte holds a connection for no longer. It bounds how long
/// a connection may wait for its next request, too.
const HEAD_PATIENCE: Duration = Duration::from_secs(30);

/// Answers requests until `stop`, and then those that are under way.
pub async fn serve(mut listener: TcpListener, router: Router, stop: CancellationToken) {
    let turns = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let connections = TaskTracker::new();
    loop {
        let accepted = async {
            let turn = Arc::clone(&turns).acquire_owned().await;
            let turn = turn.expect("nobody closes the semaphore");
            // Of the trait: it waits a moment where the system has no descriptor left, instead of failing.
            let (stream, _) = Listener::accept(&mut listener).await;
            (stream, turn)
        };
        let (stream, turn) = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accepted => accepted,
        };
        connections.spawn(answer(stream, turn, router.clone(), stop.clone()));
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

async fn answer(
    stream: TcpStream,
    _turn: OwnedSemaphorePermit,
    router: Router,
    stop: CancellationToken,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection sends late");
    }
    notice_soon(&stream);
    let connection = Connection::new(stream);
    let streaming = connection.streaming();
    let service = router.map_request(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(streaming.clone());
        request
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_PATIENCE)
        .serve_connection(TokioIo::new(connection), TowerToHyperService::new(service));
    tokio::pin!(serving);
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        tracing::trace!(%error, "a connection broke");
    }
}
