//! How often each token was used of late, on this server.

use super::super::error::ApiError;
use rbee_queue::TokenId;
use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Instant;

/// Uses of the tokens that have a bound.
#[derive(Default)]
pub struct TokenUses {
    uses: Mutex<HashMap<TokenId, Uses>>,
}

/// What is left of a token's requests: it grows by the bound each second, up to the bound.
struct Uses {
    left: f64,
    at: Instant,
}

impl TokenUses {
    /// Counts a request of a token against its bound.
    pub fn count(&self, token: &TokenId, a_second: u32) -> Result<(), ApiError> {
        let now = Instant::now();
        let most = f64::from(a_second.max(1));
        let mut uses = self
            .uses
            .lock()
            .expect("nothing panics while it holds this");
        let entry = uses.entry(token.clone());
        let of_token = entry.or_insert(Uses {
            left: most,
            at: now,
        });
        let grown = now.duration_since(of_token.at).as_secs_f64() * most;
        of_token.left = (of_token.left + grown).min(most);
        of_token.at = now;
        if of_token.left < 1.0 {
            return Err(ApiError::too_many(format!(
                "this token may make {a_second} requests a second: try again in a moment"
            )));
        }
        of_token.left -= 1.0;
        Ok(())
    }
}
