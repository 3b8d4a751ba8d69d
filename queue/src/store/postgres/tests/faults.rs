//! A server that dies, and a way to it that breaks.

use super::*;
use crate::store::contract::{answer, at, finish_of};
use sqlx::Connection;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A connection that says nothing is noticed within seconds, on a busy machine within this; without a limit of the store's
/// own it would take a quarter of an hour.
const NOTICED_WITHIN: Duration = Duration::from_secs(60);
/// What the way does with what comes from the store.
const PASS: u8 = 0;
/// Swallows everything, both ways, and says nothing.
const SWALLOW: u8 = 1;
/// Breaks instead of passing a commit on.
const BREAK_BEFORE_COMMIT: u8 = 2;
/// Passes a commit on and breaks before its answer.
const BREAK_AFTER_COMMIT: u8 = 3;

/// A way to a server that a test can break.
struct Way {
    url: String,
    mode: Arc<AtomicU8>,
}

impl Way {
    async fn to(url: &str) -> Way {
        let (rest, database) = url.rsplit_once('/').unwrap();
        let server = rest.rsplit('@').next().unwrap().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mode = Arc::new(AtomicU8::new(PASS));
        let modes = Arc::clone(&mode);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, server.clone(), Arc::clone(&modes)));
            }
        });
        let url = format!("postgres://postgres:canary-secret@127.0.0.1:{port}/{database}");
        Way { url, mode }
    }

    fn set(&self, mode: u8) {
        self.mode.store(mode, Ordering::SeqCst);
    }
}

async fn carry(client: TcpStream, server: String, mode: Arc<AtomicU8>) {
    let server = TcpStream::connect(server).await.unwrap();
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let back_mode = Arc::clone(&mode);
    let back = tokio::spawn(async move {
        let mut bytes = vec![0; 65_536];
        while let Ok(count @ 1..) = from_server.read(&mut bytes).await {
            let passes = back_mode.load(Ordering::SeqCst) != SWALLOW;
            if passes && to_client.write_all(&bytes[..count]).await.is_err() {
                return;
            }
        }
    });
    let mut bytes = vec![0; 65_536];
    while let Ok(count @ 1..) = from_client.read(&mut bytes).await {
        let commit = bytes[..count].windows(7).any(|word| word == b"COMMIT\0");
        match mode.load(Ordering::SeqCst) {
            SWALLOW => continue,
            BREAK_BEFORE_COMMIT if commit => {
                mode.store(PASS, Ordering::SeqCst);
                back.abort();
                return;
            }
            BREAK_AFTER_COMMIT if commit => {
                mode.store(SWALLOW, Ordering::SeqCst);
                let _ = to_server.write_all(&bytes[..count]).await;
                let _ = to_server.shutdown().await;
                // The server reads the commit before it reads the end, and then hangs up.
                let _ = back.await;
                mode.store(PASS, Ordering::SeqCst);
                return;
            }
            _ if to_server.write_all(&bytes[..count]).await.is_err() => break,
            _ => {}
        }
    }
    back.abort();
}

fn is_unavailable(error: &StoreError) -> bool {
    let told = error.to_string();
    assert!(!told.contains("canary-secret"), "{told}");
    assert!(!format!("{error:?}").contains("canary-secret"), "{error:?}");
    matches!(error, StoreError::Unavailable { .. }) && error.is_temporary()
}

#[tokio::test]
async fn restart_of_the_server_between_calls_is_not_noticed() {
    let server = Postgres::start();
    let store = PostgresStore::open(&server.database()).await.unwrap();
    let batch = contract::shown(&store, vec![job(0), job(1)]).await;
    let attempt = contract::placed(&store, at(&batch, 0)).await;
    server.down();
    server.up();
    // The old connections are dead, and nobody has looked at them since.
    let outcome = contract::finish(&store, at(&batch, 0), attempt, answer("x")).await;
    assert!(
        matches!(outcome, FinishOutcome::Stored { finish_no: 1, .. }),
        "{outcome:?}"
    );
    contract::check_counters(&store, &batch).await;
    server.down();
    let begun = Instant::now();
    let error = store.batch_get(&batch.id).await.unwrap_err();
    assert!(is_unavailable(&error), "{error}");
    assert!(begun.elapsed() < NOTICED_WITHIN);
    server.up();
    contract::placed(&store, at(&batch, 1)).await;
}

#[tokio::test]
async fn server_that_is_not_there_is_named_without_its_password() {
    let url = "postgres://ann:canary-secret@127.0.0.1:1/rbee";
    let error = PostgresStore::open(url).await.unwrap_err();
    assert!(is_unavailable(&error), "{error}");
    assert!(error.to_string().contains("127.0.0.1:1/rbee"), "{error}");
    let error = PostgresStore::open("postgres://ann:canary-secret@:port/")
        .await
        .unwrap_err();
    assert!(!error.to_string().contains("canary-secret"), "{error}");
}

#[tokio::test]
async fn database_that_is_not_there_is_refused() {
    let url = Postgres::shared().url("nowhere");
    // One that cannot be reached is waited for, and is another error.
    let error = PostgresStore::open(&url).await.unwrap_err();
    assert!(matches!(error, StoreError::Open { .. }), "{error}");
}

#[tokio::test]
async fn silent_connection_is_noticed() {
    let way = Way::to(&Postgres::shared().database()).await;
    let store = PostgresStore::open(&way.url).await.unwrap();
    let batch = contract::shown(&store, vec![job(0)]).await;
    way.set(SWALLOW);
    let begun = Instant::now();
    let error = store.batch_get(&batch.id).await.unwrap_err();
    assert!(is_unavailable(&error), "{error}");
    assert!(begun.elapsed() < NOTICED_WITHIN);
    way.set(PASS);
    contract::placed(&store, at(&batch, 0)).await;
}

#[tokio::test]
async fn dropped_calls_keep_no_connection() {
    let way = Way::to(&Postgres::shared().database()).await;
    let store = PostgresStore::open(&way.url).await.unwrap();
    let batch = contract::shown(&store, vec![job(0)]).await;
    for _ in 0..20 {
        way.set(PASS);
        contract::fresh(&store, &batch).await;
        way.set(SWALLOW);
        let call = store.batch_get(&batch.id);
        let dropped = tokio::time::timeout(Duration::from_millis(5), call).await;
        assert!(dropped.is_err());
    }
    way.set(PASS);
    contract::placed(&store, at(&batch, 0)).await;
}

#[tokio::test]
async fn connection_that_breaks_before_the_commit_changes_nothing() {
    let way = Way::to(&Postgres::shared().database()).await;
    let store = PostgresStore::open(&way.url).await.unwrap();
    let batch = contract::shown(&store, vec![job(0), job(1)]).await;
    let attempt = contract::placed(&store, at(&batch, 0)).await;
    let finish = finish_of(at(&batch, 0), attempt, answer("x"));
    way.set(BREAK_BEFORE_COMMIT);
    let error = store.finish_many(vec![finish.clone()]).await.unwrap_err();
    assert!(is_unavailable(&error), "{error}");
    contract::check_counters(&store, &batch).await;
    let again = store.finish_many(vec![finish]).await.unwrap();
    assert!(matches!(
        again[..],
        [FinishOutcome::Stored { finish_no: 1, .. }]
    ));
}

#[tokio::test]
async fn connection_that_breaks_at_the_commit_leaves_one_result() {
    let way = Way::to(&Postgres::shared().database()).await;
    let store = PostgresStore::open(&way.url).await.unwrap();
    let batch = contract::shown(&store, vec![job(0), job(1)]).await;
    let attempt = contract::placed(&store, at(&batch, 0)).await;
    let finish = finish_of(at(&batch, 0), attempt, answer("x"));
    way.set(BREAK_AFTER_COMMIT);
    let error = store.finish_many(vec![finish.clone()]).await.unwrap_err();
    assert!(is_unavailable(&error), "{error}");
    let again = store.finish_many(vec![finish]).await.unwrap();
    assert_eq!(again, [FinishOutcome::Fenced]);
    let results = store.finished_since(batch.no, 0, 9).await.unwrap();
    assert_eq!(results.len(), 1);
    contract::check_counters(&store, &batch).await;
    // The same for a placement: the job is placed, and its release is the rescue's.
    way.set(BREAK_AFTER_COMMIT);
    let place = Place {
        job: at(&batch, 1),
        node: NodeInstance::generate(),
        numerics: None,
    };
    let error = store.place_many(vec![place]).await.unwrap_err();
    assert!(is_unavailable(&error), "{error}");
    let counts = store.recount(batch.no).await.unwrap();
    assert_eq!(counts, [0, 1, 1, 0, 0]);
}

#[tokio::test]
async fn server_without_free_connections_is_waited_for() {
    let settings = ["max_connections=6", "superuser_reserved_connections=0"];
    let settings = settings.map(|setting| ["-c", setting]).concat();
    let server = Postgres::with(&settings);
    let url = server.database();
    let store = PostgresStore::open(&url).await.unwrap();
    let mut others = Vec::new();
    let options = PgConnectOptions::from_str(&url).unwrap();
    while let Ok(other) = PgConnection::connect_with(&options).await {
        others.push(other);
    }
    let error = PostgresStore::open(&url).await.unwrap_err();
    assert!(is_unavailable(&error), "{error}");
    // The connection that it has is enough for the first one.
    store.batch_create(new_batch(None)).await.unwrap();
    drop(others);
    PostgresStore::open(&url).await.unwrap();
}
