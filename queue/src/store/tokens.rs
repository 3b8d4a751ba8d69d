//! What a store does for tokens: a trait of its own, which every store has.
//!
//! Owns what goes in and comes out, the SQL that both kinds of database understand, and rows to tokens.

use super::StoreError;
use super::rows::Fields;
use crate::ids::TokenId;
use crate::token::{Quota, Role, Token};
use async_trait::async_trait;
use std::time::Duration;

/// Tokens of one store.
pub const MAX_TOKENS: usize = 10_000;

/// A token to be made.
#[derive(Clone, Debug)]
pub struct NewToken {
    /// Its id.
    pub id: TokenId,
    /// Its name.
    pub name: String,
    /// What it is good for.
    pub role: Role,
    /// Whose batches it makes and sees.
    pub owner: String,
    /// The sha256 of its text.
    pub digest: [u8; 32],
    /// Bounds of its use.
    pub quota: Quota,
    /// How long it is good; `None`: for ever.
    pub lives: Option<Duration>,
}

/// What became of a new token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenAdded {
    /// It is there.
    Added(Box<Token>),
    /// Another one has its name.
    NameTaken,
    /// There are [`MAX_TOKENS`] already.
    TooMany,
}

/// Tokens and what their bounds are held against.
#[async_trait]
pub trait TokenStore: Send + Sync {
    /// Keeps a new token.
    async fn token_add(&self, new: NewToken) -> Result<TokenAdded, StoreError>;

    /// All tokens that are good now, by name.
    async fn token_list(&self) -> Result<Vec<Token>, StoreError>;

    /// Forgets a token. True if there was one.
    async fn token_remove(&self, id: &TokenId) -> Result<bool, StoreError>;

    /// Unfinished jobs of all batches of an owner that were shown.
    async fn jobs_unfinished(&self, owner: &str) -> Result<u64, StoreError>;
}

/// now. Names of tokens that are over can be taken again.
pub const PRUNE: &str = "DELETE FROM tokens WHERE expires_at_us <= $1";

pub const COUNT: &str = "SELECT COUNT(*) FROM tokens";

/// id, name, role, owner, digest, the two bounds, now, the end.
pub const ADD: &str = "INSERT INTO tokens (id, name, role, owner, digest, max_queued, \
     requests_per_s, created_at_us, expires_at_us) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) \
     ON CONFLICT (name) DO NOTHING \
     RETURNING id, name, role, owner, digest, max_queued, requests_per_s, created_at_us, expires_at_us";

/// now.
pub const LIST: &str = "SELECT id, name, role, owner, digest, max_queued, requests_per_s, \
     created_at_us, expires_at_us FROM tokens \
     WHERE expires_at_us IS NULL OR expires_at_us > $1 ORDER BY name";

/// id.
pub const REMOVE: &str = "DELETE FROM tokens WHERE id = $1";

/// owner.
pub const UNFINISHED: &str = "SELECT CAST(COALESCE(SUM(total - succeeded - failed), 0) AS BIGINT) \
     FROM batches WHERE owner = $1 AND visible = 1 AND status IN ('in_progress', 'cancelling', 'finalizing')";

/// A bound as SQL keeps it.
pub fn bound(number: Option<u64>) -> Option<i64> {
    number.map(|number| i64::try_from(number).unwrap_or(i64::MAX))
}

/// The tokens of some rows. One with a role that this version does not know was made by a newer one: it opens nothing here.
pub fn tokens<F: Fields>(rows: &[F]) -> Result<Vec<Token>, StoreError> {
    let is_newer = |row: &F| {
        let role = row.text("role");
        role.is_ok_and(|role| Role::from_word(role).is_none())
    };
    let known = rows.iter().filter(|row| !is_newer(row));
    known.map(token).collect()
}

pub fn token(row: &impl Fields) -> Result<Token, StoreError> {
    let id = row.text("id")?;
    let damaged = |what: &dyn std::fmt::Display| StoreError::damaged(format!("{id}: {what}"));
    let role = row.text("role")?;
    let bound = |column: &str| match row.int_or_null(column)? {
        None => Ok(None),
        Some(_) => row.count(column).map(Some),
    };
    Ok(Token {
        id: id.parse().map_err(|error| damaged(&error))?,
        name: row.text("name")?.to_owned(),
        role: Role::from_word(role).ok_or_else(|| damaged(&format!("unknown role {role:?}")))?,
        owner: row.text("owner")?.to_owned(),
        digest: row.digest("digest")?,
        quota: Quota {
            max_queued: bound("max_queued")?,
            requests_per_s: bound("requests_per_s")?
                .map(|number| u32::try_from(number).unwrap_or(u32::MAX)),
        },
        created_at_us: row.int("created_at_us")?,
        expires_at_us: row.int_or_null("expires_at_us")?,
    })
}
