//! Telling a URL that a batch is done: one POST, signed as the Standard Webhooks specification (version 1) has it.
//!
//! Owns the request and where it may go. When it is sent, and sent again, is the coordinator's.
//!
//! | header | what it holds |
//! |---|---|
//! | `webhook-id` | the same for every try to tell of one end of a batch: a receiver that has it already may ignore it |
//! | `webhook-timestamp` | Unix seconds of this try |
//! | `webhook-signature` | `v1,` and the base64 of HMAC-SHA256 over `id.timestamp.body` |

mod address;
mod signature;

pub use signature::{Secret, SecretError};

use address::is_public;
use reqwest::{StatusCode, Url, header};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long a receiver may take to answer, the connection included.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long its name may take to be resolved.
const RESOLVE_PATIENCE: Duration = Duration::from_secs(5);

/// Sends messages to receivers.
#[derive(Clone, Debug)]
pub struct Webhooks {
    secret: Secret,
    allow_private: bool,
}

/// Why a receiver did not hear.
#[derive(Debug, thiserror::Error)]
pub enum NotHeard {
    /// What was stored is no URL.
    #[error("it is no http or https URL")]
    NoUrl,
    /// It leads into a network that the server's users may not reach through it.
    #[error(
        "{host} is at {address}, which is no public address: the server refuses those unless it is started with \
         --webhook-allow-private"
    )]
    Private {
        /// As the URL has it.
        host: String,
        /// Where it leads.
        address: IpAddr,
    },
    /// Its name leads nowhere.
    #[error("{host} cannot be found: {reason}")]
    Unknown {
        /// As the URL has it.
        host: String,
        /// What the resolver said.
        reason: String,
    },
    /// It answered, and not with success; a redirect is none.
    #[error("it answered {0}")]
    Answer(StatusCode),
    /// It did not answer.
    #[error("it did not answer: {0}")]
    Broken(String),
}

impl NotHeard {
    /// Whether the receiver asked not to be told again.
    pub fn is_final(&self) -> bool {
        matches!(self, NotHeard::Answer(StatusCode::GONE) | NotHeard::NoUrl)
    }
}

/// A message for a receiver.
#[derive(Debug)]
pub struct Message<'a> {
    /// The same for each try.
    pub id: &'a str,
    /// JSON.
    pub body: Vec<u8>,
}

impl Webhooks {
    /// Signs with a secret. Addresses of private networks are refused, unless they are allowed.
    pub fn new(secret: Secret, allow_private: bool) -> Webhooks {
        Webhooks {
            secret,
            allow_private,
        }
    }

    /// Says beforehand that a URL would be refused. A name that cannot be resolved now is no reason: it may be later.
    pub async fn check(&self, url: &str) -> Result<(), NotHeard> {
        match self.resolve(&parse(url)?).await {
            Err(NotHeard::Unknown { .. }) => Ok(()),
            found => found.map(drop),
        }
    }

    /// Sends a message once.
    pub async fn send(&self, url: &str, message: Message<'_>) -> Result<(), NotHeard> {
        let url = parse(url)?;
        let addresses = self.resolve(&url).await?;
        let broken = |error: reqwest::Error| {
            // The URL may hold a secret.
            NotHeard::Broken(innermost(&error.without_url()))
        };
        // The connection goes to the addresses that were looked at, whatever the name leads to a moment later.
        let http = reqwest::Client::builder()
            .user_agent(concat!("rbee/", env!("CARGO_PKG_VERSION")))
            .timeout(PATIENCE)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .resolve_to_addrs(url.host_str().unwrap_or_default(), &addresses)
            .build()
            .map_err(broken)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let timestamp = now.unwrap_or_default().as_secs();
        let signature = self.secret.sign(message.id, timestamp, &message.body);
        let answer = http
            .post(url)
            .header(header::CONTENT_TYPE, "application/json")
            .header("webhook-id", message.id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", signature)
            .body(message.body)
            .send()
            .await
            .map_err(broken)?;
        match answer.status() {
            status if status.is_success() => Ok(()),
            status => Err(NotHeard::Answer(status)),
        }
    }

    /// Where a URL leads. One forbidden address among several is enough to refuse it.
    async fn resolve(&self, url: &Url) -> Result<Vec<SocketAddr>, NotHeard> {
        let host = url.host_str().unwrap_or_default();
        let port = url.port_or_known_default().unwrap_or_default();
        let plain = host.trim_start_matches('[').trim_end_matches(']');
        let unknown = |reason: String| NotHeard::Unknown {
            host: host.to_owned(),
            reason,
        };
        let found = tokio::time::timeout(RESOLVE_PATIENCE, tokio::net::lookup_host((plain, port)))
            .await
            .map_err(|_| unknown("no answer in time".to_owned()))?
            .map_err(|error| unknown(error.to_string()))?;
        let addresses: Vec<SocketAddr> = found.collect();
        if addresses.is_empty() {
            return Err(unknown("it has no address".to_owned()));
        }
        let private = addresses.iter().find(|found| !is_public(found.ip()));
        match private.filter(|_| !self.allow_private) {
            Some(found) => Err(NotHeard::Private {
                host: host.to_owned(),
                address: found.ip(),
            }),
            None => Ok(addresses),
        }
    }
}

fn parse(url: &str) -> Result<Url, NotHeard> {
    Url::parse(url)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
        .ok_or(NotHeard::NoUrl)
}

/// The first cause, which says what the system said.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests;
