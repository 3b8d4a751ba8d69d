use super::*;
use crate::store::contract::{self, job, new_batch};
use rbee_test_services::Postgres;

mod faults;
mod many;

async fn open() -> (PostgresStore, ()) {
    let url = Postgres::shared().database();
    (PostgresStore::open(&url).await.unwrap(), ())
}

contract::store_contract!(open);

fn name_of(url: &str) -> &str {
    url.rsplit('/').next().unwrap()
}

#[tokio::test]
async fn newer_schema_is_refused_and_left_alone() {
    let url = Postgres::shared().database();
    PostgresStore::open(&url).await.unwrap();
    let sql = |statement| Postgres::shared().sql(name_of(&url), statement);
    sql("UPDATE rbee_schema SET version = 999");
    let error = PostgresStore::open(&url).await.unwrap_err();
    assert!(
        matches!(error, StoreError::NewerSchema { found: 999, .. }),
        "{error}"
    );
    assert_eq!(sql("SELECT version FROM rbee_schema"), "999");
}

#[tokio::test]
async fn many_processes_may_open_a_new_database_at_once() {
    let url = Postgres::shared().database();
    let opens = (0..8).map(|_| PostgresStore::open(&url));
    for store in futures_util::future::join_all(opens).await {
        store.unwrap().batch_create(new_batch(None)).await.unwrap();
    }
    let applied = Postgres::shared().sql(name_of(&url), "SELECT COUNT(*) FROM rbee_schema");
    assert_eq!(applied, "1");
}

#[tokio::test]
async fn lost_chunk_of_a_load_is_noticed() {
    let url = Postgres::shared().database();
    let store = PostgresStore::open(&url).await.unwrap();
    for (table, fill) in [("payloads", true), ("payloads", false)] {
        let (_, no) = store.batch_create(new_batch(None)).await.unwrap();
        let chunk = |first: u64| (first..first + 10).map(job).collect::<Vec<_>>();
        store.batch_fill(no, chunk(0)).await.unwrap();
        // What a server forgets that lost power before it wrote the chunk.
        let forget = format!("DELETE FROM {table} WHERE batch_no = {}", no.0);
        Postgres::shared().sql(name_of(&url), &forget);
        let error = match fill {
            true => store.batch_fill(no, chunk(10)).await.unwrap_err(),
            false => store.batch_seal(no).await.unwrap_err(),
        };
        assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
        assert!(store.batch_delete(no).await.unwrap());
    }
    let (_, no) = store.batch_create(new_batch(None)).await.unwrap();
    let error = store.batch_fill(no, vec![job(7)]).await.unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
}
