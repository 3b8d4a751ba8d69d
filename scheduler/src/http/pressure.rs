//! Back-pressure: no more jobs than the server was told to keep waiting.
//!
//! Owns the count of jobs without a result, which is asked of the store now and then and not with each request.

use super::Server;
use super::error::ApiError;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How old the count may be.
const COUNT_AGE: Duration = Duration::from_millis(200);

/// How many jobs wait, and how many may.
pub struct Pressure {
    most: u64,
    counted: Mutex<Option<(Instant, u64)>>,
}

impl Pressure {
    /// So many jobs may wait or run at once.
    pub fn new(most: u64) -> Pressure {
        Pressure {
            most,
            counted: Mutex::new(None),
        }
    }

    fn counted(&self) -> MutexGuard<'_, Option<(Instant, u64)>> {
        // A number that a panic left behind is counted again soon.
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Server {
    /// Refuses more jobs than may wait; those that may count from now on.
    pub(super) async fn room_for(&self, jobs: u64) -> Result<(), ApiError> {
        self.has_room(jobs).await?;
        if let Some((_, counted)) = self.pressure.counted().as_mut() {
            *counted += jobs;
        }
        Ok(())
    }

    async fn has_room(&self, jobs: u64) -> Result<(), ApiError> {
        let most = self.pressure.most;
        let unfinished = self.unfinished().await?;
        if unfinished.saturating_add(jobs) <= most {
            return Ok(());
        }
        if jobs > most {
            let message =
                format!("{jobs} jobs are more than the {most} that this server keeps: split them");
            return Err(ApiError::too_large(message));
        }
        Err(ApiError::queue_full(format!(
            "{unfinished} jobs wait or run, and this server takes {most} at once: try again later"
        )))
    }

    async fn unfinished(&self) -> Result<u64, ApiError> {
        let known = *self.pressure.counted();
        if let Some((at, jobs)) = known
            && at.elapsed() < COUNT_AGE
        {
            return Ok(jobs);
        }
        let jobs = self.batches.store().jobs_open().await?;
        *self.pressure.counted() = Some((Instant::now(), jobs));
        Ok(jobs)
    }
}

/// Lets a request through that makes jobs, if there is room for one at least.
pub async fn admit(
    State(server): State<Server>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    server.has_room(1).await?;
    Ok(next.run(request).await)
}
