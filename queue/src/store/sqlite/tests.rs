use super::*;
use crate::store::contract::{self, job, new_batch};

async fn open() -> (SqliteStore, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&dir.path().join("rbee.db"))
        .await
        .unwrap();
    (store, dir)
}

contract::store_contract!(open);

#[tokio::test]
async fn bundled_sqlite_is_free_of_the_wal_reset_bug() {
    let (store, _dir) = open().await;
    let version: String = sqlx::query_scalar("SELECT sqlite_version()")
        .fetch_one(&store.readers)
        .await
        .unwrap();
    let numbers: Vec<u32> = version
        .split('.')
        .map(|part| part.parse().unwrap())
        .collect();
    assert!(numbers >= vec![3, 51, 3], "{version}");
}

#[tokio::test]
async fn newer_schema_is_refused_and_left_alone() {
    let (store, dir) = open().await;
    sqlx::raw_sql("PRAGMA user_version = 999")
        .execute(&store.writer)
        .await
        .unwrap();
    store.close().await;
    let path = dir.path().join("rbee.db");
    let before = std::fs::read(&path).unwrap();
    let error = SqliteStore::open(&path).await.unwrap_err();
    assert!(
        matches!(error, StoreError::NewerSchema { found: 999, .. }),
        "{error}"
    );
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[tokio::test]
async fn file_that_is_no_database_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rbee.db");
    std::fs::write(
        &path,
        "not a database, but a text of some length\n".repeat(100),
    )
    .unwrap();
    let error = SqliteStore::open(&path).await.unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
}

#[tokio::test]
async fn files_are_private_to_their_user() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data/rbee.db");
    let store = SqliteStore::open(&path).await.unwrap();
    store.batch_create(new_batch(None)).await.unwrap();
    for name in ["rbee.db", "rbee.db-wal"] {
        let mode = std::fs::metadata(dir.path().join("data").join(name))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o077, 0, "{name} has mode {mode:o}");
    }
}

#[tokio::test]
async fn many_processes_may_open_a_new_store_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rbee.db");
    let opens = (0..8).map(|_| SqliteStore::open(&path));
    for store in futures_util::future::join_all(opens).await {
        store.unwrap().batch_create(new_batch(None)).await.unwrap();
    }
}

#[tokio::test]
async fn full_disk_is_its_own_error_and_tears_nothing() {
    let (roomy, dir) = open().await;
    let batch = contract::shown(&roomy, (0..50).map(job).collect()).await;
    let attempt = contract::placed(&roomy, contract::at(&batch, 0)).await;
    // The file may not grow beyond what it has: every write that needs a page fails as it
    // would on a full disk.
    let pages: i64 = sqlx::query_scalar("PRAGMA page_count")
        .fetch_one(&roomy.writer)
        .await
        .unwrap();
    let path = dir.path().join("rbee.db");
    let options = connect_options(&path).pragma("max_page_count", (pages + 20).to_string());
    let store = SqliteStore::connect(options, path.display().to_string());
    let (_, no) = store.batch_create(new_batch(None)).await.unwrap();
    let mut error = None;
    for chunk in 0..200 {
        let jobs = (chunk * 100..chunk * 100 + 100).map(job).collect();
        if let Err(full) = store.batch_fill(no, jobs).await {
            error = Some(full);
            break;
        }
    }
    let error = error.expect("the store grew beyond its limit");
    assert!(matches!(error, StoreError::DiskFull { .. }), "{error}");
    let counts = store.recount(no).await.unwrap();
    assert_eq!(counts[0] % 100, 0, "half a chunk was kept");
    let long = contract::answer(&"x".repeat(1 << 20));
    let finish = contract::finish_of(contract::at(&batch, 0), attempt, long);
    let error = store.finish_many(vec![finish.clone()]).await.unwrap_err();
    assert!(error.is_temporary(), "{error}");
    contract::check_counters(&store, &batch).await;
    // Once there is room, the same result goes in.
    let outcome = roomy.finish_many(vec![finish]).await.unwrap();
    assert!(matches!(outcome[0], FinishOutcome::Stored { .. }));
    contract::check_counters(&store, &batch).await;
}

#[tokio::test]
async fn two_processes_place_a_job_once() {
    let (one, dir) = open().await;
    let other = SqliteStore::open(&dir.path().join("rbee.db"))
        .await
        .unwrap();
    let batch = contract::shown(&one, (0..100).map(job).collect()).await;
    let jobs: Vec<JobRef> = (0..100).map(|index| contract::at(&batch, index)).collect();
    let node = NodeInstance::generate();
    let (here, there) = futures_util::future::join(
        contract::place_on(&one, &jobs, &node, "x"),
        contract::place_on(&other, &jobs, &node, "x"),
    )
    .await;
    for (here, there) in here.into_iter().zip(there) {
        let placed = [here, there]
            .iter()
            .filter(|o| matches!(o, PlaceOutcome::Placed(_)))
            .count();
        assert_eq!(placed, 1);
    }
}
