//! The one connection for commands, opened again when it broke, and the words for what goes wrong.

use super::place::{Place, Wire};
use super::scripts::Lua;
use crate::queue::QueueError;
use redis::{Cmd, ErrorKind, FromRedisValue, RedisError, ServerErrorKind};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::Mutex;

/// How the TLS library says that a certificate was signed by somebody unknown, or by somebody of a known name.
const UNKNOWN_SIGNERS: [&str; 2] = ["UnknownIssuer", "BadSignature"];

/// The connection to a place.
pub struct Link {
    place: Arc<Place>,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    wire: Option<Wire>,
    /// Counts the connections, so that one caller's failure does not close a newer one.
    generation: u64,
    /// When the last try to connect failed, and why: whoever waited for it shares it.
    failed: Option<(Instant, RedisError)>,
}

impl Link {
    /// Nothing is opened yet.
    pub fn new(place: Arc<Place>) -> Link {
        Link {
            place,
            open: Mutex::default(),
        }
    }

    /// Runs a script.
    pub async fn run<T: FromRedisValue>(
        &self,
        script: &Lua,
        keys: &[String],
        arguments: &[Vec<u8>],
    ) -> Result<T, QueueError> {
        let ran = self.query(&script.by_digest(keys, arguments)).await;
        let ran = match ran {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                self.query(&script.by_text(keys, arguments)).await
            }
            ran => ran,
        };
        ran.map_err(|error| self.unavailable(&error))
    }

    /// Sends a command.
    pub async fn ask<T: FromRedisValue>(&self, cmd: &Cmd) -> Result<T, QueueError> {
        let asked = self.query(cmd).await;
        asked.map_err(|error| self.unavailable(&error))
    }

    /// The connection, if there is one: what is best effort does not wait for a new one.
    pub fn at_hand(&self) -> Option<Wire> {
        self.open.try_lock().ok()?.wire.clone()
    }

    /// Sends a command; once more over a new connection if the one at hand turns out to be broken.
    /// Everything that is sent may be done twice.
    async fn query<T: FromRedisValue>(&self, cmd: &Cmd) -> Result<T, RedisError> {
        let mut again = true;
        loop {
            let (mut wire, generation) = self.wire().await?;
            let answer = cmd.query_async(&mut wire).await;
            let Err(error) = &answer else {
                return answer;
            };
            if is_broken(error) {
                self.close(generation).await;
            }
            if !again || !error.is_connection_dropped() {
                return answer;
            }
            again = false;
        }
    }

    async fn wire(&self) -> Result<(Wire, u64), RedisError> {
        let since = Instant::now();
        let mut open = self.open.lock().await;
        if let Some(wire) = &open.wire {
            return Ok((wire.clone(), open.generation));
        }
        if let Some((when, error)) = &open.failed
            && *when >= since
        {
            return Err(error.clone());
        }
        let wire = match self.place.wire().await {
            Ok(wire) => wire,
            Err(error) => {
                open.failed = Some((Instant::now(), error.clone()));
                return Err(error);
            }
        };
        open.generation += 1;
        open.wire = Some(wire.clone());
        Ok((wire, open.generation))
    }

    async fn close(&self, generation: u64) {
        let mut open = self.open.lock().await;
        if open.generation == generation {
            open.wire = None;
        }
    }

    /// The error that callers see.
    pub fn unavailable(&self, error: &RedisError) -> QueueError {
        QueueError::Unavailable {
            place: self.place.shown().to_owned(),
            reason: reason(error),
        }
    }
}

/// Whether a connection is of no more use: broken, silent, or to a server that is no more the
/// master.
fn is_broken(error: &RedisError) -> bool {
    error.is_io_error()
        || error.is_connection_dropped()
        || error.is_unrecoverable_error()
        || matches!(
            error.kind(),
            ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown)
        )
}

/// What went wrong, in a sentence. The driver's own words have no secrets: passwords are sent, and
/// servers do not repeat them.
pub fn reason(error: &RedisError) -> String {
    if error.kind() == ErrorKind::AuthenticationFailed {
        return "it wants another user or password".to_owned();
    }
    match error.code() {
        Some("OOM") => {
            "its memory is full (maxmemory): give it more, or let what uses it end; nothing that was taken over is lost".to_owned()
        }
        Some("NOAUTH" | "WRONGPASS") => "it wants another user or password".to_owned(),
        Some("LOADING") => "it is still loading its data".to_owned(),
        _ => {
            let said = error.to_string();
            match UNKNOWN_SIGNERS.iter().any(|signer| said.contains(signer)) {
                true => format!(
                    "its certificate is signed by nobody that this machine trusts: name the authority by ?ssl_ca_certs=FILE \
                     in the URL ({said})"
                ),
                false => said,
            }
        }
    }
}
