//! Tokens.

use super::super::tokens::{self as sql, MAX_TOKENS, NewToken, TokenAdded, TokenStore};
use super::{SqliteStore, StoreError, now_us};
use crate::ids::TokenId;
use crate::token::Token;
use async_trait::async_trait;

#[async_trait]
impl TokenStore for SqliteStore {
    async fn token_add(&self, new: NewToken) -> Result<TokenAdded, StoreError> {
        let mut tx = self.begin().await?;
        let now = now_us();
        sqlx::query(sql::PRUNE)
            .bind(now)
            .execute(&mut *tx)
            .await
            .map_err(|error| self.error(error))?;
        let count: i64 = sqlx::query_scalar(sql::COUNT)
            .fetch_one(&mut *tx)
            .await
            .map_err(|error| self.error(error))?;
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
            .bind(
                new.lives
                    .map(|lives| now.saturating_add(super::micros(lives))),
            )
            .fetch_optional(&mut *tx)
            .await
            .map_err(|error| self.error(error))?;
        self.commit(tx).await?;
        match made {
            Some(row) => Ok(TokenAdded::Added(Box::new(sql::token(&row)?))),
            None => Ok(TokenAdded::NameTaken),
        }
    }

    async fn token_list(&self) -> Result<Vec<Token>, StoreError> {
        let found = sqlx::query(sql::LIST)
            .bind(now_us())
            .fetch_all(&self.readers)
            .await
            .map_err(|error| self.error(error))?;
        sql::tokens(&found)
    }

    async fn token_remove(&self, id: &TokenId) -> Result<bool, StoreError> {
        let done = sqlx::query(sql::REMOVE)
            .bind(id.as_str())
            .execute(&self.writer)
            .await
            .map_err(|error| self.error(error))?;
        Ok(done.rows_affected() > 0)
    }

    async fn jobs_unfinished(&self, owner: &str) -> Result<u64, StoreError> {
        let jobs: i64 = sqlx::query_scalar(sql::UNFINISHED)
            .bind(owner)
            .fetch_one(&self.readers)
            .await
            .map_err(|error| self.error(error))?;
        Ok(jobs.max(0) as u64)
    }
}
