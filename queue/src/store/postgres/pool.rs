//! A few connections that calls share.
//!
//! sqlx's own pool asks a connection whether it lives whenever it comes back, and waits for the
//! answer without a limit: behind a way that is cut, places in that pool would be gone for good.

use super::connection::is_lost;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Connection};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, SemaphorePermit};

/// Connections of one process.
pub const CONNECTIONS: usize = 8;
/// How long a call waits for a connection, and how long a start waits for the server.
pub const CONNECTION_TIMEOUT: Duration = Duration::from_secs(4);
/// A connection that was idle for longer is asked whether it lives before it is used.
const TRUSTED_IDLE: Duration = Duration::from_secs(1);
/// How long it may take to answer.
const PING_TIMEOUT: Duration = Duration::from_secs(1);
/// Idle connections are given back to the server after this.
const IDLE_TIMEOUT: Duration = Duration::from_secs(120);
/// Between two tries to connect.
const CONNECT_AGAIN: Duration = Duration::from_millis(50);

/// The connections of one store.
#[derive(Debug)]
pub struct Pool {
    options: PgConnectOptions,
    idle: Mutex<Vec<Idle>>,
    places: Semaphore,
}

#[derive(Debug)]
struct Idle {
    connection: PgConnection,
    since: Instant,
}

/// A connection in use. Dropped, it is cut; [`Pool::give_back`] keeps it.
pub struct Taken<'a> {
    pub connection: PgConnection,
    place: SemaphorePermit<'a>,
}

impl Pool {
    /// A pool without connections yet.
    pub fn new(options: PgConnectOptions) -> Pool {
        Pool {
            options,
            idle: Mutex::new(Vec::new()),
            places: Semaphore::new(CONNECTIONS),
        }
    }

    /// A connection that lives, as far as can be known.
    pub async fn take(&self) -> Result<Taken<'_>, sqlx::Error> {
        let mut refused = None;
        let taken = tokio::time::timeout(CONNECTION_TIMEOUT, self.find(&mut refused)).await;
        match taken {
            Ok(taken) => taken,
            Err(_) => Err(refused.unwrap_or(sqlx::Error::PoolTimedOut)),
        }
    }

    async fn find(&self, refused: &mut Option<sqlx::Error>) -> Result<Taken<'_>, sqlx::Error> {
        let place = self.places.acquire().await;
        let place = place.map_err(|_| sqlx::Error::PoolClosed)?;
        while let Some(mut idle) = self.pop() {
            let lives = idle.since.elapsed() < TRUSTED_IDLE
                || matches!(
                    tokio::time::timeout(PING_TIMEOUT, idle.connection.ping()).await,
                    Ok(Ok(()))
                );
            if lives {
                let connection = idle.connection;
                return Ok(Taken { connection, place });
            }
            // What ended this one ended those that were idle for longer.
            self.lock().clear();
        }
        loop {
            match self.options.connect().await {
                Ok(connection) => return Ok(Taken { connection, place }),
                Err(error) if is_lost(&error) => *refused = Some(error),
                Err(error) => return Err(error),
            }
            tokio::time::sleep(CONNECT_AGAIN).await;
        }
    }

    /// Keeps a connection for the next call.
    pub fn give_back(&self, taken: Taken<'_>) {
        if !self.places.is_closed() {
            self.lock().push(Idle {
                connection: taken.connection,
                since: Instant::now(),
            });
        }
        drop(taken.place);
    }

    /// Closes idle connections, and those in use once their calls end.
    pub async fn close(&self) {
        self.places.close();
        let idle = std::mem::take(&mut *self.lock());
        for idle in idle {
            // The server notices either way.
            let _ = tokio::time::timeout(PING_TIMEOUT, idle.connection.close()).await;
        }
    }

    /// The connection that was used last; old ones go.
    fn pop(&self) -> Option<Idle> {
        let mut idle = self.lock();
        idle.retain(|idle| idle.since.elapsed() < IDLE_TIMEOUT);
        idle.pop()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().expect("nothing panics under this lock")
    }
}
