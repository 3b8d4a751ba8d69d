//! What surrounds every route: a panic is an answer, each request has an id, too many at once are turned away.

use super::Server;
use super::auth;
use super::error::ApiError;
use super::leftover;
use super::metrics;
use super::plain_words;
use super::stalled;
use super::traced::{self, CORRELATION};
use axum::error_handling::HandleErrorLayer;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{BoxError, Router, middleware};
use std::any::Any;
use std::time::Duration;
use tower::ServiceBuilder;
use tower::limit::GlobalConcurrencyLimitLayer;
use tower::load_shed::LoadShedLayer;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer};
use tower_http::timeout::TimeoutLayer;

/// Requests whose answers have not begun.
pub const MAX_REQUESTS: usize = 512;
/// Single requests to models whose answers have not begun: fewer than jobs can be watched.
pub const MAX_ASKED: usize = 1_000;
/// How long a short request may take.
const SHORT: Duration = Duration::from_secs(120);

/// Routes that answer at once, or not at all.
pub fn timed(router: Router<Server>) -> Router<Server> {
    router.layer(TimeoutLayer::with_status_code(
        StatusCode::GATEWAY_TIMEOUT,
        SHORT,
    ))
}

/// Routes that share so many places: who finds none is turned away.
pub fn limited(router: Router<Server>, most: usize) -> Router<Server> {
    let shed = ServiceBuilder::new()
        .layer(HandleErrorLayer::new(overloaded))
        .layer(LoadShedLayer::new())
        .layer(GlobalConcurrencyLimitLayer::new(most));
    router.layer(shed)
}

/// All routes with what surrounds them, the outermost last.
pub fn around(router: Router<Server>, server: Server) -> Router<Server> {
    router
        .layer(middleware::from_fn(plain_words::as_errors))
        .layer(middleware::from_fn_with_state(server.clone(), auth::check))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(middleware::from_fn(leftover::read_rest))
        .layer(middleware::from_fn_with_state(server, metrics::count))
        .layer(middleware::from_fn(traced::note))
        .layer(middleware::from_fn(stalled::note))
        .layer(PropagateRequestIdLayer::new(CORRELATION))
        .layer(SetRequestIdLayer::new(CORRELATION, MakeRequestUuid))
}

async fn overloaded(_: BoxError) -> ApiError {
    ApiError::too_many("the server has too many requests at once: try again in a moment")
}

fn panicked(_: Box<dyn Any + Send>) -> Response {
    ApiError::internal("an error inside rbee: the server's log has more").into_response()
}
