//! The embedded store: one SQLite file in WAL mode.
//!
//! Owns the connections (one writer, a pool of readers), opening, and the mapping of errors. A
//! write transaction begins IMMEDIATE, so that it never fails halfway for want of the lock.
//!
//! Queries about the few queued or placed jobs of a large batch name their index (`INDEXED BY`): without statistics the
//! planner takes a batch for ten rows, and walks through the million that it may have.

mod announced;
mod batches;
mod files;
mod finish;
mod load;
mod nodes;
mod place;
mod probe;
mod read;
mod release;
mod rows;
mod schedules;
mod schema;
mod tokens;

use super::jobs::*;
use super::seen::Loads;
use super::{MAX_JOBS_A_CALL, Store, StoreError, decide, network_fs};
use crate::batch::{Batch, BatchModel};
use crate::ids::{BatchId, BatchNo, JobIndex, JobRef, NodeInstance};
use crate::node::{NodeReport, Renewal, StoredNode};
use async_trait::async_trait;
use read::State;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{Connection, Sqlite, Transaction};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long a write waits for other processes' writes.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a call waits for a connection: longer than the longest transaction.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(120);
/// Readers of one process.
const READERS: u32 = 4;
/// The cache of one connection.
const CACHE_KIB: u32 = 8 * 1024;
/// Rows that the thread of a connection reads ahead: each handing over costs more than many rows.
const ROWS_AHEAD: usize = 1_024;
/// The WAL is cut to this after a checkpoint, so that a large load does not keep its disk space.
const WAL_KEPT_BYTES: u32 = 64 * 1024 * 1024;

/// A write transaction.
type Tx = Transaction<'static, Sqlite>;

/// The embedded store.
#[derive(Clone, Debug)]
pub struct SqliteStore {
    writer: SqlitePool,
    readers: SqlitePool,
    loads: Loads,
    place: String,
}

impl SqliteStore {
    /// Opens the store at `path` and brings its schema up to date. The directory is made where it
    /// is missing, readable by its user only.
    pub async fn open(path: &Path) -> Result<SqliteStore, StoreError> {
        let place = path.display().to_string();
        let open_error = |error: std::io::Error| StoreError::Open {
            place: place.clone(),
            reason: error.to_string(),
        };
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        make_private_directory(&directory).map_err(open_error)?;
        if let Some(kind) = network_fs::network_kind(&directory) {
            return Err(StoreError::NetworkFileSystem {
                path: directory,
                kind,
            });
        }
        make_private_file(path).map_err(open_error)?;
        let options = connect_options(path);
        let store = SqliteStore::connect(options, place);
        match schema::migrate(&store.writer).await {
            Ok(None) => Ok(store),
            Ok(Some(found)) => Err(StoreError::NewerSchema {
                place: store.place,
                found,
                known: schema::KNOWN_SCHEMA,
            }),
            Err(error) => Err(store.error(error)),
        }
    }

    fn connect(options: SqliteConnectOptions, place: String) -> SqliteStore {
        SqliteStore {
            writer: pool(1).connect_lazy_with(options.clone()),
            readers: pool(READERS).connect_lazy_with(options.pragma("query_only", "1")),
            loads: Loads::default(),
            place,
        }
    }

    /// Closes all connections; the WAL is folded into the file.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }

    async fn begin(&self) -> Result<Tx, StoreError> {
        self.writer
            .begin_with("BEGIN IMMEDIATE")
            .await
            .map_err(|error| self.error(error))
    }

    async fn commit(&self, tx: Tx) -> Result<(), StoreError> {
        tx.commit().await.map_err(|error| self.error(error))
    }

    /// Gives a driver's error its meaning. Primary result codes are the low byte.
    fn error(&self, source: sqlx::Error) -> StoreError {
        const SQLITE_BUSY: i32 = 5;
        const SQLITE_FULL: i32 = 13;
        const SQLITE_CORRUPT: i32 = 11;
        const SQLITE_NOTADB: i32 = 26;
        const SQLITE_IOERR_SHMSIZE: i32 = 4874;
        let place = self.place.clone();
        if matches!(source, sqlx::Error::PoolTimedOut) {
            return StoreError::Busy { place };
        }
        let code = source
            .as_database_error()
            .and_then(|error| error.code())
            .and_then(|code| code.parse::<i32>().ok())
            .unwrap_or(0);
        match code & 0xff {
            _ if code == SQLITE_IOERR_SHMSIZE => StoreError::DiskFull { place },
            SQLITE_FULL => StoreError::DiskFull { place },
            SQLITE_BUSY => StoreError::Busy { place },
            SQLITE_CORRUPT | SQLITE_NOTADB => {
                StoreError::damaged(format!("{place} is not a sound SQLite file ({source})"))
            }
            _ => StoreError::Database { place, source },
        }
    }
}

fn pool(connections: u32) -> SqlitePoolOptions {
    SqlitePoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(CONNECTION_TIMEOUT)
        .idle_timeout(None)
        .max_lifetime(None)
        // SQLite ends a transaction by itself when the disk is full, and the driver goes on
        // counting it as open: such a connection is replaced.
        .before_acquire(|connection, _| Box::pin(async { Ok(!connection.is_in_transaction()) }))
}

fn connect_options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        // A killed process loses nothing; a power cut loses the last seconds, which run again.
        .synchronous(SqliteSynchronous::Normal)
        .busy_timeout(BUSY_TIMEOUT)
        .foreign_keys(false)
        .row_buffer_size(ROWS_AHEAD)
        .pragma("cache_size", format!("-{CACHE_KIB}"))
        .pragma("journal_size_limit", WAL_KEPT_BYTES.to_string())
}

fn make_private_directory(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
}

fn make_private_file(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
        .map(drop)
}

/// The store's clock.
fn now_us() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX / 4)
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

#[async_trait]
impl Store for SqliteStore {
    async fn batch_create(&self, new: NewBatch) -> Result<(BatchId, BatchNo), StoreError> {
        let (id, no) = self.create(new).await?;
        self.loads.begin(no);
        Ok((id, no))
    }

    async fn batch_fill(&self, batch: BatchNo, jobs: Vec<NewJob>) -> Result<(), StoreError> {
        check_count(jobs.len())?;
        self.loads.add(batch, &jobs);
        self.fill(batch, jobs).await
    }

    async fn batch_seal(&self, batch: BatchNo) -> Result<Sealed, StoreError> {
        self.seal(batch).await
    }

    async fn batch_delete(&self, batch: BatchNo) -> Result<bool, StoreError> {
        self.delete(batch).await
    }

    async fn batch_hidden(&self) -> Result<Vec<HiddenBatch>, StoreError> {
        self.hidden().await
    }

    async fn batch_get(&self, id: &BatchId) -> Result<Option<Batch>, StoreError> {
        self.get(id).await
    }

    async fn batch_by_no(&self, batch: BatchNo) -> Result<Option<Batch>, StoreError> {
        self.by_no(batch).await
    }

    async fn batch_by_key(&self, owner: &str, key: &str) -> Result<Option<Batch>, StoreError> {
        self.by_key(owner, key).await
    }

    async fn batch_free_key(&self, batch: BatchNo) -> Result<(), StoreError> {
        self.free_key(batch).await
    }

    async fn batch_list(
        &self,
        owner: Option<&str>,
        after: Option<&BatchId>,
        limit: usize,
    ) -> Result<Vec<Batch>, StoreError> {
        self.list(owner, after, limit).await
    }

    async fn batch_open(&self) -> Result<Vec<Batch>, StoreError> {
        self.open_batches().await
    }

    async fn batch_ended(
        &self,
        owner: Option<&str>,
        age: Duration,
        limit: usize,
    ) -> Result<Vec<Batch>, StoreError> {
        self.ended(owner, age, limit).await
    }

    async fn batch_untold(&self, limit: usize) -> Result<Vec<Untold>, StoreError> {
        self.untold(limit).await
    }

    async fn batch_told(
        &self,
        batch: BatchNo,
        again_in: Option<Duration>,
    ) -> Result<(), StoreError> {
        self.told(batch, again_in).await
    }

    async fn batch_pause(&self, batch: BatchNo, reason: Option<&str>) -> Result<(), StoreError> {
        self.pause(batch, reason).await
    }

    async fn batch_cancel(&self, batch: BatchNo) -> Result<u64, StoreError> {
        self.end_batch(batch, decide::cancel).await
    }

    async fn batch_expire(&self, batch: BatchNo) -> Result<u64, StoreError> {
        self.end_batch(batch, decide::expire).await
    }

    async fn jobs_open(&self) -> Result<u64, StoreError> {
        self.unfinished().await
    }

    async fn model_resolve(&self, batch: BatchNo, model: BatchModel) -> Result<(), StoreError> {
        self.resolve(batch, model).await
    }

    async fn job_queued(&self, query: QueuedQuery) -> Result<Vec<QueuedJob>, StoreError> {
        self.queued(query).await
    }

    async fn job_waiting(&self, batch: BatchNo) -> Result<Vec<JobSummary>, StoreError> {
        self.waiting(batch).await
    }

    async fn place_many(&self, places: Vec<Place>) -> Result<Vec<PlaceOutcome>, StoreError> {
        check_count(places.len())?;
        self.place_jobs(places).await
    }

    async fn finish_many(&self, finishes: Vec<Finish>) -> Result<Vec<FinishOutcome>, StoreError> {
        check_count(finishes.len())?;
        self.finish_jobs(finishes).await
    }

    async fn adopt_many(&self, adoption: Adoption) -> Result<u64, StoreError> {
        check_count(adoption.jobs.len())?;
        self.adopt(adoption).await
    }

    async fn job_let_go(&self, batch: BatchNo) -> Result<u64, StoreError> {
        self.let_go(batch).await
    }

    async fn release_many(&self, releases: Vec<Release>) -> Result<Vec<bool>, StoreError> {
        check_count(releases.len())?;
        self.release_jobs(releases).await
    }

    async fn release_batch(
        &self,
        batch: BatchNo,
        keep: &[NodeInstance],
    ) -> Result<u64, StoreError> {
        self.release_all(batch, keep).await
    }

    async fn job_placed(&self, query: &PlacedQuery) -> Result<Vec<PlacedJob>, StoreError> {
        self.placed(query).await
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
        self.retry(batch, circumstance_only).await
    }

    async fn results_page(
        &self,
        batch: BatchNo,
        from: JobIndex,
        limit: usize,
    ) -> Result<ResultsPage, StoreError> {
        self.page(batch, from, limit).await
    }

    async fn finished_since(
        &self,
        batch: BatchNo,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Finished>, StoreError> {
        self.since(batch, State::Finished, after, limit).await
    }

    async fn failed_since(
        &self,
        batch: BatchNo,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Finished>, StoreError> {
        self.since(batch, State::Failed, after, limit).await
    }

    async fn failed_before_last(&self, batch: BatchNo, count: usize) -> Result<u64, StoreError> {
        self.before_last_failed(batch, count).await
    }

    async fn job_get(&self, jobs: &[JobRef]) -> Result<Vec<Option<StoredJob>>, StoreError> {
        check_count(jobs.len())?;
        self.get_jobs(jobs).await
    }

    async fn recount(&self, batch: BatchNo) -> Result<[u64; 5], StoreError> {
        self.count_rows(batch).await
    }

    async fn node_join(
        &self,
        node: &NodeInstance,
        report: &NodeReport,
        lease: Duration,
    ) -> Result<(), StoreError> {
        self.join_node(node, report, lease).await
    }

    async fn node_renew(
        &self,
        node: &NodeInstance,
        report: &NodeReport,
        lease: Duration,
    ) -> Result<Renewal, StoreError> {
        self.renew_node(node, report, lease).await
    }

    async fn node_leave(&self, node: &NodeInstance) -> Result<(), StoreError> {
        self.forget_node(node).await
    }

    async fn node_list(&self) -> Result<Vec<StoredNode>, StoreError> {
        self.nodes().await
    }

    async fn node_judge(&self, keep: Duration) -> Result<Vec<NodeInstance>, StoreError> {
        self.judge_nodes(keep).await
    }

    async fn node_drain(&self, name: &str, drain: bool) -> Result<(), StoreError> {
        self.wish_drain(name, drain).await
    }

    async fn lead(&self, holder: &str, lease: Duration) -> Result<Option<u64>, StoreError> {
        self.take_lead(holder, lease).await
    }

    async fn lead_end(&self, holder: &str) -> Result<(), StoreError> {
        self.give_lead(holder).await
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
