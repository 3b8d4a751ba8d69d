//! Jobs that somebody watches: one task and one subscription a job, shared by all of its watchers.
//!
//! The task asks the node that holds the job for its text, and again now and then, looks at the store for the job's
//! state, and keeps what was said. Watchers read from there. A job that nobody watches any more is kept for a while, so
//! that a client whose connection broke goes on where it was.

use super::look_pace::{FIRST_LOOK, LONGEST_LOOK, LookPace};
use super::transcript::{Joined, News, Place, Transcript};
use super::{TooMany, locked};
use crate::explain::explain;
use rbee_queue::queue::{Control, TextEvent, WATCH_TTL};
use rbee_queue::store::StoredJob;
use rbee_queue::{
    Attempt, Batch, BatchId, Batches, JobIndex, JobRef, JobState, NodeInstance, NodeState, Outcome,
    StoreError,
};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::{Notify, broadcast, watch};
use tokio::time::Instant;

/// Jobs that are watched at once.
const MAX_JOBS: usize = 1_024;
/// How often a node is asked anew: well before it forgets.
const ASK_AGAIN: Duration = Duration::from_secs(WATCH_TTL.as_secs() / 4);
/// A gap is asked about at most so often.
const GAP_AGAIN: Duration = Duration::from_millis(200);
/// A job that nobody watches is kept for so long, while it has no result: that one is in the store.
const KEPT: Duration = Duration::from_secs(60);
/// How often it is noticed that nobody watches a job with a result any more.
const OVER_LOOK: Duration = Duration::from_millis(250);
/// How often the reason to wait is looked for.
const EXPLAIN_EVERY: Duration = Duration::from_secs(2);
/// Nodes that are told of a job before it is placed.
const TOLD_EARLY: usize = 16;

/// All jobs that are watched in this process; cheap to clone.
#[derive(Clone)]
pub struct LiveJobs(Arc<Inner>);

struct Inner {
    batches: Batches,
    watched: Mutex<HashMap<JobRef, Weak<LiveJob>>>,
}

/// A job that is watched.
pub struct LiveJob {
    job: JobRef,
    state: Mutex<State>,
    /// Counts the changes.
    changed: watch::Sender<u64>,
    /// Somebody begins to watch.
    woken: Notify,
}

struct State {
    transcript: Transcript,
    facts: Facts,
}

/// What the store says of a watched job.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The job, once it was read.
    pub job: Option<Arc<StoredJob>>,
    /// The name of the node that has it.
    pub node: Option<String>,
    /// Why it waits.
    pub waiting: Option<String>,
    /// It is not there, or not any more.
    pub gone: bool,
}

impl Facts {
    /// Whether the job has its result.
    pub fn is_over(&self) -> bool {
        self.job
            .as_ref()
            .is_some_and(|job| job.result.is_some() && job.state.is_terminal())
    }
}

impl LiveJob {
    /// Counts the changes; the first one says that the job was read and its text is subscribed to.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// What is new for a reader, and how the job is.
    pub fn read(&self, place: &mut Place) -> (News, Facts) {
        let state = locked(&self.state);
        let over = state.facts.is_over();
        (state.transcript.read(place, over), state.facts.clone())
    }

    fn tell(&self, change: impl FnOnce(&mut State)) {
        change(&mut locked(&self.state));
        self.changed.send_modify(|changes| *changes += 1);
    }
}

impl LiveJobs {
    /// Nothing is watched.
    pub fn new(batches: Batches) -> LiveJobs {
        LiveJobs(Arc::new(Inner {
            batches,
            watched: Mutex::default(),
        }))
    }

    /// Watches a job for as long as what is returned is held.
    pub fn follow(&self, batch: &Batch, index: JobIndex) -> Result<Arc<LiveJob>, TooMany> {
        let job = JobRef {
            batch: batch.no,
            index,
        };
        let mut watched = locked(&self.0.watched);
        if let Some(live) = watched.get(&job).and_then(Weak::upgrade) {
            live.woken.notify_one();
            return Ok(live);
        }
        if watched.len() >= MAX_JOBS {
            // Those that only their tasks hold go first: whoever comes back finds them in the store.
            watched.retain(|_, live| live.strong_count() > 1);
        }
        if watched.len() >= MAX_JOBS {
            return Err(TooMany);
        }
        let live = Arc::new(LiveJob {
            job,
            state: Mutex::new(State {
                transcript: Transcript::new(!batch.spec.any_numerics),
                facts: Facts::default(),
            }),
            changed: watch::Sender::new(0),
            woken: Notify::new(),
        });
        watched.insert(job, Arc::downgrade(&live));
        let follower = Follower {
            jobs: self.clone(),
            live: Arc::clone(&live),
            batch: batch.id.clone(),
            text: None,
            asked: None,
            gap: false,
            pace: LookPace::new(Instant::now()),
            explained: None,
        };
        tokio::spawn(follower.run());
        Ok(live)
    }

    /// Tells the nodes that may get a job that its text is wanted, so that it comes with the first token.
    pub async fn expect(&self, batch: &Batch, index: JobIndex) -> Result<(), StoreError> {
        let job = JobRef {
            batch: batch.no,
            index,
        };
        let nodes = self.0.batches.store().node_list().await?;
        let may = nodes.iter().filter(|node| {
            let pinned = batch.pinned_node.as_ref();
            node.state() != NodeState::Lost && pinned.is_none_or(|name| *name == node.report.name)
        });
        for node in may.take(TOLD_EARLY) {
            self.ask(&node.instance, job).await;
        }
        Ok(())
    }

    async fn ask(&self, node: &NodeInstance, job: JobRef) {
        let wish = Control::Watch(vec![job]);
        if let Err(error) = self.0.batches.queue().control(node, wish).await {
            // It is asked again; until then the store says how it ends.
            tracing::debug!(%error, %node, "a node was not asked for a job's text");
        }
    }

    /// Forgets a job that nobody but its task holds.
    fn forget(&self, live: &Arc<LiveJob>) -> bool {
        let mut watched = locked(&self.0.watched);
        let unused = Arc::strong_count(live) == 1;
        let known = watched.get(&live.job);
        if unused && known.is_some_and(|known| known.as_ptr() == Arc::as_ptr(live)) {
            watched.remove(&live.job);
        }
        unused
    }
}

/// The task of a watched job.
struct Follower {
    jobs: LiveJobs,
    live: Arc<LiveJob>,
    batch: BatchId,
    text: Option<broadcast::Receiver<TextEvent>>,
    /// Who was asked last for which attempt, and when.
    asked: Option<(NodeInstance, Attempt, Instant)>,
    /// Something is missing.
    gap: bool,
    pace: LookPace,
    explained: Option<Instant>,
}

impl Follower {
    async fn run(mut self) {
        let mut unwatched_since: Option<Instant> = None;
        loop {
            let watched = Arc::strong_count(&self.live) > 1;
            let unwatched = match watched {
                true => None,
                false => Some(*unwatched_since.get_or_insert_with(Instant::now)),
            };
            unwatched_since = unwatched;
            let over = locked(&self.live.state).facts.is_over();
            let kept = if over { Duration::ZERO } else { KEPT };
            if unwatched.is_some_and(|since| since.elapsed() >= kept)
                && self.jobs.forget(&self.live)
            {
                return;
            }
            if watched && Instant::now() >= self.pace.next {
                match self.look().await {
                    Ok(()) => self.pace.looked(Instant::now()),
                    Err(error) => {
                        tracing::debug!(%error, "a watched job cannot be looked at");
                        self.pace.next = Instant::now() + LONGEST_LOOK;
                    }
                }
            }
            let next = match unwatched {
                Some(since) => since + kept + FIRST_LOOK,
                None if over => self.pace.next.min(Instant::now() + OVER_LOOK),
                None => self.pace.next,
            };
            tokio::select! {
                heard = hear(&mut self.text) => self.hear(heard),
                () = self.live.woken.notified() => {
                    // Others may have retried it meanwhile, and the node may have forgotten the last wish.
                    self.asked = None;
                    self.pace.next = Instant::now();
                }
                () = tokio::time::sleep_until(next) => {}
            }
        }
    }

    fn hear(&mut self, heard: Result<TextEvent, RecvError>) {
        let mut news = false;
        let mut next = Some(heard);
        {
            let mut state = locked(&self.live.state);
            while let Some(heard) = next.take() {
                match heard {
                    Ok(event) => match state.transcript.add(&event) {
                        Joined::Nothing => {}
                        Joined::News => news = true,
                        Joined::Gap => self.gap = true,
                    },
                    Err(RecvError::Lagged(_)) => self.gap = true,
                    Err(RecvError::Closed) => {
                        self.text = None;
                        self.gap = true;
                        break;
                    }
                }
                next = self.text.as_mut().and_then(at_hand);
            }
        }
        let now = Instant::now();
        if news {
            self.pace.heard(now);
            self.live.tell(|_| ());
        }
        if self.gap {
            let free = self
                .asked
                .as_ref()
                .map_or(now, |(_, _, at)| *at + GAP_AGAIN);
            self.pace.next = self.pace.next.min(free.max(now));
        }
    }

    /// Brings the facts up to date, and asks the node if it is time.
    async fn look(&mut self) -> Result<(), StoreError> {
        let jobs = self.jobs.clone();
        let (store, queue) = (jobs.0.batches.store(), jobs.0.batches.queue());
        if self.text.is_none() {
            match queue.watch(self.live.job).await {
                Ok(text) => self.text = Some(text),
                Err(error) => tracing::debug!(%error, "a job's text cannot be subscribed to now"),
            }
        }
        let found = store.job_get(&[self.live.job]).await?;
        let Some(found) = found.into_iter().next().flatten() else {
            self.live.tell(|state| state.facts.gone = true);
            return Ok(());
        };
        let before = locked(&self.live.state).facts.clone();
        if before.job.as_deref() != Some(&found) {
            self.take(found, &before).await?;
        }
        let (job, empty) = {
            let state = locked(&self.live.state);
            (state.facts.job.clone(), state.transcript.is_empty())
        };
        let Some(job) = job else {
            return Ok(());
        };
        match (&job.node, job.state) {
            (Some(node), JobState::Placed) => self.ask(node, job.attempt).await,
            (_, JobState::Queued) if empty => self.explain().await?,
            _ => {}
        }
        Ok(())
    }

    /// Takes what the store says, which is new.
    async fn take(&mut self, found: StoredJob, before: &Facts) -> Result<(), StoreError> {
        let known = before.job.as_ref().and_then(|job| job.node.as_ref());
        let node = match &found.node {
            None => None,
            Some(node) if known == Some(node) => before.node.clone(),
            Some(node) => {
                let nodes = self.jobs.0.batches.store().node_list().await?;
                let there = nodes.into_iter().find(|stored| stored.instance == *node);
                there.map(|stored| stored.report.name)
            }
        };
        self.live.tell(|state| {
            let result = found.result.as_ref().map(|result| &result.record.outcome);
            match result {
                Some(Outcome::Completed(completed)) => {
                    state.transcript.finish(found.attempt, completed);
                }
                _ => state.transcript.attempt(found.attempt),
            }
            state.facts = Facts {
                job: Some(Arc::new(found)),
                node,
                waiting: None,
                gone: false,
            };
        });
        self.pace.changed();
        Ok(())
    }

    async fn ask(&mut self, node: &NodeInstance, attempt: Attempt) {
        let now = Instant::now();
        let due = self.asked.as_ref().is_none_or(|(asked, of, at)| {
            let patience = if self.gap { GAP_AGAIN } else { ASK_AGAIN };
            asked != node || *of != attempt || now.duration_since(*at) >= patience
        });
        if due {
            self.gap = false;
            self.asked = Some((node.clone(), attempt, now));
            self.jobs.ask(node, self.live.job).await;
        }
    }

    /// Why the job waits.
    async fn explain(&mut self) -> Result<(), StoreError> {
        let due = |at: Instant| at.elapsed() >= EXPLAIN_EVERY;
        if !self.explained.is_none_or(due) {
            return Ok(());
        }
        // Most jobs wait for a moment only.
        if self.explained.replace(Instant::now()).is_none() {
            return Ok(());
        }
        let store = self.jobs.0.batches.store();
        let Some(batch) = store.batch_get(&self.batch).await? else {
            return Ok(());
        };
        let waiting = store.job_waiting(batch.no).await?;
        let reason = explain(&batch, &waiting, &store.node_list().await?);
        if locked(&self.live.state).facts.waiting != reason {
            self.live.tell(|state| state.facts.waiting = reason);
        }
        Ok(())
    }
}

async fn hear(text: &mut Option<broadcast::Receiver<TextEvent>>) -> Result<TextEvent, RecvError> {
    match text {
        Some(text) => text.recv().await,
        None => std::future::pending().await,
    }
}

/// What has come already.
fn at_hand(text: &mut broadcast::Receiver<TextEvent>) -> Option<Result<TextEvent, RecvError>> {
    match text.try_recv() {
        Ok(event) => Some(Ok(event)),
        Err(TryRecvError::Empty) => None,
        Err(TryRecvError::Closed) => Some(Err(RecvError::Closed)),
        Err(TryRecvError::Lagged(count)) => Some(Err(RecvError::Lagged(count))),
    }
}
