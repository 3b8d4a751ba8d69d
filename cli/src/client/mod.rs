//! The client of `rbee serve`: one connection's worth of address, token, requests and errors.
//!
//! Owns how requests are sent and how their failures are told. What they mean belongs to the commands.

mod events;
mod export;
mod schedules;
mod upload;

pub use events::{EventReader, Followed, ServerEvent};
pub use export::{ExportQuery, Remote};
pub use schedules::{Scheduled, add_schedule};
pub use upload::{Prompts, submit, upload_blob};

use std::net::IpAddr;
use std::time::Duration;

use anyhow::anyhow;
use rbee_scheduler::http::types::{BatchView, ErrorBody};
use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use serde::de::DeserializeOwned;

use crate::commands::Context;
use crate::failure::Failure;
use crate::secrets;
use crate::server_token;

/// Where `rbee serve` listens if it is told nothing else.
pub const DEFAULT_SERVER: &str = "http://127.0.0.1:7835";
/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a server may be silent in the middle of an answer. Streams show a sign of life more often.
const SILENCE: Duration = Duration::from_secs(180);
/// How long a connection is kept for the next request: servers close those that wait for half a minute.
const IDLE_MAX: Duration = Duration::from_secs(15);
/// How often a request that a busy server turned away is sent again.
const RETRIES: u32 = 5;
/// The longest wait that a server may ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(30);
/// The token's variable.
pub const TOKEN_VARIABLE: &str = "RBEE_API_TOKEN";

/// Speaks to one server.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    token: Option<String>,
}

impl Client {
    /// A client of the server that the user named, else of the one on this machine.
    pub fn open(context: &Context) -> Result<Client, Failure> {
        let named = context.server();
        let address = named.unwrap_or(DEFAULT_SERVER);
        let base = Url::parse(address)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
            .ok_or_else(|| {
                Failure::usage(format!(
                    "RBEE_SERVER is {address:?}: write it as http://host:7835"
                ))
            })?;
        // The file is of a server of this user on this machine: its token is nobody else's business.
        let token = match secrets::read(TOKEN_VARIABLE)? {
            Some(token) => Some(token),
            None if is_here(&base) => server_token::read(&context.data()?)?,
            None => None,
        };
        let http = reqwest::Client::builder()
            .user_agent(concat!("rbee/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(IDLE_MAX)
            .read_timeout(SILENCE)
            .tcp_nodelay(true)
            // A server on this machine is never behind a proxy, and a cluster's rarely is.
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        Ok(Client { http, base, token })
    }

    /// The server's address for people.
    pub fn address(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// What the server is shown.
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// The same, showing another token.
    pub fn with_token(&self, token: &str) -> Client {
        Client {
            token: Some(token.to_owned()),
            ..self.clone()
        }
    }

    /// The same, showing none.
    pub fn without_token(&self) -> Client {
        Client {
            token: None,
            ..self.clone()
        }
    }

    /// Whether the server is on this machine, so that both see the same files.
    pub fn is_here(&self) -> bool {
        is_here(&self.base)
    }

    /// A request to a path whose parts are given one by one, so that none of them can lead elsewhere.
    pub fn request(&self, method: Method, path: &[&str]) -> RequestBuilder {
        self.asking(method, path, &[])
    }

    /// The same with parameters behind the path.
    pub fn asking(&self, method: Method, path: &[&str], query: &[(&str, &str)]) -> RequestBuilder {
        let mut url = self.base.clone();
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        let request = self.http.request(method, url);
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// Sends a request whose answer must be a success. A busy server is asked again, where the request can be repeated.
    pub async fn send(&self, request: RequestBuilder) -> Result<Response, Failure> {
        let mut tries = 0;
        let mut next = Some(request);
        while let Some(request) = next.take() {
            let again = request.try_clone();
            let response = request.send().await.map_err(|error| self.broken(error))?;
            let status = response.status();
            if status.is_success() {
                return Ok(response);
            }
            let busy = status == StatusCode::TOO_MANY_REQUESTS
                || status == StatusCode::SERVICE_UNAVAILABLE;
            tries += 1;
            if !busy || tries > RETRIES || again.is_none() {
                return Err(refused(response).await);
            }
            tokio::time::sleep(retry_after(response.headers())).await;
            next = again;
        }
        unreachable!("the loop ends only by returning")
    }

    /// The JSON of a successful answer.
    pub async fn json<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, Failure> {
        let response = self.send(request).await?;
        response.json().await.map_err(|error| self.broken(error))
    }

    /// The text of a successful answer.
    pub async fn text(&self, request: RequestBuilder) -> Result<String, Failure> {
        let response = self.send(request).await?;
        response.text().await.map_err(|error| self.broken(error))
    }

    /// One batch.
    pub async fn batch(&self, id: &str) -> Result<BatchView, Failure> {
        self.json(self.request(Method::GET, &["v1", "batches", id]))
            .await
    }

    /// Why a request had no answer.
    pub fn broken(&self, error: reqwest::Error) -> Failure {
        let address = self.address();
        if error.is_connect() {
            return Failure::NoServer(format!(
                "no rbee server can be reached at {address}: start one with `rbee serve`, or set RBEE_SERVER to the one \
                 that runs ({})",
                innermost(&error)
            ));
        }
        Failure::Program(anyhow!(
            "the connection to {address} broke: {}",
            innermost(&error)
        ))
    }
}

/// The first cause, which says what the system said.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

/// Whether an address is this machine's own.
pub fn is_here(base: &Url) -> bool {
    base.host_str().is_some_and(|host| {
        let ip = host.trim_start_matches('[').trim_end_matches(']');
        host.eq_ignore_ascii_case("localhost")
            || ip.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    })
}

fn retry_after(headers: &HeaderMap) -> Duration {
    let seconds = headers
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(1)).min(RETRY_AFTER_MAX)
}

/// What a server said in place of doing it.
async fn refused(response: Response) -> Failure {
    let status = response.status();
    let text = response.text().await.unwrap_or_default();
    refusal(status, &text)
}

/// What an answer that is no success means.
fn refusal(status: StatusCode, text: &str) -> Failure {
    let (said, code) = match serde_json::from_str::<ErrorBody>(text) {
        Ok(body) => (body.error.message, body.error.code.unwrap_or_default()),
        Err(_) => (format!("the server answered {status}"), String::new()),
    };
    match status {
        // What is asked for, not who asks.
        StatusCode::FORBIDDEN if code.ends_with("_not_allowed") => Failure::usage(said),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Failure::Program(anyhow!(said)),
        status if status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS => {
            Failure::usage(said)
        }
        _ => Failure::Program(anyhow!(said)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_file_is_for_this_machine_only() {
        for (address, here) in [
            ("http://127.0.0.1:7835", true),
            ("http://localhost:1", true),
            ("http://[::1]:7835", true),
            ("http://10.0.0.1:7835", false),
            ("https://localhost.example", false),
        ] {
            assert_eq!(is_here(&Url::parse(address).unwrap()), here, "{address}");
        }
    }
}
