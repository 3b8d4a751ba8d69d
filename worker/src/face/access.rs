//! Who may speak to a node: a bearer token, and no web page of a stranger.
//!
//! The node's own token opens everything. Those of the store do too, as far as their roles go: other nodes have tokens of
//! their own, and fetch model files here.

use super::error::FaceError;
use axum::Extension;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, Method, header};
use axum::middleware::Next;
use axum::response::Response;
use rbee_queue::store::{KnownTokens, Store};
use rbee_queue::token::Role;
use sha2::{Digest, Sha256};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use subtle::ConstantTimeEq;

/// The shortest token that is taken where others than this machine can reach the node.
const TOKEN_BYTES_MIN: usize = 16;
/// The route that answers without a token: it says nothing but that the node lives.
const OPEN: &str = "/health";
/// What the paths of model files begin with.
const BLOBS: &str = "/v1/models/blobs/";

/// What a request must show.
#[derive(Clone)]
pub struct Access {
    /// The token's digest; `None` wants nothing.
    token: Option<[u8; 32]>,
    /// Tokens that were made for others.
    others: Option<Arc<KnownTokens>>,
    /// Only this machine can reach the node.
    loopback: bool,
}

/// A face that would be open to strangers.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{address} can be reached by other machines: set RBEE_API_TOKEN to a token of {TOKEN_BYTES_MIN} bytes or more, or listen on 127.0.0.1"
)]
pub struct AccessError {
    /// Where it would listen.
    pub address: SocketAddr,
}

impl Access {
    /// What requests to a face at `address` must show.
    ///
    /// # Errors
    /// When others can reach it and the token is missing or short.
    pub fn new(address: SocketAddr, token: Option<&str>) -> Result<Access, AccessError> {
        let loopback = address.ip().is_loopback();
        let token = token.filter(|token| !token.is_empty());
        if !loopback && token.is_none_or(|token| token.len() < TOKEN_BYTES_MIN) {
            return Err(AccessError { address });
        }
        Ok(Access {
            token: token.map(digest),
            others: None,
            loopback,
        })
    }

    /// Takes the tokens of the cluster's store too.
    pub fn with_tokens_of(self, store: Arc<dyn Store>) -> Access {
        Access {
            others: Some(Arc::new(KnownTokens::new(store))),
            ..self
        }
    }

    async fn check(
        &self,
        method: &Method,
        path: &str,
        headers: &HeaderMap,
    ) -> Result<(), FaceError> {
        let host = text(headers, &header::HOST).map(host_name);
        if self.loopback && !host.is_some_and(is_this_machine) {
            return Err(FaceError::forbidden(
                "the Host header does not name this machine",
            ));
        }
        let foreign = text(headers, &header::ORIGIN).is_some_and(|origin| {
            let page = origin.split_once("://").map_or(origin, |(_, rest)| rest);
            Some(host_name(page)) != host
        });
        if foreign {
            return Err(FaceError::forbidden("the Origin header names another site"));
        }
        let Some(token) = self.token.filter(|_| path != OPEN) else {
            return Ok(());
        };
        let given = digest(bearer(headers).ok_or_else(FaceError::unauthorized)?);
        // Digests have one length, so that comparing tells nothing about the token's.
        if bool::from(given.ct_eq(&token)) {
            return Ok(());
        }
        let Some(others) = &self.others else {
            return Err(FaceError::unauthorized());
        };
        // A store that does not answer vouches for nobody.
        let found = others.find(&given).await.ok().flatten();
        let other = found.ok_or_else(FaceError::unauthorized)?;
        let may = match other.role {
            Role::Admin | Role::Submit => true,
            Role::Read => method.is_safe(),
            Role::Node => method.is_safe() && path.starts_with(BLOBS),
        };
        match may {
            true => Ok(()),
            false => Err(FaceError::forbidden("this token is not for that")),
        }
    }
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = text(headers, &header::AUTHORIZATION)?.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then_some(token.trim())
}

/// `localhost` of `localhost:7835`, `::1` of `[::1]:7835`.
fn host_name(authority: &str) -> &str {
    match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => authority.split(':').next().unwrap_or(authority),
    }
}

fn is_this_machine(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Lets a request through if it shows what it must.
pub async fn check(
    Extension(access): Extension<Access>,
    request: Request,
    next: Next,
) -> Result<Response, FaceError> {
    let (method, path) = (request.method(), request.uri().path());
    access.check(method, path, request.headers()).await?;
    Ok(next.run(request).await)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(address: &str, token: Option<&str>) -> Result<Access, AccessError> {
        Access::new(address.parse().unwrap(), token)
    }

    #[test]
    fn face_that_others_reach_wants_a_token_that_nobody_guesses() {
        assert!(access("127.0.0.1:1", None).is_ok());
        for token in [None, Some(""), Some("short")] {
            assert!(access("0.0.0.0:1", token).is_err(), "{token:?}");
        }
        assert!(access("0.0.0.0:1", Some("0123456789abcdef")).is_ok());
    }

    #[tokio::test]
    async fn strangers_pages_and_wrong_tokens_are_turned_away() {
        let access = access("127.0.0.1:1", Some("secret")).unwrap();
        let allowed = async |path: &str, headers: &[(&str, &str)]| {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                let name: HeaderName = name.parse().unwrap();
                map.insert(name, value.parse().unwrap());
            }
            access.check(&Method::GET, path, &map).await.is_ok()
        };
        let host = ("host", "localhost:1");
        let token = ("authorization", "Bearer secret");
        assert!(allowed("/health", &[host]).await);
        assert!(allowed("/metrics", &[host, token]).await);
        assert!(!allowed("/metrics", &[host]).await);
        assert!(!allowed("//health", &[host]).await);
        assert!(!allowed("/metrics", &[host, ("authorization", "Bearer Secret")]).await);
        assert!(!allowed("/health", &[("host", "evil.example")]).await);
        assert!(!allowed("/health", &[host, ("origin", "https://evil.example")]).await);
    }
}
