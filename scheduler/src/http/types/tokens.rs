//! Tokens as clients see them.

use rbee_queue::token::{Role, Token};
use rbee_queue::{TokenId, whole_number};
use serde::{Deserialize, Serialize};

/// A token to be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewTokenSpec {
    /// Its name: no other has it.
    pub name: String,
    /// What it is good for.
    pub role: Role,
    /// Whose batches it makes and sees; `*`, for one that reads: everybody's. `None`: the name's, and everybody's for one
    /// that reads.
    #[serde(default)]
    pub owner: Option<String>,
    /// Unfinished jobs that its owner may have at once.
    #[serde(default, deserialize_with = "whole_number::optional")]
    pub max_queued: Option<u64>,
    /// Requests that it may make in a second, on each server.
    #[serde(default, deserialize_with = "whole_number::optional")]
    pub requests_per_s: Option<u32>,
    /// Seconds for which it is good; `None`: until it is revoked.
    #[serde(default, deserialize_with = "whole_number::optional")]
    pub expires_in_s: Option<u64>,
}

/// A token as it is listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenView {
    /// Its id.
    pub id: TokenId,
    /// Always `token`.
    pub object: String,
    /// Its name.
    pub name: String,
    /// What it is good for.
    pub role: Role,
    /// Whose batches it makes and sees; `*`: everybody's.
    pub owner: String,
    /// Unfinished jobs that its owner may have at once.
    pub max_queued: Option<u64>,
    /// Requests that it may make in a second, on each server.
    pub requests_per_s: Option<u32>,
    /// Unix seconds.
    pub created_at: i64,
    /// Unix seconds; `None`: never.
    pub expires_at: Option<i64>,
}

impl From<&Token> for TokenView {
    fn from(token: &Token) -> TokenView {
        let seconds = |micros: i64| micros.div_euclid(1_000_000);
        TokenView {
            id: token.id.clone(),
            object: "token".to_owned(),
            name: token.name.clone(),
            role: token.role,
            owner: token.owner.clone(),
            max_queued: token.quota.max_queued,
            requests_per_s: token.quota.requests_per_s,
            created_at: seconds(token.created_at_us),
            expires_at: token.expires_at_us.map(seconds),
        }
    }
}

/// A token that was made, and its text, which is told this once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenMade {
    /// What is kept of it.
    #[serde(flatten)]
    pub view: TokenView,
    /// The token.
    pub token: String,
}

/// A one-time link to the dashboard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DashboardLink {
    /// Path and query; `/` where no token is asked for.
    pub path: String,
}
