//! Connections, the time that a call may take, what is tried again, and what errors mean.

use super::pool::{CONNECTION_TIMEOUT, CONNECTIONS, Pool};
use super::schema;
use crate::store::StoreError;
use crate::store::seen::Loads;
use futures_util::future::BoxFuture;
use sqlx::Connection;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// The longest that an ordinary call may take. A connection whose other end is gone without a word
/// looks like a slow server, and sqlx cannot set the socket's own timeouts: this one notices it.
const CALL_TIMEOUT: Duration = Duration::from_secs(8);
/// The longest that a call may take which moves a bounded number of bytes, on a slow way.
const BULK_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest that a call may take whose work grows with a batch.
const LONG_CALL_TIMEOUT: Duration = Duration::from_secs(600);
/// How often a call begins again that met another one (a deadlock, a failed serialization).
const MAX_CONFLICTS: u32 = 10;
/// How often a call begins again whose connection broke before the commit: each idle connection may
/// be broken by the same restart of the server.
const MAX_BROKEN: usize = CONNECTIONS + 1;

/// What the server does for each connection. Rows are always found by an index and joined in the
/// order in which the SQL names the tables, whatever the planner believes about a table that has just
/// grown; and a client that is gone holds no locks for long.
const SETTINGS: [(&str, &str); 11] = [
    ("join_collapse_limit", "1"),
    ("max_parallel_workers_per_gather", "0"),
    ("enable_seqscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("enable_bitmapscan", "off"),
    ("jit", "off"),
    ("idle_in_transaction_session_timeout", "15s"),
    ("tcp_keepalives_idle", "5"),
    ("tcp_keepalives_interval", "2"),
    ("tcp_keepalives_count", "3"),
];

/// The store of a cluster.
#[derive(Clone, Debug)]
pub struct PostgresStore {
    pool: Arc<Pool>,
    pub(super) loads: Loads,
    place: String,
}

/// Why a call's work did not go on.
pub enum Failure {
    /// No connection was to be had.
    Connect(sqlx::Error),
    /// A statement failed; nothing is changed.
    Statement(sqlx::Error),
    /// The commit failed: it may have happened all the same, if the connection broke.
    Commit(sqlx::Error),
    /// No answer in time.
    Late,
    /// The store's own refusal.
    Refused(StoreError),
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Failure {
        Failure::Statement(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Failure {
        Failure::Refused(error)
    }
}

/// A call's work on a connection. It may be done more than once, so it only borrows its input.
pub type Work<A, T> = for<'c> fn(&'c mut PgConnection, &'c A) -> BoxFuture<'c, Result<T, Failure>>;

/// How a call's work is done.
#[derive(Clone, Copy)]
pub struct Terms {
    transaction: bool,
    timeout: Duration,
}

/// One statement, or reads that need not agree.
pub const PLAIN: Terms = Terms {
    transaction: false,
    timeout: CALL_TIMEOUT,
};
/// One transaction.
pub const WHOLE: Terms = Terms {
    transaction: true,
    timeout: CALL_TIMEOUT,
};
/// A page of lines and records.
pub const PAGE: Terms = Terms {
    transaction: false,
    timeout: BULK_TIMEOUT,
};
/// One transaction with lines.
pub const CHUNK: Terms = Terms {
    transaction: true,
    timeout: BULK_TIMEOUT,
};
/// One transaction over a whole batch.
pub const LONG: Terms = Terms {
    transaction: true,
    timeout: LONG_CALL_TIMEOUT,
};

impl PostgresStore {
    /// Connects to the database of a `postgres://` URL and brings its schema up to date.
    pub async fn open(url: &str) -> Result<PostgresStore, StoreError> {
        let options = PgConnectOptions::from_str(url).map_err(|_| StoreError::Open {
            place: "the given URL".to_owned(),
            reason: "it is no URL of the form postgres://user:password@host:port/database".into(),
        })?;
        let place = format!(
            "{}:{}/{}",
            options.get_host(),
            options.get_port(),
            options.get_database().unwrap_or(options.get_username())
        );
        let options = options.application_name("rbee").options(SETTINGS);
        let store = PostgresStore {
            pool: Arc::new(Pool::new(options)),
            loads: Loads::default(),
            place,
        };
        match store
            .call(LONG, &(), |tx, ()| Box::pin(schema::migrate(tx)))
            .await
        {
            Ok(None) => Ok(store),
            Ok(Some(found)) => Err(StoreError::NewerSchema {
                place: store.place,
                found,
                known: schema::KNOWN_SCHEMA,
            }),
            // Refused at the door: a wrong password, no such database.
            Err(StoreError::Database { place, source }) => Err(StoreError::Open {
                place,
                reason: source.to_string(),
            }),
            Err(error) => Err(error),
        }
    }

    /// Closes all connections.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    /// Does a call's work, again where it met another call or a connection that was dead already.
    pub(super) async fn call<A: Sync, T>(
        &self,
        terms: Terms,
        input: &A,
        work: Work<A, T>,
    ) -> Result<T, StoreError> {
        let (mut conflicts, mut broken) = (0, 0);
        loop {
            let failure = match self.attempt(terms, input, work).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            match &failure {
                Failure::Statement(error) | Failure::Commit(error)
                    if is_conflict(error) && conflicts < MAX_CONFLICTS =>
                {
                    conflicts += 1;
                    tokio::time::sleep(Duration::from_millis(u64::from(conflicts))).await;
                }
                Failure::Statement(error) if is_lost(error) && broken < MAX_BROKEN => broken += 1,
                _ => return Err(self.error(failure)),
            }
        }
    }

    async fn attempt<A: Sync, T>(
        &self,
        terms: Terms,
        input: &A,
        work: Work<A, T>,
    ) -> Result<T, Failure> {
        // Cut where the call is dropped, late or lost: the server then ends its work too.
        let mut taken = self.pool.take().await.map_err(Failure::Connect)?;
        let work = do_work(terms, &mut taken.connection, input, work);
        let worked = tokio::time::timeout(terms.timeout, work).await;
        let worked = worked.unwrap_or(Err(Failure::Late));
        let lost = match &worked {
            Err(Failure::Late) => true,
            Err(Failure::Statement(error) | Failure::Commit(error)) => is_lost(error),
            _ => false,
        };
        if !lost {
            self.pool.give_back(taken);
        }
        worked
    }

    /// Gives a failure its meaning.
    fn error(&self, failure: Failure) -> StoreError {
        let place = self.place.clone();
        let unavailable = |reason: String| StoreError::Unavailable {
            place: self.place.clone(),
            reason,
        };
        let source = match failure {
            Failure::Refused(error) => return error,
            Failure::Late => {
                return unavailable("it did not answer in time".to_owned());
            }
            Failure::Connect(sqlx::Error::PoolTimedOut) => {
                let seconds = CONNECTION_TIMEOUT.as_secs();
                return unavailable(format!("no connection within {seconds} seconds"));
            }
            Failure::Commit(error) if is_lost(&error) => {
                return unavailable(format!("the connection broke at the commit ({error})"));
            }
            Failure::Connect(error) | Failure::Statement(error) | Failure::Commit(error) => error,
        };
        if is_lost(&source) {
            return unavailable(source.to_string());
        }
        match code(&source).as_deref() {
            Some("53100") => StoreError::DiskFull { place },
            // A deadlock or a failed serialization once too often, a lock or a statement timeout.
            Some("40001" | "40P01" | "55P03" | "57014") => StoreError::Busy { place },
            _ => StoreError::Database { place, source },
        }
    }
}

async fn do_work<A: Sync, T>(
    terms: Terms,
    connection: &mut PgConnection,
    input: &A,
    work: Work<A, T>,
) -> Result<T, Failure> {
    if !terms.transaction {
        return work(connection, input).await;
    }
    let mut tx = connection.begin().await?;
    match work(&mut tx, input).await {
        Ok(answer) => {
            tx.commit().await.map_err(Failure::Commit)?;
            Ok(answer)
        }
        Err(failure) => {
            // At once: it holds locks. The first error is the one to tell.
            let _ = tx.rollback().await;
            Err(failure)
        }
    }
}

fn code(error: &sqlx::Error) -> Option<String> {
    let code = error.as_database_error()?.code()?;
    Some(code.into_owned())
}

/// The call met another one and may begin again at once.
fn is_conflict(error: &sqlx::Error) -> bool {
    matches!(code(error).as_deref(), Some("40001" | "40P01"))
}

/// The server or the way to it is gone, or it takes nobody in, for now.
pub fn is_lost(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed => true,
        // Connection exceptions, no memory or connection left, a shutdown, a start, a standby.
        other => code(other).is_some_and(|code| {
            code.starts_with("08")
                || matches!(
                    code.as_str(),
                    "53000" | "53200" | "53300" | "57P01" | "57P02" | "57P03" | "57P05" | "25006"
                )
        }),
    }
}
