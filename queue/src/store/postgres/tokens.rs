//! Tokens: their ends are judged by the server's clock.

use super::super::tokens::{self as sql, MAX_TOKENS, NewToken, TokenAdded, TokenStore};
use super::schedules::clock;
use super::{Failure, PLAIN, PostgresStore, StoreError, WHOLE, micros};
use crate::ids::TokenId;
use crate::token::Token;
use async_trait::async_trait;
use sqlx::postgres::PgConnection;

#[async_trait]
impl TokenStore for PostgresStore {
    async fn token_add(&self, new: NewToken) -> Result<TokenAdded, StoreError> {
        self.call(WHOLE, &new, |tx, new| Box::pin(add(tx, new)))
            .await
    }

    async fn token_list(&self) -> Result<Vec<Token>, StoreError> {
        self.call(PLAIN, &(), |tx, ()| Box::pin(list(tx))).await
    }

    async fn token_remove(&self, id: &TokenId) -> Result<bool, StoreError> {
        self.call(PLAIN, id, |tx, id| Box::pin(remove(tx, id)))
            .await
    }

    async fn jobs_unfinished(&self, owner: &str) -> Result<u64, StoreError> {
        self.call(PLAIN, &owner, |tx, owner| Box::pin(unfinished(tx, owner)))
            .await
    }
}

async fn add(tx: &mut PgConnection, new: &NewToken) -> Result<TokenAdded, Failure> {
    let now = clock(tx).await?;
    sqlx::query(sql::PRUNE).bind(now).execute(&mut *tx).await?;
    let count: i64 = sqlx::query_scalar(sql::COUNT).fetch_one(&mut *tx).await?;
    if count >= MAX_TOKENS as i64 {
        return Ok(TokenAdded::TooMany);
    }
    let made = sqlx::query(sql::ADD)
        .bind(new.id.as_str())
        .bind(&new.name)
        .bind(new.role.as_str())
        .bind(&new.owner)
        .bind(new.digest.as_slice())
        .bind(sql::bound(new.quota.max_queued))
        .bind(new.quota.requests_per_s.map(i64::from))
        .bind(now)
        .bind(new.lives.map(|lives| now.saturating_add(micros(lives))))
        .fetch_optional(&mut *tx)
        .await?;
    match made {
        Some(row) => Ok(TokenAdded::Added(Box::new(sql::token(&row)?))),
        None => Ok(TokenAdded::NameTaken),
    }
}

async fn list(tx: &mut PgConnection) -> Result<Vec<Token>, Failure> {
    let now = clock(tx).await?;
    let found = sqlx::query(sql::LIST).bind(now).fetch_all(&mut *tx).await?;
    Ok(sql::tokens(&found)?)
}

async fn remove(tx: &mut PgConnection, id: &TokenId) -> Result<bool, Failure> {
    let done = sqlx::query(sql::REMOVE)
        .bind(id.as_str())
        .execute(&mut *tx)
        .await?;
    Ok(done.rows_affected() > 0)
}

async fn unfinished(tx: &mut PgConnection, owner: &str) -> Result<u64, Failure> {
    let jobs: i64 = sqlx::query_scalar(sql::UNFINISHED)
        .bind(owner)
        .fetch_one(&mut *tx)
        .await?;
    Ok(jobs.max(0) as u64)
}
