//! What a node tells of its attempts to whoever collects traces. Without anybody nothing is noted.

use super::commit::Group;
use rbee_queue::queue::Held;
use rbee_queue::store::{Finish, FinishOutcome};
use rbee_queue::trace::{self, Part, Span};
use rbee_queue::{BatchId, BatchNo, Batches, Outcome};
use std::collections::{HashMap, HashSet};

/// Batches whose ids are remembered.
const KNOWN: usize = 1_000;

/// When an attempt was where, in microseconds since 1970.
#[derive(Clone, Copy, Debug)]
pub struct AttemptTimes {
    /// It came to the node.
    pub taken_us: i64,
    /// An engine got it.
    pub given_us: Option<i64>,
    /// It ended.
    pub ended_us: i64,
}

/// The attempts that a node has.
#[derive(Debug, Default)]
pub struct Attempts(HashMap<Held, AttemptTimes>);

impl Attempts {
    /// An attempt came.
    pub fn taken(&mut self, held: Held) {
        if trace::is_on() {
            let taken_us = trace::now_us();
            let times = AttemptTimes {
                taken_us,
                given_us: None,
                ended_us: taken_us,
            };
            self.0.insert(held, times);
        }
    }

    /// An engine got it.
    pub fn given(&mut self, held: &Held) {
        if let Some(times) = self.0.get_mut(held) {
            times.given_us = Some(trace::now_us());
        }
    }

    /// It has ended, or was given back.
    pub fn ended(&mut self, held: &Held) -> Option<AttemptTimes> {
        let times = self.0.remove(held)?;
        Some(AttemptTimes {
            ended_us: trace::now_us(),
            ..times
        })
    }
}

/// Tells of groups that were stored.
#[derive(Debug, Default)]
pub struct Teller {
    ids: HashMap<BatchNo, BatchId>,
}

impl Teller {
    /// Tells of a group whose storing began then.
    pub async fn stored(
        &mut self,
        batches: &Batches,
        group: &Group,
        outcomes: &[FinishOutcome],
        began_us: i64,
    ) {
        let mut firsts: HashMap<BatchNo, (&Finish, u64)> = HashMap::new();
        let mut done = HashSet::new();
        for (finish, outcome) in group.finishes.iter().zip(outcomes) {
            let FinishOutcome::Stored { batch_done, .. } = outcome else {
                continue;
            };
            let no = finish.job.batch;
            let Some(id) = self.id(batches, no).await else {
                continue;
            };
            firsts.entry(no).or_insert((finish, 0)).1 += 1;
            let held = Held {
                job: finish.job,
                attempt: finish.attempt,
            };
            if let Some(times) = group.times.get(&held) {
                trace::tell(|| attempt(&id, finish, *times));
            }
            // All results say so that were stored together with the last one.
            if *batch_done {
                done.insert(no);
            }
        }
        for (no, (first, jobs)) in firsts {
            if let Some(id) = self.ids.get(&no) {
                let part = Part::Store(&first.stats.node, first.job.index, first.attempt);
                trace::tell(|| {
                    Span::of_batch(id, part, began_us)
                        .with("rbee.node", first.stats.node.as_str())
                        .with("rbee.jobs", jobs)
                });
            }
            if done.contains(&no)
                && let Ok(Some(batch)) = batches.store().batch_by_no(no).await
            {
                trace::tell(|| Span::of_ended(&batch));
            }
        }
    }

    /// The id of a batch. One that cannot be asked for now is not told of.
    async fn id(&mut self, batches: &Batches, no: BatchNo) -> Option<BatchId> {
        if let Some(id) = self.ids.get(&no) {
            return Some(id.clone());
        }
        let batch = batches.store().batch_by_no(no).await.ok().flatten()?;
        if self.ids.len() >= KNOWN {
            self.ids.clear();
        }
        self.ids.insert(no, batch.id.clone());
        Some(batch.id)
    }
}

fn attempt(batch: &BatchId, finish: &Finish, times: AttemptTimes) -> Span {
    let (index, attempt, stats) = (finish.job.index, finish.attempt, &finish.stats);
    let ms = |from: i64, to: i64| u64::try_from(to - from).unwrap_or(0) / 1_000;
    let given_us = times.given_us.unwrap_or(times.ended_us);
    // What the engine had it for before it was admitted: its preparation, and the wait for a slot.
    let in_engine_ms = ms(given_us, times.ended_us).saturating_sub(stats.total_ms);
    let mut span = Span::of_batch(batch, Part::Attempt(index, attempt), times.taken_us)
        .with("rbee.job", index.0)
        .with("rbee.attempt", attempt.0)
        .with("rbee.node", stats.node.as_str())
        .with("rbee.node_wait_ms", ms(times.taken_us, given_us))
        .with("rbee.prepare_ms", stats.prepare_ms)
        .with(
            "rbee.slot_wait_ms",
            in_engine_ms.saturating_sub(stats.prepare_ms),
        )
        .with("rbee.prompt_ms", stats.first_token_ms)
        .with(
            "rbee.decode_ms",
            stats.total_ms.saturating_sub(stats.first_token_ms),
        )
        .with("rbee.preemptions", u64::from(stats.preemptions));
    span.ended_us = times.ended_us;
    match &finish.record.outcome {
        Outcome::Completed(completed) => {
            let usage = &completed.usage;
            span.with("rbee.prompt_tokens", u64::from(usage.prompt_tokens))
                .with("rbee.completion_tokens", u64::from(usage.completion_tokens))
        }
        Outcome::Failed(error) => {
            span.error = Some(error.code.clone());
            span
        }
    }
}
