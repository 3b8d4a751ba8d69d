//! The store of a cluster: a Postgres database that many processes share.
//!
//! Owns the connections, the time that a call may take, what is tried again, and the mapping of
//! errors. Rows are locked in one order everywhere, so that calls wait for each other and never in
//! a circle: jobs by batch and index, then models, then batches by number. What a call decides it
//! decides on locked rows. All times are the server's.

mod batches;
mod copy;
mod finish;
mod load;
mod nodes;
mod place;
mod read;
mod release;
mod rows;
mod schema;

use super::jobs::*;
use super::{MAX_JOBS_A_CALL, Store, StoreError};
use crate::batch::{Batch, BatchModel};
use crate::ids::{BatchId, BatchNo, JobIndex, JobRef, NodeInstance};
use crate::node::{NodeReport, Renewal, StoredNode};
use async_trait::async_trait;
use futures_util::future::BoxFuture;
use sqlx::Connection;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};
use std::str::FromStr;
use std::time::Duration;

/// Connections of one process.
const CONNECTIONS: u32 = 8;
/// How long a call waits for a connection, and how long a start waits for the server.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(4);
/// The longest that an ordinary call may take. A connection whose other end is gone without a word
/// looks like a slow server, and sqlx cannot set the socket's own timeouts: this one notices it.
const CALL_TIMEOUT: Duration = Duration::from_secs(8);
/// The longest that a call may take which moves many rows.
const LONG_CALL_TIMEOUT: Duration = Duration::from_secs(600);
/// A connection that was idle for longer is asked whether it lives before it is used.
const TRUSTED_IDLE: Duration = Duration::from_secs(1);
/// Idle connections are given back to the server after this.
const IDLE_TIMEOUT: Duration = Duration::from_secs(120);
/// How often a call begins again that met another one (a deadlock, a failed serialization).
const MAX_CONFLICTS: u32 = 10;
/// How often a call begins again whose connection broke before the commit: each idle connection may
/// be broken by the same restart of the server.
const MAX_BROKEN: u32 = CONNECTIONS + 1;

/// What the server does for each connection. Rows are always found by an index, whatever the planner
/// believes about a table that has just grown; and a client that is gone holds no locks for long.
const SETTINGS: [(&str, &str); 9] = [
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
    pool: PgPool,
    place: String,
}

/// Why a call's work did not go on.
enum Failure {
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
type Work<A, T> = for<'c> fn(&'c mut PgConnection, &'c A) -> BoxFuture<'c, Result<T, Failure>>;

/// How a call's work is done.
#[derive(Clone, Copy)]
struct Terms {
    transaction: bool,
    timeout: Duration,
}

/// One statement, or reads that need not agree.
const PLAIN: Terms = Terms {
    transaction: false,
    timeout: CALL_TIMEOUT,
};
/// One transaction.
const WHOLE: Terms = Terms {
    transaction: true,
    timeout: CALL_TIMEOUT,
};
/// One transaction over many rows.
const LONG: Terms = Terms {
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
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(CONNECTION_TIMEOUT)
            .idle_timeout(IDLE_TIMEOUT)
            .test_before_acquire(false)
            .before_acquire(|connection, idle| {
                Box::pin(async move {
                    Ok(idle.idle_for < TRUSTED_IDLE || connection.ping().await.is_ok())
                })
            })
            .connect_lazy_with(options);
        let store = PostgresStore { pool, place };
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
    async fn call<A: Sync, T>(
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
        let mut connection = self.pool.acquire().await.map_err(Failure::Connect)?;
        let worked = tokio::time::timeout(terms.timeout, async {
            if !terms.transaction {
                return work(&mut connection, input).await;
            }
            let mut tx = connection.begin().await?;
            let answer = work(&mut tx, input).await?;
            tx.commit().await.map_err(Failure::Commit)?;
            Ok(answer)
        })
        .await
        .unwrap_or(Err(Failure::Late));
        let lost = match &worked {
            Err(Failure::Late) => true,
            Err(Failure::Statement(error) | Failure::Commit(error)) => is_lost(error),
            _ => false,
        };
        if lost {
            // It does not go back to the others.
            connection.close_on_drop();
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

fn code(error: &sqlx::Error) -> Option<String> {
    let code = error.as_database_error()?.code()?;
    Some(code.into_owned())
}

/// The call met another one and may begin again at once.
fn is_conflict(error: &sqlx::Error) -> bool {
    matches!(code(error).as_deref(), Some("40001" | "40P01"))
}

/// The server or the way to it is gone, or it takes nobody in, for now.
fn is_lost(error: &sqlx::Error) -> bool {
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

fn check_count(count: usize) -> Result<(), StoreError> {
    if count > MAX_JOBS_A_CALL {
        return Err(StoreError::TooMany {
            count,
            limit: MAX_JOBS_A_CALL,
        });
    }
    Ok(())
}

/// As SQL counts.
fn limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX / 4)
}

#[async_trait]
impl Store for PostgresStore {
    async fn batch_create(&self, new: NewBatch) -> Result<(BatchId, BatchNo), StoreError> {
        let no = self
            .call(WHOLE, &new, |tx, new| Box::pin(load::create(tx, new)))
            .await?;
        Ok((new.id, no))
    }

    async fn batch_fill(&self, batch: BatchNo, jobs: Vec<NewJob>) -> Result<(), StoreError> {
        check_count(jobs.len())?;
        self.call(LONG, &(batch, jobs), |tx, (batch, jobs)| {
            Box::pin(load::fill(tx, *batch, jobs))
        })
        .await
    }

    async fn batch_seal(&self, batch: BatchNo) -> Result<Sealed, StoreError> {
        self.seal(batch).await
    }

    async fn batch_delete(&self, batch: BatchNo) -> Result<bool, StoreError> {
        self.delete(batch).await
    }

    async fn batch_hidden(&self) -> Result<Vec<HiddenBatch>, StoreError> {
        self.call(PLAIN, &(), |tx, ()| Box::pin(batches::hidden(tx)))
            .await
    }

    async fn batch_get(&self, id: &BatchId) -> Result<Option<Batch>, StoreError> {
        self.call(PLAIN, id, |tx, id| Box::pin(batches::get(tx, id)))
            .await
    }

    async fn batch_by_key(&self, owner: &str, key: &str) -> Result<Option<Batch>, StoreError> {
        self.call(PLAIN, &(owner, key), |tx, (owner, key)| {
            Box::pin(batches::by_key(tx, owner, key))
        })
        .await
    }

    async fn batch_free_key(&self, batch: BatchNo) -> Result<(), StoreError> {
        self.call(PLAIN, &batch, |tx, batch| {
            Box::pin(batches::free_key(tx, *batch))
        })
        .await
    }

    async fn batch_list(
        &self,
        owner: Option<&str>,
        after: Option<&BatchId>,
        limit: usize,
    ) -> Result<Vec<Batch>, StoreError> {
        self.call(
            PLAIN,
            &(owner, after, limit),
            |tx, (owner, after, limit)| Box::pin(batches::list(tx, *owner, *after, *limit)),
        )
        .await
    }

    async fn batch_open(&self) -> Result<Vec<Batch>, StoreError> {
        self.call(PLAIN, &(), |tx, ()| Box::pin(batches::open(tx)))
            .await
    }

    async fn batch_untold(&self, limit: usize) -> Result<Vec<Untold>, StoreError> {
        self.call(PLAIN, &limit, |tx, limit| {
            Box::pin(batches::untold(tx, *limit))
        })
        .await
    }

    async fn batch_told(
        &self,
        batch: BatchNo,
        again_in: Option<Duration>,
    ) -> Result<(), StoreError> {
        self.call(PLAIN, &(batch, again_in), |tx, (batch, again_in)| {
            Box::pin(batches::told(tx, *batch, *again_in))
        })
        .await
    }

    async fn batch_pause(&self, batch: BatchNo, reason: Option<&str>) -> Result<(), StoreError> {
        self.call(PLAIN, &(batch, reason), |tx, (batch, reason)| {
            Box::pin(batches::pause(tx, *batch, *reason))
        })
        .await
    }

    async fn batch_cancel(&self, batch: BatchNo) -> Result<u64, StoreError> {
        self.cancel(batch).await
    }

    async fn model_resolve(&self, batch: BatchNo, model: BatchModel) -> Result<(), StoreError> {
        self.call(PLAIN, &(batch, model), |tx, (batch, model)| {
            Box::pin(batches::write_model(tx, *batch, model))
        })
        .await
    }

    async fn job_queued(&self, query: QueuedQuery) -> Result<Vec<QueuedJob>, StoreError> {
        self.call(PLAIN, &query, |tx, query| {
            Box::pin(place::queued(tx, query))
        })
        .await
    }

    async fn job_waiting(&self, batch: BatchNo) -> Result<Vec<JobSummary>, StoreError> {
        self.call(PLAIN, &batch, |tx, batch| {
            Box::pin(place::waiting(tx, *batch))
        })
        .await
    }

    async fn place_many(&self, places: Vec<Place>) -> Result<Vec<PlaceOutcome>, StoreError> {
        check_count(places.len())?;
        self.call(WHOLE, &places, |tx, places| {
            Box::pin(place::place(tx, places))
        })
        .await
    }

    async fn finish_many(&self, finishes: Vec<Finish>) -> Result<Vec<FinishOutcome>, StoreError> {
        check_count(finishes.len())?;
        self.call(WHOLE, &finishes, |tx, finishes| {
            Box::pin(finish::finish(tx, finishes))
        })
        .await
    }

    async fn release_many(&self, releases: Vec<Release>) -> Result<Vec<bool>, StoreError> {
        check_count(releases.len())?;
        self.call(WHOLE, &releases, |tx, releases| {
            Box::pin(release::release(tx, releases))
        })
        .await
    }

    async fn release_batch(
        &self,
        batch: BatchNo,
        keep: &[NodeInstance],
    ) -> Result<u64, StoreError> {
        self.release_all(batch, keep).await
    }

    async fn job_placed(&self, query: &PlacedQuery) -> Result<Vec<PlacedJob>, StoreError> {
        self.call(PLAIN, query, |tx, query| {
            Box::pin(release::placed(tx, query, 0))
        })
        .await
    }

    async fn release_node(
        &self,
        node: &NodeInstance,
        cause: ReleaseCause,
    ) -> Result<u64, StoreError> {
        self.release_of_node(node, cause).await
    }

    async fn retry_failed(
        &self,
        batch: BatchNo,
        circumstance_only: bool,
    ) -> Result<u64, StoreError> {
        self.call(LONG, &(batch, circumstance_only), |tx, (batch, some)| {
            Box::pin(release::retry(tx, *batch, *some))
        })
        .await
    }

    async fn results_page(
        &self,
        batch: BatchNo,
        from: JobIndex,
        limit: usize,
    ) -> Result<ResultsPage, StoreError> {
        self.call(LONG, &(batch, from, limit), |tx, (batch, from, limit)| {
            Box::pin(read::page(tx, *batch, *from, *limit))
        })
        .await
    }

    async fn finished_since(
        &self,
        batch: BatchNo,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Finished>, StoreError> {
        self.call(LONG, &(batch, after, limit), |tx, (batch, after, limit)| {
            Box::pin(read::since(tx, *batch, *after, *limit))
        })
        .await
    }

    async fn job_get(&self, jobs: &[JobRef]) -> Result<Vec<Option<StoredJob>>, StoreError> {
        check_count(jobs.len())?;
        self.call(PLAIN, &jobs, |tx, jobs| Box::pin(read::jobs(tx, jobs)))
            .await
    }

    async fn recount(&self, batch: BatchNo) -> Result<[u64; 5], StoreError> {
        self.call(LONG, &batch, |tx, batch| {
            Box::pin(batches::count_rows(tx, *batch))
        })
        .await
    }

    async fn node_join(
        &self,
        node: &NodeInstance,
        report: &NodeReport,
        lease: Duration,
    ) -> Result<(), StoreError> {
        self.call(
            PLAIN,
            &(node, report, lease),
            |tx, (node, report, lease)| Box::pin(nodes::join(tx, node, report, *lease)),
        )
        .await
    }

    async fn node_renew(
        &self,
        node: &NodeInstance,
        report: &NodeReport,
        lease: Duration,
    ) -> Result<Renewal, StoreError> {
        self.call(
            PLAIN,
            &(node, report, lease),
            |tx, (node, report, lease)| Box::pin(nodes::renew(tx, node, report, *lease)),
        )
        .await
    }

    async fn node_leave(&self, node: &NodeInstance) -> Result<(), StoreError> {
        self.call(PLAIN, node, |tx, node| Box::pin(nodes::leave(tx, node)))
            .await
    }

    async fn node_list(&self) -> Result<Vec<StoredNode>, StoreError> {
        self.call(PLAIN, &(), |tx, ()| Box::pin(nodes::list(tx)))
            .await
    }

    async fn node_judge(&self, keep: Duration) -> Result<Vec<NodeInstance>, StoreError> {
        self.call(WHOLE, &keep, |tx, keep| Box::pin(nodes::judge(tx, *keep)))
            .await
    }

    async fn node_drain(&self, name: &str, drain: bool) -> Result<(), StoreError> {
        self.call(PLAIN, &(name, drain), |tx, (name, drain)| {
            Box::pin(nodes::drain(tx, name, *drain))
        })
        .await
    }

    async fn lead(&self, holder: &str, lease: Duration) -> Result<Option<u64>, StoreError> {
        self.call(PLAIN, &(holder, lease), |tx, (holder, lease)| {
            Box::pin(nodes::lead(tx, holder, *lease))
        })
        .await
    }

    async fn lead_end(&self, holder: &str) -> Result<(), StoreError> {
        self.call(PLAIN, &holder, |tx, holder| {
            Box::pin(nodes::lead_end(tx, holder))
        })
        .await
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
