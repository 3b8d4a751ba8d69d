//! `/login`: where a browser shows a token, once.
//!
//! Owns the page and the two ways to begin a session: a one-time link, and the token in a form. The page is whole in
//! itself, since whoever sees it may see nothing else.

use super::Server;
use super::error::ApiError;
use axum::Form;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;

/// Where it is.
pub const PATH: &str = "/login";
/// Nothing but the page's own style, and forms to this server.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";
const PAGE: &str = include_str!("login.html");
/// Where the page says what went wrong.
const TROUBLE: &str = "<!-- trouble -->";

/// Whether a request is a person's, who wants a page.
pub fn is_browser(headers: &HeaderMap) -> bool {
    headers
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .is_some_and(|accept| accept.contains("text/html"))
}

/// The page, with a sentence of ours on what went wrong.
pub fn page(trouble: Option<&str>) -> impl IntoResponse {
    let trouble = trouble.map_or(String::new(), |text| {
        format!("<p class=\"trouble\" role=\"alert\">{text}</p>")
    });
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // `no-referrer` would make the form come from no page at all.
        (header::REFERRER_POLICY, "same-origin"),
        (header::CACHE_CONTROL, "no-store"),
        (header::WWW_AUTHENTICATE, "Bearer"),
    ];
    let body = PAGE.replace(TROUBLE, &trouble);
    (StatusCode::UNAUTHORIZED, headers, body)
}

/// What a link carries.
#[derive(Deserialize)]
pub struct Link {
    link: Option<String>,
}

/// `GET /login`: the page, or with a one-time link the session.
pub async fn show(State(server): State<Server>, Query(query): Query<Link>) -> Response {
    if server.auth.is_open() {
        return Redirect::to("/").into_response();
    }
    let Some(link) = query.link else {
        return page(None).into_response();
    };
    match server.auth.sessions().take_link(&link) {
        Some(shown) => begin(&server, shown),
        None => page(Some("This link was used already, or is too old.")).into_response(),
    }
}

/// A form with a token.
#[derive(Deserialize)]
pub struct TokenForm {
    token: String,
}

/// `POST /login`: begins a session for whoever shows a token.
pub async fn enter(State(server): State<Server>, Form(form): Form<TokenForm>) -> Response {
    match server.is_good(form.token.trim()).await {
        Ok(Some(shown)) => begin(&server, shown),
        Ok(None) => Redirect::to("/").into_response(),
        Err(error) if error.is_unauthorized() => {
            page(Some("This is not a token of this server.")).into_response()
        }
        Err(error) => error.into_response(),
    }
}

/// `POST /logout`: ends the session.
pub async fn leave(State(server): State<Server>, headers: HeaderMap) -> Response {
    let cookie = server.auth.sessions().end(&headers);
    with_cookie(&cookie, PATH)
}

fn begin(server: &Server, shown: [u8; 32]) -> Response {
    match server.auth.sessions().begin(shown) {
        Ok(cookie) => with_cookie(&cookie, "/"),
        Err(error) => ApiError::internal(format!("no session can begin: {error}")).into_response(),
    }
}

fn with_cookie(cookie: &str, to: &str) -> Response {
    let mut response = Redirect::to(to).into_response();
    match HeaderValue::from_str(cookie) {
        Ok(cookie) => {
            response.headers_mut().insert(header::SET_COOKIE, cookie);
            response
        }
        Err(error) => ApiError::internal(error.to_string()).into_response(),
    }
}
