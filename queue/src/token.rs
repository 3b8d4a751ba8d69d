//! Tokens of the API, as stores and servers see them: who somebody is, and what they may do.
//!
//! Owns the types. The token itself is nowhere but with its user: a store knows its sha256.

use crate::ids::TokenId;
use crate::words::words;

words! {
    /// What the bearer of a token may do.
    Role {
        /// Everything, to everything.
        Admin = "admin",
        /// To make, change and read batches of the token's owner.
        Submit = "submit",
        /// To read, and no more.
        Read = "read",
        /// To fetch model files, as a node does.
        Node = "node",
    }
}

/// Bounds of one token's use. `None`: there is no bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    /// Unfinished jobs of all batches of the token's owner.
    pub max_queued: Option<u64>,
    /// Requests in a second, on each server.
    pub requests_per_s: Option<u32>,
}

/// A token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Its id.
    pub id: TokenId,
    /// Its name for people: no other has it.
    pub name: String,
    /// What it is good for.
    pub role: Role,
    /// Whose batches it makes and sees.
    pub owner: String,
    /// The sha256 of its text.
    pub digest: [u8; 32],
    /// Bounds of its use.
    pub quota: Quota,
    /// By the store's clock.
    pub created_at_us: i64,
    /// By the store's clock; `None`: never.
    pub expires_at_us: Option<i64>,
}
