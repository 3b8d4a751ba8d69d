//! Tokens: kept by digest, good until they are removed or over; and what their bounds are held against.

use super::*;
use crate::ids::TokenId;
use crate::token::{Quota, Role, Token};
use sha2::{Digest, Sha256};
use std::time::Duration;

fn new_token(name: &str, lives: Option<Duration>) -> NewToken {
    NewToken {
        id: TokenId::generate(),
        name: name.into(),
        role: Role::Submit,
        owner: OWNER.into(),
        digest: Sha256::digest(format!("{name}{lives:?}")).into(),
        quota: Quota {
            max_queued: Some(7),
            requests_per_s: None,
        },
        lives,
    }
}

async fn added(store: &dyn Store, new: NewToken) -> Token {
    match store.token_add(new).await.unwrap() {
        TokenAdded::Added(token) => *token,
        other => panic!("{other:?}"),
    }
}

pub async fn token_is_found_until_it_is_removed(store: &dyn Store) {
    let new = new_token("b", None);
    let second = added(store, new.clone()).await;
    let first = added(store, new_token("a", Some(Duration::from_secs(3_600)))).await;
    assert_eq!(
        (&second.id, second.digest, second.role, second.quota),
        (&new.id, new.digest, Role::Submit, new.quota)
    );
    assert_eq!(second.expires_at_us, None);
    assert_eq!(
        first.expires_at_us,
        Some(first.created_at_us + 3_600_000_000)
    );
    assert_eq!(
        store.token_list().await.unwrap(),
        [first.clone(), second.clone()]
    );
    assert!(store.token_remove(&first.id).await.unwrap());
    assert!(!store.token_remove(&first.id).await.unwrap());
    assert_eq!(store.token_list().await.unwrap(), [second]);
}

pub async fn name_is_taken_while_its_token_is_good(store: &dyn Store) {
    added(store, new_token("a", Some(Duration::from_secs(60)))).await;
    let same = store.token_add(new_token("a", None)).await.unwrap();
    assert_eq!(same, TokenAdded::NameTaken);
    let over = added(store, new_token("b", Some(Duration::ZERO))).await;
    let names = async || -> Vec<String> {
        let listed = store.token_list().await.unwrap();
        listed.into_iter().map(|token| token.name).collect()
    };
    assert_eq!(names().await, ["a"]);
    let again = added(store, new_token("b", None)).await;
    assert_ne!(again.id, over.id);
    assert_eq!(names().await, ["a", "b"]);
}

pub async fn unfinished_jobs_are_counted_by_owner(store: &dyn Store) {
    assert_eq!(store.jobs_unfinished(OWNER).await.unwrap(), 0);
    let batch = shown(store, vec![job(0), job(1), bad_job(2)]).await;
    shown(store, vec![job(0), job(1)]).await;
    let theirs = NewBatch {
        owner: "bob".into(),
        ..new_batch(None)
    };
    sealed(store, theirs, vec![job(0)]).await;
    assert_eq!(store.jobs_unfinished(OWNER).await.unwrap(), 4);
    let attempt = placed(store, at(&batch, 0)).await;
    assert_eq!(store.jobs_unfinished(OWNER).await.unwrap(), 4);
    finish(store, at(&batch, 0), attempt, answer("yes")).await;
    assert_eq!(store.jobs_unfinished(OWNER).await.unwrap(), 3);
    store.batch_cancel(batch.no).await.unwrap();
    assert_eq!(store.jobs_unfinished(OWNER).await.unwrap(), 2);
    assert_eq!(store.jobs_unfinished("bob").await.unwrap(), 1);
}
