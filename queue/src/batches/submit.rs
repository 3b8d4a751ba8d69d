//! From an input to a batch: read, stored in bounded chunks, shown when whole.
//!
//! Owns the pipeline: one thread reads and parses, the store takes chunks. A submit that is cut
//! off leaves a hidden batch, which `sweep` deletes.

use super::Batches;
use super::equal::EqualJobs;
use crate::batch::{Batch, BatchModel, BatchSpec, Priority};
use crate::file::Asked;
use crate::ids::{BatchId, BatchNo, ModelNo};
use crate::jsonl::{Line, LineOptions, ReadError, Reader};
use crate::owner::{BatchLock, LockError};
use crate::record::JobError;
use crate::store::{MAX_JOBS_A_CALL, NewBatch, NewJob, Refusal, Sealed, StoreError};
use std::collections::HashMap;
use std::io::BufRead;
use tokio::sync::mpsc;

/// Jobs of one chunk: few long transactions load faster than many short ones.
const CHUNK_JOBS: usize = MAX_JOBS_A_CALL;
/// Bytes of one chunk, but for its last line.
const CHUNK_BYTES: usize = 8 * 1024 * 1024;
/// Chunks between the reading thread and the store.
const CHUNKS_WAITING: usize = 2;

/// A batch to be made of an input.
#[derive(Clone, Debug)]
pub struct Submission {
    /// Whose it is.
    pub owner: String,
    /// A name for people.
    pub name: Option<String>,
    /// The idempotency key, see [`crate::batch::RunKey`].
    pub key: Option<String>,
    /// Whose jobs go first.
    pub priority: Priority,
    /// The name of the only node that may run it.
    pub pinned_node: Option<String>,
    /// Who is told when it is done: a URL.
    pub on_done: Option<String>,
    /// What it is made with; the options are validated already.
    pub spec: BatchSpec,
    /// All models that lines ask for, as the survey found them, resolved; numbered from 0.
    pub models: Vec<BatchModel>,
    /// The digest of the survey: an input that changed since is refused.
    pub digest: Option<[u8; 32]>,
    /// What it is asked for with, where it is made of an uploaded file.
    pub asked: Option<Asked>,
}

impl Submission {
    pub(super) fn into_new(self, id: BatchId) -> NewBatch {
        NewBatch {
            id,
            owner: self.owner,
            name: self.name,
            idempotency_key: self.key,
            priority: self.priority,
            pinned_node: self.pinned_node,
            on_done: self.on_done,
            spec: self.spec,
            models: self.models,
            asked: self.asked,
        }
    }
}

/// A hidden batch that is there, empty, for an input.
#[derive(Debug)]
pub struct Reserved {
    /// Its number.
    pub no: BatchNo,
    /// The right to run it, where the store is embedded.
    pub lock: Option<BatchLock>,
}

/// What a hidden batch is filled from.
#[derive(Debug)]
pub struct Input<R> {
    /// The lines.
    pub input: R,
    /// How they are read.
    pub options: LineOptions,
    /// The digest of the survey: an input that changed since is refused.
    pub digest: Option<[u8; 32]>,
    /// Equal jobs are computed each, see [`BatchSpec::compute_each`].
    pub compute_each: bool,
}

/// What became of a submission.
#[derive(Debug)]
pub enum Submitted {
    /// A new batch, with the right to run it where the store is embedded.
    New(Box<Batch>, Option<BatchLock>),
    /// An equal one existed.
    Existing(Box<Batch>),
}

/// Why no batch was made. Nothing of it stays in the store.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// The input cannot be read, or is no list of jobs.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The batch is refused as a whole.
    #[error("the batch is refused: {0}")]
    Refused(Refusal),
    /// The input is not what it was at the first look.
    #[error("the input changed while it was read: run the command again")]
    InputChanged,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The new batch's lock file cannot be used.
    #[error(transparent)]
    Lock(#[from] LockError),
}

enum Message {
    Jobs(Vec<NewJob>),
    End { digest: [u8; 32] },
    Failed(ReadError),
}

impl Batches {
    /// Makes a batch of an input. Reads in a thread of its own, in memory bounded by a few chunks
    /// and the length limit of a line.
    pub async fn submit<R>(
        &self,
        input: R,
        submission: Submission,
    ) -> Result<Submitted, SubmitError>
    where
        R: BufRead + Send + 'static,
    {
        let (id, lock) = self.reserve()?;
        let (options, models) = (submission.spec.options.clone(), submission.models.clone());
        let compute_each = submission.spec.compute_each;
        let digest = submission.digest;
        let (_, no) = (self.store).batch_create(submission.into_new(id)).await?;
        let reserved = Reserved { no, lock };
        let input = Input {
            input,
            options,
            digest,
            compute_each,
        };
        self.load_and_show(reserved, None, input, &models).await
    }

    /// The id of a batch that is about to be made, and its lock where the store is embedded. Locked before it is there: a
    /// sweeper must not take it for an orphan.
    pub fn reserve(&self) -> Result<(BatchId, Option<BatchLock>), LockError> {
        let id = BatchId::generate();
        let lock = self.take(&id)?;
        Ok((id, lock))
    }

    /// Loads an input into a hidden batch that is there already, empty and without models, and shows it.
    pub async fn submit_into<R>(
        &self,
        reserved: Reserved,
        input: Input<R>,
        models: Vec<BatchModel>,
    ) -> Result<Submitted, SubmitError>
    where
        R: BufRead + Send + 'static,
    {
        for model in &models {
            self.store.model_resolve(reserved.no, model.clone()).await?;
        }
        self.load_and_show(reserved, None, input, &models).await
    }

    /// Loads, and shows what is whole, in the place of an announced batch where there is one.
    pub(super) async fn load_and_show<R>(
        &self,
        reserved: Reserved,
        announced: Option<BatchNo>,
        input: Input<R>,
        models: &[BatchModel],
    ) -> Result<Submitted, SubmitError>
    where
        R: BufRead + Send + 'static,
    {
        let Reserved { no, lock } = reserved;
        let Input {
            input,
            options,
            digest,
            compute_each,
        } = input;
        let names = models
            .iter()
            .map(|model| (model.requested.clone(), model.no))
            .collect();
        let (sender, receiver) = mpsc::channel(CHUNKS_WAITING);
        let reading = tokio::task::spawn_blocking(move || {
            let mut reader = Reader::new(input, &options);
            let jobs = JobMaker {
                models: names,
                equal: (!compute_each).then(EqualJobs::default),
            };
            let last = match send_chunks(&mut reader, jobs, &sender) {
                Ok(()) => Message::End {
                    digest: reader.digest(),
                },
                Err(error) => Message::Failed(error),
            };
            // A receiver that is gone has its own error already.
            let _ = sender.blocking_send(last);
        });
        let loaded = self.load(no, receiver, digest).await;
        reading.await.expect("the reading thread does not panic");
        if let Err(error) = loaded {
            // The first error counts; what cannot be deleted now is swept later.
            let _ = self.store.batch_delete(no).await;
            return Err(error);
        }
        let sealed = match announced {
            Some(announced) => self.store.batch_seal_as(no, announced).await?,
            None => self.store.batch_seal(no).await?,
        };
        match sealed {
            Sealed::Shown(batch) => Ok(Submitted::New(batch, lock)),
            Sealed::Existing(batch) => Ok(Submitted::Existing(batch)),
            Sealed::Refused(refusal) => Err(SubmitError::Refused(refusal)),
        }
    }

    async fn load(
        &self,
        batch: BatchNo,
        mut chunks: mpsc::Receiver<Message>,
        expected: Option<[u8; 32]>,
    ) -> Result<(), SubmitError> {
        loop {
            match chunks.recv().await {
                Some(Message::Jobs(jobs)) => self.store.batch_fill(batch, jobs).await?,
                Some(Message::End { digest }) if expected.is_none_or(|old| old == digest) => {
                    return Ok(());
                }
                Some(Message::End { .. }) => return Err(SubmitError::InputChanged),
                Some(Message::Failed(error)) => return Err(error.into()),
                None => unreachable!("the reading thread's last message is End or Failed"),
            }
        }
    }
}

fn send_chunks<R: BufRead>(
    reader: &mut Reader<'_, R>,
    mut maker: JobMaker,
    chunks: &mpsc::Sender<Message>,
) -> Result<(), ReadError> {
    let mut jobs = Vec::new();
    let mut bytes = 0;
    while let Some(line) = reader.next_line()? {
        bytes += line.text.len();
        jobs.push(maker.job(line));
        if jobs.len() == CHUNK_JOBS || bytes >= CHUNK_BYTES {
            let full = std::mem::take(&mut jobs);
            bytes = 0;
            if chunks.blocking_send(Message::Jobs(full)).is_err() {
                // The store failed; there is nobody to read for.
                return Ok(());
            }
        }
    }
    if !jobs.is_empty() {
        let _ = chunks.blocking_send(Message::Jobs(jobs));
    }
    Ok(())
}

/// Makes jobs of lines.
struct JobMaker {
    models: HashMap<String, ModelNo>,
    /// `None`: equal jobs are computed each.
    equal: Option<EqualJobs>,
}

impl JobMaker {
    fn job(&mut self, line: Line) -> NewJob {
        let work = line.work();
        let verdict = match line.parsed.request {
            Ok(request) => self.models.get(&request.model).copied().ok_or_else(|| {
                let message = format!(
                    "the model {:?} was not there when the input was looked at",
                    request.model
                );
                JobError::new("model_not_found", message)
            }),
            Err(error) => Err(error.into()),
        };
        let same_as = match (&mut self.equal, &verdict, work) {
            (Some(equal), Ok(model), Some(work)) => equal.leader_of(line.index, *model, &work),
            _ => None,
        };
        NewJob {
            index: line.index,
            line_number: line.number,
            line: line.text,
            shape: line.parsed.shape,
            custom_id: line.parsed.custom_id.map(|id| id.text),
            content: line.content,
            verdict,
            same_as,
        }
    }
}
