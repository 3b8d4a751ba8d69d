//! Which store and which queue this process stands on: opening them as URLs and flags say.
//!
//! Neither URL is one machine: SQLite and a queue in memory. Both make a cluster. Postgres alone is one server with a
//! worker in its process. Redis alone holds nothing that lasts, and is refused.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use rbee_queue::queue::RedisQueue;
use rbee_queue::{Batches, MemoryQueue, PostgresStore, Queue, SqliteStore, Store};

use crate::failure::Failure;

/// Where store and queue are, if not on this machine.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Store and queue")]
pub struct HomeArgs {
    /// PostgreSQL that keeps batches and results, postgres://user@host/name; a password is better set by the variable
    /// [default: a SQLite file of this machine]
    #[arg(
        long,
        value_name = "URL",
        env = "RBEE_DATABASE_URL",
        hide_env_values = true
    )]
    pub database_url: Option<String>,

    /// Redis between server and nodes: redis://host:6379, rediss:// with TLS, redis+sentinel://h1,h2/master,
    /// redis+cluster://h1,h2; a password is better set by the variable [default: memory of this process]
    #[arg(
        long,
        value_name = "URL",
        env = "RBEE_REDIS_URL",
        hide_env_values = true
    )]
    pub redis_url: Option<String>,
}

/// What the URLs make of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shape {
    /// One machine with a SQLite file.
    Embedded,
    /// One server with a worker in its process, and a database elsewhere.
    OneServer { database: String },
    /// Servers and nodes as processes of their own.
    Cluster { database: String, redis: String },
}

impl HomeArgs {
    /// What the URLs make of this process.
    pub fn shape(&self) -> Result<Shape, Failure> {
        // An empty variable is one that is not set.
        let given = |url: &Option<String>| url.clone().filter(|url| !url.trim().is_empty());
        match (given(&self.database_url), given(&self.redis_url)) {
            (None, None) => Ok(Shape::Embedded),
            (Some(database), None) => Ok(Shape::OneServer { database }),
            (Some(database), Some(redis)) => Ok(Shape::Cluster { database, redis }),
            (None, Some(_)) => Err(Failure::usage(
                "RBEE_REDIS_URL is set and RBEE_DATABASE_URL is not: a cluster needs both, since Redis keeps nothing that \
                 lasts",
            )),
        }
    }
}

impl Shape {
    /// Whether nodes are processes of their own.
    pub fn is_cluster(&self) -> bool {
        matches!(self, Shape::Cluster { .. })
    }
}

/// Store and queue, open.
pub struct Home {
    pub batches: Batches,
    pub shape: Shape,
    /// What the store is, for people: without secrets.
    pub store: String,
    /// What the queue is, for people: without secrets.
    pub queue: String,
    sqlite: Option<SqliteStore>,
}

impl Home {
    /// Ends the leases of earlier servers of an embedded store: whoever is its only server knows that they are dead,
    /// whatever the clock says, which may have jumped meanwhile.
    pub async fn end_leases(&self) -> Result<(), Failure> {
        if let Some(store) = &self.sqlite {
            store.end_leases().await?;
        }
        Ok(())
    }

    /// Closes the files of an embedded store, so that nothing but the database itself is left beside it.
    pub async fn close(self) {
        if let Some(store) = self.sqlite {
            store.close().await;
        }
    }
}

/// Opens store and queue. `database` is the SQLite file of an embedded store; what this process runs, `process` is said
/// to run.
pub async fn open_batches(shape: Shape, database: PathBuf, process: u32) -> Result<Home, Failure> {
    let memory = || -> (Arc<dyn Queue>, String) {
        (
            Arc::new(MemoryQueue::new()),
            "memory of this process".to_owned(),
        )
    };
    match &shape {
        Shape::Embedded => {
            let store = SqliteStore::open(&database).await?;
            let (queue, shown) = memory();
            let (kept, queue) = with_failpoints(Arc::new(store.clone()), queue);
            let batches = Batches::embedded(kept, queue, &database);
            Ok(Home {
                batches: batches.on_behalf_of(process),
                store: format!("SQLite, {}", database.display()),
                queue: shown,
                sqlite: Some(store),
                shape,
            })
        }
        Shape::OneServer { database } => {
            let store = open_database(database).await?;
            let (queue, shown) = memory();
            Ok(Home {
                batches: Batches::shared(store, queue),
                store: without_secrets(database),
                queue: shown,
                sqlite: None,
                shape,
            })
        }
        Shape::Cluster { database, redis } => {
            let store = open_database(database).await?;
            let queue = Arc::new(RedisQueue::open(redis).await?);
            let (store, queue) = with_failpoints(store, queue);
            Ok(Home {
                batches: Batches::shared(store, queue),
                store: without_secrets(database),
                queue: without_secrets(redis),
                sqlite: None,
                shape,
            })
        }
    }
}

/// Store and queue as they are; a build for fault tests has moments around them at which it can be killed.
fn with_failpoints(
    store: Arc<dyn Store>,
    queue: Arc<dyn Queue>,
) -> (Arc<dyn Store>, Arc<dyn Queue>) {
    #[cfg(feature = "failpoints")]
    let (store, queue): (Arc<dyn Store>, Arc<dyn Queue>) = (
        Arc::new(crate::failpoints::FailStore(store)),
        Arc::new(crate::failpoints::FailQueue(queue)),
    );
    (store, queue)
}

async fn open_database(url: &str) -> Result<Arc<dyn Store>, Failure> {
    Ok(Arc::new(PostgresStore::open(url).await?))
}

/// Whether a URL has a password in it, by its user or among its parameters.
pub fn holds_password(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let user = rest.rsplit_once('@').map(|(user, _)| user);
    let by_user = user.is_some_and(|user| {
        user.split_once(':')
            .is_some_and(|(_, password)| !password.is_empty())
    });
    by_user || rest.to_ascii_lowercase().contains("password=")
}

/// A URL as people may see it: without user, password and parameters.
pub fn without_secrets(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return "…".to_owned();
    };
    // A password may hold a `/` or a `?` that nobody escaped: everything before the last `@` is left out.
    let rest = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    let rest = rest.split(['?', '#']).next().unwrap_or(rest);
    format!("{scheme}://{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(database: Option<&str>, redis: Option<&str>) -> Result<Shape, Failure> {
        HomeArgs {
            database_url: database.map(str::to_owned),
            redis_url: redis.map(str::to_owned),
        }
        .shape()
    }

    #[test]
    fn two_urls_make_a_cluster_and_redis_alone_makes_nothing() {
        assert_eq!(shape(None, None).unwrap(), Shape::Embedded);
        assert_eq!(shape(Some(""), Some(" ")).unwrap(), Shape::Embedded);
        assert!(matches!(
            shape(Some("postgres://h/d"), None).unwrap(),
            Shape::OneServer { .. }
        ));
        assert!(
            shape(Some("postgres://h/d"), Some("redis://h"))
                .unwrap()
                .is_cluster()
        );
        assert!(matches!(
            shape(None, Some("redis://h")),
            Err(Failure::Usage(_))
        ));
    }

    #[test]
    fn passwords_in_urls_are_seen() {
        for secret in [
            "redis://:secret@host",
            "postgres://ann:secret@host/rbee",
            "postgres://host/rbee?sslpassword=secret",
        ] {
            assert!(holds_password(secret), "{secret}");
        }
        for plain in ["redis://host:6379", "postgres://ann@host:5432/rbee"] {
            assert!(!holds_password(plain), "{plain}");
        }
    }

    #[test]
    fn shown_urls_hold_no_secret() {
        let shown = without_secrets("postgres://ann:pa/s?s@w@host:5432/rbee?sslpassword=secret");
        assert_eq!(shown, "postgres://host:5432/rbee");
        assert_eq!(without_secrets("redis://host"), "redis://host");
        assert_eq!(without_secrets("secret"), "…");
    }
}
