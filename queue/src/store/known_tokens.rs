//! The tokens of a store as a process knows them that lets callers in: a server, or a node's face.
//!
//! Owns the copy: it is read again after a second, so that a token that was revoked anywhere is refused everywhere within
//! one, and a store that does not answer is not asked at each request.

use super::{Store, StoreError};
use crate::token::Token;
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};
use subtle::ConstantTimeEq;

/// How old the copy may be for a token that is in it.
const FRESH: Duration = Duration::from_secs(1);
/// The same for one that is not: somebody may have made it a moment ago. It bounds what guesses cost the store.
const FRESH_FOR_STRANGERS: Duration = Duration::from_millis(100);
/// How old it may be while the store does not answer.
const STALE: Duration = Duration::from_secs(60);

/// The tokens of one store.
pub struct KnownTokens {
    store: Arc<dyn Store>,
    seen: RwLock<Option<Seen>>,
    /// Held by whoever reads the store.
    reading: tokio::sync::Mutex<()>,
}

#[derive(Clone)]
struct Seen {
    at: Instant,
    tokens: Arc<Vec<Token>>,
}

impl Seen {
    /// All are compared, and each in constant time.
    fn find(&self, digest: &[u8; 32]) -> Option<Token> {
        let mut found = None;
        for token in self.tokens.iter() {
            if bool::from(token.digest.ct_eq(digest)) {
                found = Some(token);
            }
        }
        found.cloned()
    }
}

impl KnownTokens {
    /// Nothing is read yet.
    pub fn new(store: Arc<dyn Store>) -> KnownTokens {
        KnownTokens {
            store,
            seen: RwLock::default(),
            reading: tokio::sync::Mutex::default(),
        }
    }

    /// Forgets the copy: a token was made or revoked here.
    pub fn forget(&self) {
        *self
            .seen
            .write()
            .expect("nothing panics while it holds this") = None;
    }

    fn seen(&self) -> Option<Seen> {
        let seen = self.seen.read();
        seen.expect("nothing panics while it holds this").clone()
    }

    /// The token with this digest, if there is one.
    pub async fn find(&self, digest: &[u8; 32]) -> Result<Option<Token>, StoreError> {
        if let Some(found) = self.look(digest) {
            return Ok(found);
        }
        let _turn = self.reading.lock().await;
        // Somebody else may have read it meanwhile.
        if let Some(found) = self.look(digest) {
            return Ok(found);
        }
        match self.store.token_list().await {
            Ok(tokens) => {
                let seen = Seen {
                    at: Instant::now(),
                    tokens: Arc::new(tokens),
                };
                let found = seen.find(digest);
                *self
                    .seen
                    .write()
                    .expect("nothing panics while it holds this") = Some(seen);
                Ok(found)
            }
            Err(error) => {
                let seen = self.seen().filter(|seen| seen.at.elapsed() < STALE);
                tracing::warn!(%error, "tokens cannot be read");
                seen.map(|seen| seen.find(digest)).ok_or(error)
            }
        }
    }

    /// What the copy says, if it is fresh enough to say it.
    fn look(&self, digest: &[u8; 32]) -> Option<Option<Token>> {
        let seen = self.seen()?;
        let found = seen.find(digest);
        let fresh = match found {
            Some(_) => FRESH,
            None => FRESH_FOR_STRANGERS,
        };
        (seen.at.elapsed() < fresh).then_some(found)
    }
}
