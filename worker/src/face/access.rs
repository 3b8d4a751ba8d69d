//! Who may speak to a node: a bearer token, and no web page of a stranger.

use super::error::FaceError;
use axum::Extension;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, header};
use axum::middleware::Next;
use axum::response::Response;
use sha2::{Digest, Sha256};
use std::net::{IpAddr, SocketAddr};
use subtle::ConstantTimeEq;

/// The shortest token that is taken where others than this machine can reach the node.
const TOKEN_BYTES_MIN: usize = 16;
/// The route that answers without a token: it says nothing but that the node lives.
const OPEN: &str = "/health";

/// What a request must show.
#[derive(Clone)]
pub struct Access {
    /// The token's digest; `None` wants nothing.
    token: Option<[u8; 32]>,
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
            loopback,
        })
    }

    fn check(&self, path: &str, headers: &HeaderMap) -> Result<(), FaceError> {
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
        // Digests have one length, so that comparing tells nothing about the token's.
        let right = bearer(headers).is_some_and(|given| bool::from(digest(given).ct_eq(&token)));
        if right {
            Ok(())
        } else {
            Err(FaceError::unauthorized())
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
    access.check(request.uri().path(), request.headers())?;
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

    #[test]
    fn strangers_pages_and_wrong_tokens_are_turned_away() {
        let access = access("127.0.0.1:1", Some("secret")).unwrap();
        let allowed = |path: &str, headers: &[(&str, &str)]| {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                let name: HeaderName = name.parse().unwrap();
                map.insert(name, value.parse().unwrap());
            }
            access.check(path, &map).is_ok()
        };
        let host = ("host", "localhost:1");
        let token = ("authorization", "Bearer secret");
        assert!(allowed("/health", &[host]));
        assert!(allowed("/metrics", &[host, token]));
        assert!(!allowed("/metrics", &[host]));
        assert!(!allowed("//health", &[host]));
        assert!(!allowed(
            "/metrics",
            &[host, ("authorization", "Bearer Secret")]
        ));
        assert!(!allowed("/health", &[("host", "evil.example")]));
        assert!(!allowed(
            "/health",
            &[host, ("origin", "https://evil.example")]
        ));
    }
}
