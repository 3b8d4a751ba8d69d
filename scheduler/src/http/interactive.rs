//! One request that somebody waits for: a hidden batch of one interactive job, or of one for each of its prompts.
//!
//! It is placed, fenced and stored like any other; its text is asked for before the job is placed. A client that goes away
//! cancels it.

use super::error::ApiError;
use super::jobs::JobWatcher;
use super::{Resolved, Server};
use crate::live::Place;
use rbee_queue::batch::INTERACTIVE_OWNER;
use rbee_queue::batches::{Submission, Submitted};
use rbee_queue::jsonl::LineOptions;
use rbee_queue::{Batch, BatchModel, BatchNo, BatchSpec, JobIndex, ModelNo, Priority};
use std::io::Cursor;
use std::time::Duration;

/// How long a placement waits for the subscription to the job's text.
const READY_PATIENCE: Duration = Duration::from_secs(1);
/// A request that can be made a batch.
pub struct Question {
    /// A line for each job.
    pub lines: Vec<String>,
    /// How they are read.
    pub options: LineOptions,
    /// What its model is.
    pub model: Resolved,
    /// The only node that may answer.
    pub node: Option<String>,
}

/// A request under way.
pub struct Asked {
    /// Its batch.
    pub batch: Batch,
    /// What becomes of each job.
    pub watchers: Vec<JobWatcher>,
    /// Cancels it when it is dropped.
    pub leaving: CancelWhenLeft,
}

/// Makes the batch, and watches it from before its placement on.
pub async fn begin(server: &Server, question: Question) -> Result<Asked, ApiError> {
    let model = BatchModel {
        no: ModelNo(0),
        requested: question.options.model.clone(),
        sha256: Some(question.model.sha256),
        revision: question.model.revision,
        numerics: None,
    };
    let submission = Submission {
        owner: INTERACTIVE_OWNER.to_owned(),
        name: None,
        key: None,
        priority: Priority::Interactive,
        pinned_node: question.node,
        on_done: None,
        spec: BatchSpec {
            template_date: (server.today)(),
            ..BatchSpec::new(question.options)
        },
        models: vec![model],
        digest: None,
        asked: None,
    };
    let input = Cursor::new(question.lines.join("\n"));
    let made = server.batches.submit(input, submission).await?;
    let (batch, lock) = match made {
        Submitted::New(batch, lock) => (*batch, lock),
        Submitted::Existing(_) => {
            return Err(ApiError::internal("a batch without a key existed"));
        }
    };
    let leaving = CancelWhenLeft {
        server: server.clone(),
        batch: Some(batch.no),
    };
    let mut watchers = Vec::new();
    for index in (0..batch.counts.total).map(JobIndex) {
        let live = server.live_jobs.follow(&batch, index)?;
        let mut ready = live.changed();
        let subscribed = tokio::time::timeout(READY_PATIENCE, async {
            // It fails only with the job's task.
            let _ = ready.wait_for(|changes| *changes > 0).await;
        });
        let (expected, _) = tokio::join!(server.live_jobs.expect(&batch, index), subscribed);
        if let Err(error) = expected {
            // The text then comes with a snapshot.
            tracing::debug!(%error, "nodes were not told of a job beforehand");
        }
        let place = Place::default();
        watchers.push(JobWatcher::new(server.clone(), batch.clone(), live, place));
    }
    // From here on the batch is the coordinator's.
    drop(lock);
    server.coordinator.wake();
    Ok(Asked {
        batch,
        watchers,
        leaving,
    })
}

/// Cancels a batch when its client goes away before it has ended.
pub struct CancelWhenLeft {
    server: Server,
    batch: Option<BatchNo>,
}

impl CancelWhenLeft {
    /// It has ended: there is nothing to cancel.
    pub fn ended(&mut self) {
        self.batch = None;
    }
}

impl Drop for CancelWhenLeft {
    fn drop(&mut self) {
        let Some(batch) = self.batch else {
            return;
        };
        let server = self.server.clone();
        tokio::spawn(async move {
            match server.batches.store().batch_cancel(batch).await {
                Ok(_) => server.coordinator.wake(),
                Err(error) => tracing::warn!(%error, "a request whose client left goes on"),
            }
        });
    }
}
