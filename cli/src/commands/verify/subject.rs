//! The batch that is verified, in the store of this machine or on a server.

use rbee_queue::{Batch, BatchId, JobIndex, JobRef};
use rbee_scheduler::http::types::{BatchView, KeptJob, KeptJobs};
use reqwest::Method;

use crate::batch_choice;
use crate::batches_home::BatchesHome;
use crate::client::Client;
use crate::commands::Context;
use crate::failure::Failure;

/// A batch and where its jobs are read.
pub enum Subject {
    Embedded(BatchesHome, Box<Batch>),
    Server(Client, Box<BatchView>),
}

impl Subject {
    /// Finds the batch.
    pub async fn open(context: &Context, id: &str) -> Result<Subject, Failure> {
        if context.server().is_some() {
            let client = Client::open(context)?;
            let batch = client.batch(id).await?;
            return Ok(Subject::Server(client, Box::new(batch)));
        }
        let home = context.open_store().await?;
        let batch = batch_choice::find(home.store(), id).await?;
        Ok(Subject::Embedded(home, Box::new(batch)))
    }

    /// Its id.
    pub fn id(&self) -> &BatchId {
        match self {
            Subject::Embedded(_, batch) => &batch.id,
            Subject::Server(_, batch) => &batch.id,
        }
    }

    /// How many jobs it has.
    pub fn total(&self) -> u64 {
        match self {
            Subject::Embedded(_, batch) => batch.counts.total,
            Subject::Server(_, batch) => batch.request_counts.total,
        }
    }

    /// Some of its jobs, with what it was made with.
    pub async fn jobs(&self, indices: &[u64]) -> Result<KeptJobs, Failure> {
        match self {
            Subject::Embedded(home, batch) => {
                let job = |index: &u64| JobRef {
                    batch: batch.no,
                    index: JobIndex(*index),
                };
                let refs: Vec<JobRef> = indices.iter().map(job).collect();
                let stored = home.store().job_get(&refs).await?;
                Ok(KeptJobs {
                    spec: batch.spec.clone(),
                    models: batch.models.clone(),
                    jobs: stored.into_iter().flatten().map(KeptJob::from).collect(),
                })
            }
            Subject::Server(client, batch) => {
                let at: Vec<String> = indices.iter().map(u64::to_string).collect();
                let path = ["v1", "batches", batch.id.as_str(), "jobs"];
                let query = [("at", at.join(","))];
                let query = query
                    .each_ref()
                    .map(|(name, value)| (*name, value.as_str()));
                client.json(client.asking(Method::GET, &path, &query)).await
            }
        }
    }

    /// Closes what it opened.
    pub async fn close(self) {
        if let Subject::Embedded(home, _) = self {
            home.close().await;
        }
    }
}
