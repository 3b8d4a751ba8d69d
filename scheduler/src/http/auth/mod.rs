//! Who may speak to the server: whoever shows a token, and no web page of a stranger.
//!
//! Owns the checks. There is the server's own token, which comes from its caller, tokens of the store, and cookies of
//! browsers that have shown one of them.

mod caller;
mod sessions;
mod uses;

pub use caller::{Admin, Caller, EVERYBODY, SeesAll};
pub use sessions::Sessions;
pub use uses::TokenUses;

use super::error::ApiError;
use super::{Server, login};
use crate::secret::digest;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use subtle::ConstantTimeEq;

/// The shortest token that is taken where others than this machine can reach the server.
pub const TOKEN_BYTES_MIN: usize = 16;

/// Routes that answer without a token: one says nothing but that the server lives, the other is where a token is shown.
const OPEN: [&str; 2] = ["/health", login::PATH];

/// What a request must show.
#[derive(Clone)]
pub struct Auth {
    /// The digest of the server's own token; `None`: nothing is asked for.
    token: Option<[u8; 32]>,
    /// Only this machine can reach the server.
    loopback: bool,
    /// Names of this machine that are no address of it: those of a proxy before it.
    names: Vec<String>,
    sessions: Arc<Sessions>,
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
            names: Vec::new(),
            sessions: Arc::default(),
        })
    }

    /// Takes requests for these names too, by which a proxy on this machine is known.
    pub fn known_as(self, names: Vec<String>) -> Auth {
        Auth { names, ..self }
    }

    /// The path and query of a one-time link, by which a browser need not show the server's own token. `None`: nothing is
    /// asked for.
    pub fn link(&self) -> io::Result<Option<String>> {
        let Some(token) = self.token else {
            return Ok(None);
        };
        let link = self.sessions.new_link(token)?;
        Ok(Some(format!("{}?link={link}", login::PATH)))
    }

    /// Browsers that have shown a token.
    pub(super) fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// Whether nothing is asked for.
    pub(super) fn is_open(&self) -> bool {
        self.token.is_none()
    }

    /// A browser sends the host that it believes to speak to and the page that makes it speak: a stranger's page, or a
    /// stranger's name that leads to this machine, is turned away.
    fn check_origin(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        let host = text(headers, header::HOST).map(host_name);
        let named = |host: &str| {
            self.names
                .iter()
                .any(|name| name.eq_ignore_ascii_case(host))
        };
        if self.loopback && !host.is_some_and(|host| is_this_machine(host) || named(host)) {
            return Err(ApiError::forbidden(
                "the Host header does not name this machine: `rbee serve --allow-host NAME` allows the name of a proxy",
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

/// What a request shows: the digest of a token, or that of the one which its session stands for.
enum Shown {
    Token([u8; 32]),
    Session([u8; 32]),
}

impl Server {
    /// Who makes a request with these headers.
    async fn caller(&self, method: &Method, headers: &HeaderMap) -> Result<Caller, ApiError> {
        let Some(own) = &self.auth.token else {
            return Ok(Caller::root());
        };
        let bearer = bearer(headers).map(|token| Shown::Token(digest(token)));
        let shown = bearer
            .or_else(|| self.auth.sessions.find(headers).map(Shown::Session))
            .ok_or_else(|| {
                ApiError::unauthorized(
                    "this server wants a token: send `Authorization: Bearer …`; rbee's commands take it from RBEE_API_TOKEN",
                )
            })?;
        let digest = match &shown {
            Shown::Token(digest) | Shown::Session(digest) => digest,
        };
        // A browser sends the cookie with whatever a page asks for, and says which page that is where it matters.
        if matches!(shown, Shown::Session(_))
            && !method.is_safe()
            && !headers.contains_key(header::ORIGIN)
        {
            return Err(ApiError::forbidden(
                "a request with a cookie must say which page it comes from",
            ));
        }
        self.holder(own, digest).await
    }

    /// Who holds the token with this digest.
    async fn holder(&self, own: &[u8; 32], digest: &[u8; 32]) -> Result<Caller, ApiError> {
        if bool::from(digest.ct_eq(own)) {
            return Ok(Caller::root());
        }
        let token = self.known_tokens.find(digest).await?.ok_or_else(|| {
            ApiError::unauthorized(
                "the token is not this server's, or was revoked: set RBEE_API_TOKEN to the one that `rbee serve` uses",
            )
        })?;
        if let Some(a_second) = token.quota.requests_per_s {
            self.token_uses.count(&token.id, a_second)?;
        }
        Ok(Caller::from(&token))
    }

    /// Whether a token is good, for a browser that shows it.
    pub(super) async fn is_good(&self, token: &str) -> Result<Option<[u8; 32]>, ApiError> {
        let Some(own) = &self.auth.token else {
            return Ok(None);
        };
        let digest = digest(token);
        self.holder(own, &digest).await.map(|_| Some(digest))
    }
}

/// Lets a request through if it shows what it must, and says whose it is to what comes after.
pub async fn check(State(server): State<Server>, mut request: Request, next: Next) -> Response {
    let headers = request.headers();
    if let Err(error) = server.auth.check_origin(headers) {
        return error.into_response();
    }
    if OPEN.contains(&request.uri().path()) {
        return next.run(request).await;
    }
    let caller = server.caller(request.method(), headers).await;
    let caller = caller.and_then(|caller| {
        caller.check_route(request.method(), request.uri().path())?;
        Ok(caller)
    });
    match caller {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(error) if error.is_unauthorized() && login::is_browser(headers) => {
            login::page(None).into_response()
        }
        Err(error) => error.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: &str = "127.0.0.1:7835";
    const WIDE: &str = "0.0.0.0:7835";

    fn auth(address: &str, token: Option<&str>) -> Result<Auth, AuthError> {
        Auth::new(address.parse().unwrap(), token)
    }

    fn allowed(auth: &Auth, headers: &[(&str, &str)]) -> bool {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name: header::HeaderName = name.parse().unwrap();
            map.insert(name, value.parse().unwrap());
        }
        auth.check_origin(&map).is_ok()
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
    fn pages_of_strangers_are_turned_away() {
        let open = auth(HERE, None).unwrap();
        assert!(allowed(&open, &[("host", "localhost:7835")]));
        assert!(allowed(&open, &[("host", "[::1]:7835")]));
        let proxied = open.clone().known_as(vec!["rbee.example".to_owned()]);
        for (name, known) in [
            ("RBEE.example", true),
            ("rbee.example:443", true),
            ("evil.example", false),
        ] {
            assert_eq!(allowed(&proxied, &[("host", name)]), known, "{name}");
        }
        assert!(!allowed(&open, &[("host", "evil.example")]));
        assert!(!allowed(&open, &[]));
        let host = ("host", "127.0.0.1:7835");
        let own = ("origin", "http://127.0.0.1:7835");
        let foreign = ("origin", "https://evil.example");
        assert!(allowed(&open, &[host, own]));
        assert!(!allowed(&open, &[host, foreign]));
    }
}
