//! The hub's HTTP: one request with its redirects, and what each answer means.
//!
//! Redirects are followed here and not by the client, so that the token goes to the hub's own origin and nowhere else.

use std::time::Duration;

use reqwest::header::{self, HeaderMap, HeaderValue};
use reqwest::{Client, Response, StatusCode, Url};

use super::error::ModelError;
use super::hub_options::HubOptions;
use super::retry::{Failure, FailureKind, Patience};

/// The hub redirects once or twice.
const REDIRECTS_MAX: usize = 8;

/// Bytes wanted from `start` on, if the file still has that entity tag.
#[derive(Debug, Clone)]
pub struct Resume {
    pub start: u64,
    pub etag: Option<String>,
}

/// A client for the hub.
#[derive(Debug)]
pub struct Http {
    client: Client,
    pub options: HubOptions,
}

impl Http {
    /// The process must have installed a rustls crypto provider before.
    pub fn new(options: HubOptions) -> Result<Http, ModelError> {
        let mut builder = Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(options.connect_timeout)
            .read_timeout(options.read_timeout)
            .user_agent(concat!("rbee/", env!("CARGO_PKG_VERSION")));
        if is_loopback(&options.endpoint) {
            // A proxy of the environment could not reach this machine's own loopback.
            builder = builder.no_proxy();
        }
        let host = host_of(&options.endpoint);
        let client = builder.build().map_err(|e| ModelError::Unreachable {
            host,
            reason: root_cause(&e),
        })?;
        Ok(Http { client, options })
    }

    /// One request; follows redirects. Answers other than 200, 206 and 416 are failures.
    pub async fn get(
        &self,
        url: &Url,
        resume: Option<&Resume>,
        what: &str,
        patience: Patience,
    ) -> Result<Response, Failure> {
        let mut url = url.clone();
        for _ in 0..=REDIRECTS_MAX {
            let response = self.send(&url, resume, patience).await?;
            if !response.status().is_redirection() {
                return match response.status() {
                    StatusCode::OK
                    | StatusCode::PARTIAL_CONTENT
                    | StatusCode::RANGE_NOT_SATISFIABLE => Ok(response),
                    status => Err(self.refusal(status, response.headers(), &url, what)),
                };
            }
            url = next_hop(&url, response.headers(), what)?;
        }
        let reason = format!("it redirects more than {REDIRECTS_MAX} times");
        Err(ModelError::Protocol {
            what: what.to_owned(),
            host: host_of(&url),
            reason,
        }
        .into())
    }

    async fn send(
        &self,
        url: &Url,
        resume: Option<&Resume>,
        patience: Patience,
    ) -> Result<Response, Failure> {
        let mut request = self.client.get(url.clone());
        if let Some(resume) = resume {
            request = request.header(header::RANGE, format!("bytes={}-", resume.start));
            if let Some(etag) = &resume.etag {
                request = request.header(header::IF_RANGE, etag);
            }
        }
        if let Some(token) = self.options.token.as_ref().filter(|_| self.is_hub(url)) {
            let mut value = HeaderValue::from_str(&format!("Bearer {}", token.reveal()))
                .expect("Token::new checked that it can stand in a header");
            value.set_sensitive(true);
            request = request.header(header::AUTHORIZATION, value);
        }
        let unreachable = |reason| Failure {
            error: ModelError::Unreachable {
                host: host_of(url),
                reason,
            },
            kind: FailureKind::Connect,
        };
        match tokio::time::timeout(patience.headers_timeout(&self.options), request.send()).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(e)) => Err(unreachable(root_cause(&e.without_url()))),
            Err(_) => Err(unreachable("it did not answer in time".to_owned())),
        }
    }

    /// Whether a URL is on the hub's own origin: the only place the token may go.
    fn is_hub(&self, url: &Url) -> bool {
        url.origin() == self.options.endpoint.origin()
    }

    fn refusal(&self, status: StatusCode, headers: &HeaderMap, url: &Url, what: &str) -> Failure {
        let (what, host) = (what.to_owned(), host_of(url));
        let code = headers
            .get("x-error-code")
            .and_then(|value| value.to_str().ok())
            .unwrap_or("");
        let passing = |error, retry_after| Failure {
            error,
            kind: FailureKind::Passing { retry_after },
        };
        match status.as_u16() {
            // Not the hub: an address that the hub signed has run out; the next try gets a new one.
            401 | 403 if !self.is_hub(url) => passing(
                ModelError::Server {
                    what,
                    host,
                    status: status.as_u16(),
                },
                None,
            ),
            401 | 403 | 404
                if matches!(code, "RepoNotFound" | "RevisionNotFound" | "EntryNotFound") =>
            {
                ModelError::NotFound { what, host }.into()
            }
            401 if self.options.token.is_some() && code != "GatedRepo" => {
                ModelError::TokenRefused {
                    what,
                    host,
                    status: 401,
                }
                .into()
            }
            401 | 403 => {
                let detail = match &self.options.token {
                    Some(_) => ", and the account of HF_TOKEN has no access to it",
                    None => ", and HF_TOKEN is not set",
                };
                ModelError::Gated {
                    what,
                    host,
                    detail: detail.to_owned(),
                }
                .into()
            }
            404 | 410 => ModelError::NotFound { what, host }.into(),
            429 => {
                let retry_after = retry_after(headers);
                let when = retry_after.map_or("later".to_owned(), |wait| {
                    format!("in {} s", wait.as_secs())
                });
                passing(ModelError::RateLimited { what, host, when }, retry_after)
            }
            408 | 500..=599 => passing(
                ModelError::Server {
                    what,
                    host,
                    status: status.as_u16(),
                },
                retry_after(headers),
            ),
            other => ModelError::Protocol {
                what,
                host,
                reason: format!("it answered with status {other}"),
            }
            .into(),
        }
    }
}

/// Where a redirect leads. From https to plain http it leads nowhere.
fn next_hop(url: &Url, headers: &HeaderMap, what: &str) -> Result<Url, Failure> {
    let protocol = |reason: &str| -> Failure {
        let (what, host) = (what.to_owned(), host_of(url));
        ModelError::Protocol {
            what,
            host,
            reason: reason.to_owned(),
        }
        .into()
    };
    let location = headers
        .get(header::LOCATION)
        .and_then(|value| value.to_str().ok())
        .ok_or_else(|| protocol("it redirects without saying where"))?;
    let next = url
        .join(location)
        .map_err(|_| protocol("it redirects to something that is no URL"))?;
    match (url.scheme(), next.scheme()) {
        ("http" | "https", "https") | ("http", "http") => Ok(next),
        _ => Err(protocol("it redirects to an address that is not https")),
    }
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers
        .get(header::RETRY_AFTER)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()?;
    Some(Duration::from_secs(seconds))
}

fn is_loopback(url: &Url) -> bool {
    match url.host_str() {
        Some("localhost") => true,
        Some(host) => host
            .trim_matches(['[', ']'])
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback()),
        None => false,
    }
}

/// Host and, if given, port: for messages.
pub fn host_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or("the hub");
    url.port()
        .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// What is at the bottom of an error: "Connection refused" and not the four layers that pass it on. The client's own
/// errors name a URL, which may be signed: strip it before.
pub fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirect_from_https_to_http_is_refused() {
        let mut headers = HeaderMap::new();
        headers.insert(
            header::LOCATION,
            HeaderValue::from_static("http://cdn.example/x"),
        );
        let from = |text: &str| Url::parse(text).unwrap();
        assert!(next_hop(&from("https://hub.example/a"), &headers, "x").is_err());
        assert!(next_hop(&from("http://hub.example/a"), &headers, "x").is_ok());
        headers.insert(header::LOCATION, HeaderValue::from_static("/b"));
        assert_eq!(
            next_hop(&from("https://hub.example/a"), &headers, "x")
                .unwrap()
                .as_str(),
            "https://hub.example/b"
        );
    }
}
