//! Batches that somebody watches: one task a batch looks at the store for all of its watchers.
//!
//! The last results are kept in a bounded ring, as the JSON that goes out. Whoever is further behind, or comes late,
//! reads from the store at its own pace.

use super::pace::Pace;
use super::ring::{PAGE, ResultLine, Ring, Wanted};
use super::{TooMany, locked};
use crate::explain::explain;
use crate::http::types::{ProgressEvent, RequestCounts, TokenCounts, WatchedNode};
use rbee_queue::store::PlacedQuery;
use rbee_queue::{Batch, BatchId, Batches, NodeInstance, StoreError, StoredNode};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

/// Batches that are watched at once.
const MAX_BATCHES: usize = 1_024;
/// How often a batch is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How often nodes and reasons to wait are looked at.
const LOOK_AROUND_EVERY: Duration = Duration::from_secs(1);
/// The wait after a look that failed.
const TROUBLE_PAUSE: Duration = Duration::from_secs(1);
/// Running jobs that are named to those who want their text.
const RUNNING: usize = 64;
/// Reads at once for watchers that are behind.
const CATCHING_UP: usize = 8;

/// A batch as it was at the last look.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The batch.
    pub batch: Batch,
    /// It was purged meanwhile.
    pub purged: bool,
    /// How it goes.
    pub progress: ProgressEvent,
    /// The same as JSON.
    pub progress_json: Arc<str>,
    /// The first jobs that nodes have, where somebody wants their text.
    pub running: Arc<[u64]>,
}

impl Seen {
    fn new(batch: Batch, pace: &Pace, around: &Around) -> Seen {
        let counts = RequestCounts::from(batch.counts);
        let speed = pace.speed();
        let progress = ProgressEvent {
            status: batch.status,
            request_counts: counts,
            usage: TokenCounts {
                input_tokens: batch.input_tokens,
                output_tokens: batch.output_tokens,
            },
            last_finish_no: batch.last_finish_no,
            jobs_per_s: speed.jobs_per_s,
            tokens_per_s: speed.tokens_per_s,
            eta_s: pace.eta_s(counts.unfinished()),
            waiting: around.waiting.clone(),
            nodes: around.nodes.clone(),
        };
        let json = serde_json::to_string(&progress).expect("progress is always JSON");
        Seen {
            batch,
            purged: false,
            running: Arc::clone(&around.running),
            progress,
            progress_json: json.into(),
        }
    }
}

/// What is looked at less often.
#[derive(Debug, Default)]
struct Around {
    waiting: Option<String>,
    nodes: Vec<WatchedNode>,
    running: Arc<[u64]>,
}

/// All batches that are watched in this process.
pub struct LiveBatches {
    batches: Batches,
    /// By their ids: the number of an announced one changes when its lines are there.
    watched: Mutex<HashMap<BatchId, Weak<LiveBatch>>>,
    catching_up: Arc<Semaphore>,
}

impl LiveBatches {
    /// Nothing is watched.
    pub fn new(batches: Batches) -> LiveBatches {
        LiveBatches {
            batches,
            watched: Mutex::default(),
            catching_up: Arc::new(Semaphore::new(CATCHING_UP)),
        }
    }

    /// Watches a batch for as long as what is returned is held. `batch` is how it was just read.
    pub fn follow(&self, batch: Batch) -> Result<Arc<LiveBatch>, TooMany> {
        let mut watched = locked(&self.watched);
        if let Some(live) = watched.get(&batch.id).and_then(Weak::upgrade) {
            live.refresh(batch);
            return Ok(live);
        }
        watched.retain(|_, live| live.strong_count() > 0);
        if watched.len() >= MAX_BATCHES {
            return Err(TooMany);
        }
        let id = batch.id.clone();
        let live = Arc::new(LiveBatch {
            batches: self.batches.clone(),
            catching_up: Arc::clone(&self.catching_up),
            ring: Mutex::new(Ring::beginning_after(batch.last_finish_no)),
            wants: Wants::default(),
            seen: watch::Sender::new(Arc::new(Seen::new(
                batch,
                &Pace::default(),
                &Around::default(),
            ))),
        });
        watched.insert(id, Arc::downgrade(&live));
        tokio::spawn(look_on(Arc::downgrade(&live)));
        Ok(live)
    }
}

/// Looks at a batch for as long as somebody watches.
async fn look_on(watched: Weak<LiveBatch>) {
    let mut looker = Looker::default();
    loop {
        let pause = {
            let Some(live) = watched.upgrade() else {
                return;
            };
            match looker.look(&live).await {
                Ok(()) => LOOK_EVERY,
                Err(error) => {
                    tracing::debug!(%error, "a watched batch cannot be looked at");
                    TROUBLE_PAUSE
                }
            }
        };
        tokio::time::sleep(pause).await;
    }
}

#[derive(Default)]
struct Looker {
    pace: Pace,
    around: Around,
    looked_around: Option<Instant>,
}

impl Looker {
    async fn look(&mut self, live: &LiveBatch) -> Result<(), StoreError> {
        let store = live.batches.store();
        let before = Arc::clone(&live.seen.borrow());
        let Some(batch) = store.batch_get(&before.batch.id).await? else {
            live.seen.send_modify(|seen| {
                let seen = Arc::make_mut(seen);
                seen.purged = true;
            });
            return Ok(());
        };
        let now = Instant::now();
        let done = batch.counts.total - batch.counts.unfinished();
        self.pace.note(now, done, batch.output_tokens);
        let due = |at: Instant| now.duration_since(at) >= LOOK_AROUND_EVERY;
        let text = live.wants.text.load(Ordering::Acquire) > 0;
        if text || self.looked_around.is_none_or(due) {
            self.look_around(live, &batch).await?;
            self.looked_around = Some(now);
        }
        live.read_results(&before.batch, &batch).await?;
        live.show(Seen::new(batch, &self.pace, &self.around));
        Ok(())
    }

    async fn look_around(&mut self, live: &LiveBatch, batch: &Batch) -> Result<(), StoreError> {
        if batch.status.is_terminal() {
            self.around = Around::default();
            return Ok(());
        }
        let store = live.batches.store();
        let nodes = store.node_list().await?;
        let waiting = store.job_waiting(batch.no).await?;
        let placed = store.job_placed(&PlacedQuery::Batch(batch.no)).await?;
        let text = live.wants.text.load(Ordering::Acquire) > 0;
        let most = if text { RUNNING } else { 0 };
        let running = placed.iter().take(most);
        self.around = Around {
            running: running.map(|placed| placed.held.job.index.0).collect(),
            waiting: explain(batch, &waiting, &nodes),
            nodes: nodes_of(&nodes, placed.into_iter().map(|placed| placed.node)),
        };
        Ok(())
    }
}

/// The nodes that hold jobs, by name.
fn nodes_of(nodes: &[StoredNode], holders: impl Iterator<Item = NodeInstance>) -> Vec<WatchedNode> {
    let mut jobs: BTreeMap<&str, WatchedNode> = BTreeMap::new();
    for holder in holders {
        let Some(node) = nodes.iter().find(|node| node.instance == holder) else {
            continue;
        };
        let name = node.report.name.as_str();
        jobs.entry(name)
            .or_insert_with(|| WatchedNode {
                name: name.to_owned(),
                state: node.state(),
                jobs: 0,
            })
            .jobs += 1;
    }
    jobs.into_values().collect()
}

/// How many watchers want what.
#[derive(Debug, Default)]
struct Wants {
    all: AtomicUsize,
    errors: AtomicUsize,
    text: AtomicUsize,
}

/// A batch that is watched.
pub struct LiveBatch {
    batches: Batches,
    catching_up: Arc<Semaphore>,
    ring: Mutex<Ring>,
    wants: Wants,
    seen: watch::Sender<Arc<Seen>>,
}

/// Holds a watcher's wish for results.
pub struct Wish {
    live: Arc<LiveBatch>,
    wanted: Wanted,
    text: bool,
}

impl Drop for Wish {
    fn drop(&mut self) {
        if let Some(count) = self.live.count(self.wanted) {
            count.fetch_sub(1, Ordering::AcqRel);
        }
        let text = usize::from(self.text);
        self.live.wants.text.fetch_sub(text, Ordering::AcqRel);
    }
}

impl LiveBatch {
    /// The batch as it is seen, as it changes.
    pub fn seen(&self) -> watch::Receiver<Arc<Seen>> {
        self.seen.subscribe()
    }

    /// Notes what a watcher wants, the text of running jobs too or not, until the wish is dropped.
    pub fn wish(self: &Arc<Self>, wanted: Wanted, text: bool) -> Wish {
        if let Some(count) = self.count(wanted) {
            count.fetch_add(1, Ordering::AcqRel);
        }
        (self.wants.text).fetch_add(usize::from(text), Ordering::AcqRel);
        Wish {
            text,
            live: Arc::clone(self),
            wanted,
        }
    }

    fn count(&self, wanted: Wanted) -> Option<&AtomicUsize> {
        match wanted {
            Wanted::All => Some(&self.wants.all),
            Wanted::Errors => Some(&self.wants.errors),
            Wanted::Nothing => None,
        }
    }

    /// Shows a newer state that somebody else read.
    fn refresh(&self, batch: Batch) {
        self.seen.send_if_modified(|seen| {
            let newer = batch.status != seen.batch.status
                || batch.last_finish_no > seen.batch.last_finish_no;
            if newer {
                *seen = Arc::new(Seen::new(batch, &Pace::default(), &Around::default()));
            }
            newer
        });
    }

    fn show(&self, now: Seen) {
        self.seen.send_if_modified(|seen| {
            let changed = seen.progress != now.progress
                || seen.batch != now.batch
                || seen.running != now.running;
            if changed {
                *seen = Arc::new(now);
            }
            changed
        });
    }

    /// Brings the ring up to the batch's last result, as far as somebody wants results.
    async fn read_results(&self, before: &Batch, batch: &Batch) -> Result<(), StoreError> {
        let last = batch.last_finish_no;
        let all = self.wants.all.load(Ordering::Acquire) > 0;
        let errors = self.wants.errors.load(Ordering::Acquire) > 0;
        let ring_at = locked(&self.ring).to();
        // The row that was read before may be older than what is in the ring, never newer than what was seen then.
        let same_errors = batch.counts.failed == before.counts.failed
            && before.last_finish_no <= ring_at
            && before.status == batch.status;
        if !all && (!errors || same_errors) {
            locked(&self.ring).skip(last, same_errors);
            return Ok(());
        }
        loop {
            let after = locked(&self.ring).to();
            if after >= last {
                return Ok(());
            }
            let page = (self.batches.store())
                .finished_since(batch.no, after, PAGE)
                .await?;
            if page.is_empty() {
                // The last one was replaced by a retry meanwhile.
                locked(&self.ring).skip(last, true);
                return Ok(());
            }
            let lines: Vec<ResultLine> = page.iter().map(ResultLine::from).collect();
            locked(&self.ring).extend(lines);
        }
    }

    /// Results after a number, some of them, and the number up to which nothing is left out.
    pub async fn results_after(
        &self,
        after: u64,
        wanted: Wanted,
    ) -> Result<(Vec<ResultLine>, u64), StoreError> {
        if wanted == Wanted::Nothing {
            let to = self.seen.borrow().batch.last_finish_no;
            return Ok((Vec::new(), to.max(after)));
        }
        if let Some(found) = locked(&self.ring).after(after, wanted) {
            return Ok(found);
        }
        let _turn = self.catching_up.acquire().await;
        let store = self.batches.store();
        let no = self.seen.borrow().batch.no;
        let page = match wanted {
            Wanted::Errors => {
                // Where there is no error, all that was there before the read is passed over at once.
                let known = self.seen.borrow().batch.last_finish_no;
                let page = store.failed_since(no, after, PAGE).await?;
                if page.is_empty() {
                    return Ok((Vec::new(), known.max(after)));
                }
                page
            }
            _ => store.finished_since(no, after, PAGE).await?,
        };
        let to = page.last().map_or(after, |last| last.finish_no);
        Ok((page.iter().map(ResultLine::from).collect(), to))
    }
}
