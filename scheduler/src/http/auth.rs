//! Who may speak to the server: a bearer token, and no web page of a stranger.
//!
//! Owns the checks. Where the token comes from is the caller's.

use super::Server;
use super::error::ApiError;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Uri, header};
use axum::middleware::Next;
use axum::response::Response;
use sha2::{Digest, Sha256};
use std::net::{IpAddr, SocketAddr};
use subtle::ConstantTimeEq;

/// The shortest token that is taken where others than this machine can reach the server.
pub const TOKEN_BYTES_MIN: usize = 16;

/// Routes that answer without a token: they say nothing but that the server lives.
const OPEN: [&str; 2] = ["/health", "/ready"];

/// What a request must show.
#[derive(Clone)]
pub struct Auth {
    /// `None`: nothing.
    token: Option<[u8; 32]>,
    /// Only this machine can reach the server.
    loopback: bool,
}

/// Why a server must not start like this.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// Everybody on the network could do everything.
    #[error(
        "{address} can be reached by other machines: a server without a token is for loopback only"
    )]
    Open {
        /// Where it would listen.
        address: SocketAddr,
    },
    /// A token that can be guessed.
    #[error(
        "the token has {bytes} bytes, and {address} can be reached by other machines: use one of {TOKEN_BYTES_MIN} bytes or more"
    )]
    Short {
        /// Where it would listen.
        address: SocketAddr,
        /// The token's length.
        bytes: usize,
    },
    /// An empty token is none.
    #[error("the token is empty: set one, or leave it out to have one made")]
    Empty,
}

impl Auth {
    /// What requests to a server at `address` must show; `token` `None` is nothing.
    pub fn new(address: SocketAddr, token: Option<&str>) -> Result<Auth, AuthError> {
        let loopback = address.ip().is_loopback();
        match token {
            None if !loopback => return Err(AuthError::Open { address }),
            Some("") => return Err(AuthError::Empty),
            Some(token) if !loopback && token.len() < TOKEN_BYTES_MIN => {
                let bytes = token.len();
                return Err(AuthError::Short { address, bytes });
            }
            _ => {}
        }
        Ok(Auth {
            token: token.map(digest),
            loopback,
        })
    }

    fn check(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), ApiError> {
        self.check_origin(headers)?;
        if OPEN.contains(&uri.path()) {
            return Ok(());
        }
        let Some(token) = &self.token else {
            return Ok(());
        };
        let Some(given) = bearer(headers) else {
            return Err(ApiError::unauthorized(
                "this server wants a token: send `Authorization: Bearer …`; rbee's commands take it from RBEE_API_TOKEN",
            ));
        };
        // Digests have one length, so that comparing tells nothing about the token's.
        if bool::from(digest(given).ct_eq(token)) {
            return Ok(());
        }
        Err(ApiError::unauthorized(
            "the token is not this server's: set RBEE_API_TOKEN to the one that `rbee serve` uses",
        ))
    }

    /// A browser sends the host that it believes to speak to and the page that makes it speak: a stranger's page, or a
    /// stranger's name that leads to this machine, is turned away.
    fn check_origin(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        let host = text(headers, header::HOST).map(host_name);
        if self.loopback && !host.is_some_and(is_this_machine) {
            return Err(ApiError::forbidden(
                "the Host header does not name this machine",
            ));
        }
        let origin = text(headers, header::ORIGIN);
        let foreign = origin.is_some_and(|origin| {
            let page = origin.split_once("://").map_or(origin, |(_, rest)| rest);
            Some(host_name(page)) != host
        });
        if foreign {
            return Err(ApiError::forbidden(
                "the Origin header names another site than the server's",
            ));
        }
        Ok(())
    }
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = text(headers, header::AUTHORIZATION)?.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then_some(token.trim())
}

/// `localhost` of `localhost:7835`, `::1` of `[::1]:7835`.
fn host_name(authority: &str) -> &str {
    if let Some(rest) = authority.strip_prefix('[') {
        return rest.split(']').next().unwrap_or(rest);
    }
    authority.split(':').next().unwrap_or(authority)
}

fn is_this_machine(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Lets a request through if it shows what it must.
pub async fn check(
    State(server): State<Server>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    server.auth.check(request.uri(), request.headers())?;
    Ok(next.run(request).await)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: &str = "127.0.0.1:7835";
    const WIDE: &str = "0.0.0.0:7835";

    fn auth(address: &str, token: Option<&str>) -> Result<Auth, AuthError> {
        Auth::new(address.parse().unwrap(), token)
    }

    fn allowed(auth: &Auth, path: &str, headers: &[(&str, &str)]) -> bool {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name: header::HeaderName = name.parse().unwrap();
            map.insert(name, value.parse().unwrap());
        }
        auth.check(&path.parse().unwrap(), &map).is_ok()
    }

    #[test]
    fn a_server_that_others_reach_wants_a_token_that_nobody_guesses() {
        assert!(auth(HERE, None).is_ok());
        assert!(auth(HERE, Some("short")).is_ok());
        assert!(matches!(auth(WIDE, None), Err(AuthError::Open { .. })));
        assert!(matches!(
            auth(WIDE, Some("short")),
            Err(AuthError::Short { bytes: 5, .. })
        ));
        assert!(auth(WIDE, Some("0123456789abcdef")).is_ok());
        assert!(matches!(auth(HERE, Some("")), Err(AuthError::Empty)));
    }

    #[test]
    fn every_route_but_health_wants_the_token() {
        let auth = auth(WIDE, Some("0123456789abcdef")).unwrap();
        let host = ("host", "rbee.example");
        assert!(allowed(&auth, "/health", &[host]));
        for path in ["/v1/batches", "/metrics", "/", "//health", "/health/"] {
            assert!(!allowed(&auth, path, &[host]), "{path}");
            let wrong = ("authorization", "Bearer 0123456789abcdeF");
            assert!(!allowed(&auth, path, &[host, wrong]), "{path}");
            let right = ("authorization", "bearer 0123456789abcdef");
            assert!(allowed(&auth, path, &[host, right]), "{path}");
        }
    }

    #[test]
    fn pages_of_strangers_are_turned_away() {
        let open = auth(HERE, None).unwrap();
        assert!(allowed(&open, "/v1/batches", &[("host", "localhost:7835")]));
        assert!(allowed(&open, "/v1/batches", &[("host", "[::1]:7835")]));
        assert!(!allowed(&open, "/v1/batches", &[("host", "evil.example")]));
        assert!(!allowed(&open, "/v1/batches", &[]));
        let host = ("host", "127.0.0.1:7835");
        let own = ("origin", "http://127.0.0.1:7835");
        let foreign = ("origin", "https://evil.example");
        assert!(allowed(&open, "/v1/batches", &[host, own]));
        assert!(!allowed(&open, "/v1/batches", &[host, foreign]));
    }
}
