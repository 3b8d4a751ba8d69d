//! The step planner: which sequences run, which tokens of each go into the next step, and who gives way when KV blocks
//! run out. It knows lengths and block numbers only: no token, no tensor, no clock.
//!
//! Sequences are ordered by [`SeqKey`]: priority, then age. The oldest one that runs may take the blocks of any other,
//! and every sequence fits into the KV alone (checked by [`Planner::fits`] before it is added), so the oldest always
//! advances: there is no deadlock, and since keys never change, every sequence becomes the oldest at last.
//!
//! Sequences whose prompts begin alike share the blocks of that beginning: whoever comes later takes over what is
//! computed, and waits for what an older one computes just now.

use super::blocks::BlockPool;
use super::job::Priority;
use super::prefix::PrefixKey;
use super::step::{BLOCK_TOKENS, BlockId};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

/// Identifies a sequence and says who goes first: the lower key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeqKey {
    /// Interactive before batch.
    pub priority: Priority,
    /// Number in the order of arrival, never reused.
    pub number: u64,
}

/// What a planner has to give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// Sequences that may run at once, at least 1.
    pub slots: usize,
    /// KV blocks.
    pub blocks: usize,
    /// The model holds one sequence at a time: prompts are not cut, and nothing is preempted.
    pub sequential: bool,
}

/// One sequence's part of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlannedChunk {
    /// The sequence.
    pub key: SeqKey,
    /// Position of its first token in this step.
    pub start: usize,
    /// Number of its tokens in this step, at least 1.
    pub len: usize,
    /// Whether the chunk ends at the sequence's last known token, so that the next one can be sampled.
    pub logits: bool,
}

/// What to do in one step.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Sequences that lost their blocks and will be recomputed.
    pub preempted: Vec<SeqKey>,
    /// Sequences that got a slot, for the first time or again.
    pub admitted: Vec<SeqKey>,
    /// The chunks to compute, oldest sequence first.
    pub chunks: Vec<PlannedChunk>,
    /// Positions that were taken over from other sequences instead of being computed.
    pub shared_tokens: usize,
}

/// A sequence that comes in.
#[derive(Debug, Clone)]
pub struct Newcomer {
    /// Its place.
    pub key: SeqKey,
    /// Its tokens, at least one.
    pub len: usize,
    /// The names of its whole blocks, from the first on, as far as others may share them; empty for none.
    pub prefix: Arc<[PrefixKey]>,
}

#[derive(Debug)]
struct Entry {
    /// Tokens known: prompt and generated ones.
    len: usize,
    /// Leading tokens whose K and V are in the blocks.
    computed: usize,
    blocks: Vec<BlockId>,
    prefix: Arc<[PrefixKey]>,
}

impl Entry {
    fn pending(&self) -> usize {
        self.len - self.computed
    }

    /// The names of the blocks that it needs next and may take over. Never that of its last token, whose logits are
    /// wanted.
    fn ahead(&self) -> &[PrefixKey] {
        let most = self.prefix.len().min((self.len - 1) / BLOCK_TOKENS);
        let next = self.computed.div_ceil(BLOCK_TOKENS);
        self.prefix.get(next..most).unwrap_or_default()
    }

    fn is_at_block(&self) -> bool {
        self.computed.is_multiple_of(BLOCK_TOKENS)
    }

    /// Takes over what others have computed from here on. Returns how many positions.
    fn take_over(&mut self, pool: &mut BlockPool) -> usize {
        let before = self.computed;
        while self.is_at_block()
            && let Some(key) = self.ahead().first()
            && let Some(block) = pool.share(key)
        {
            match self.blocks.get_mut(self.computed / BLOCK_TOKENS) {
                // Nothing was written to it yet.
                Some(own) => pool.release(std::mem::replace(own, block)),
                None => self.blocks.push(block),
            }
            self.computed += BLOCK_TOKENS;
        }
        self.computed - before
    }
}

/// Plans steps over the sequences it was given.
#[derive(Debug)]
pub struct Planner {
    capacity: Capacity,
    pool: BlockPool,
    waiting: BTreeMap<SeqKey, Entry>,
    running: BTreeMap<SeqKey, Entry>,
}

fn blocks_for(positions: usize) -> usize {
    positions.div_ceil(BLOCK_TOKENS)
}

impl Planner {
    /// A planner with nothing to do. A sequential model gets one slot.
    pub fn new(capacity: Capacity) -> Planner {
        let slots = if capacity.sequential {
            1
        } else {
            capacity.slots.max(1)
        };
        Planner {
            capacity: Capacity { slots, ..capacity },
            pool: BlockPool::new(capacity.blocks),
            waiting: BTreeMap::new(),
            running: BTreeMap::new(),
        }
    }

    /// Whether a sequence that grows to `positions` computed tokens fits into the KV alone.
    pub fn fits(&self, positions: usize) -> bool {
        blocks_for(positions) <= self.pool.total()
    }

    /// Adds a sequence to those that wait. It must never grow over what [`fits`](Self::fits).
    pub fn add(&mut self, newcomer: Newcomer) {
        let Newcomer { key, len, prefix } = newcomer;
        assert!(len > 0, "a sequence has at least one token: {key:?}");
        let entry = Entry {
            len,
            computed: 0,
            blocks: Vec::new(),
            // What a sequential model holds is in no block.
            prefix: match self.capacity.sequential {
                true => Arc::default(),
                false => prefix,
            },
        };
        let before = self.waiting.insert(key, entry);
        assert!(before.is_none(), "a sequence was added twice: {key:?}");
    }

    /// Forgets a sequence, waiting or running, and frees its blocks. Unknown keys are passed over.
    pub fn remove(&mut self, key: SeqKey) {
        let entry = self.running.remove(&key);
        if let Some(mut entry) = entry.or_else(|| self.waiting.remove(&key)) {
            self.pool.release_all(&mut entry.blocks);
        }
    }

    /// Forgets a sequence that went wrong: what it has computed is taken over by nobody.
    pub fn remove_faulty(&mut self, key: SeqKey) {
        if let Some(entry) = self.running.get(&key) {
            entry
                .blocks
                .iter()
                .for_each(|block| self.pool.forget(*block));
        }
        self.remove(key);
    }

    /// Plans the next step with at most `chunk_tokens` prompt tokens beside the decoding sequences.
    pub fn plan(&mut self, chunk_tokens: usize) -> Plan {
        let mut plan = Plan::default();
        self.grow_running(&mut plan);
        self.admit(&mut plan);
        for entry in self.running.values_mut() {
            plan.shared_tokens += entry.take_over(&mut self.pool);
        }
        self.cut_chunks(chunk_tokens.max(1), &mut plan);
        plan
    }

    /// Notes that a planned chunk was computed. Blocks that are whole now are found by others.
    pub fn computed(&mut self, chunk: &PlannedChunk) {
        let entry = self.running.get_mut(&chunk.key);
        let entry = entry.expect("planned sequences run");
        entry.computed = chunk.start + chunk.len;
        let whole = chunk.start / BLOCK_TOKENS..entry.computed / BLOCK_TOKENS;
        for (block, key) in entry
            .blocks
            .iter()
            .zip(entry.prefix.iter())
            .take(whole.end)
            .skip(whole.start)
        {
            self.pool.name(*block, *key);
        }
    }

    /// Notes that the sequence got one more token.
    pub fn grew(&mut self, key: SeqKey) {
        let entry = self.running.get_mut(&key);
        entry.expect("planned sequences run").len += 1;
    }

    /// The blocks of a running sequence; they cover all its known tokens.
    pub fn blocks(&self, key: SeqKey) -> &[BlockId] {
        &self
            .running
            .get(&key)
            .expect("planned sequences run")
            .blocks
    }

    /// Sequences that hold a slot.
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// Sequences that wait for one.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Sequences that may run at once.
    pub fn slots(&self) -> usize {
        self.capacity.slots
    }

    /// The KV blocks and their holders.
    pub fn pool(&self) -> &BlockPool {
        &self.pool
    }

    /// Gives every running sequence, oldest first, the blocks for its known tokens, at the cost of the youngest.
    fn grow_running(&mut self, plan: &mut Plan) {
        let keys: Vec<SeqKey> = self.running.keys().copied().collect();
        for key in keys {
            while let Some(entry) = self.running.get_mut(&key) {
                let missing = blocks_for(entry.len) - entry.blocks.len();
                if self.pool.take_many(missing, &mut entry.blocks) {
                    break;
                }
                assert!(
                    self.running.len() > 1,
                    "a sequence outgrew the KV though it was checked to fit alone: {key:?}"
                );
                self.preempt_youngest(plan);
            }
        }
    }

    fn preempt_youngest(&mut self, plan: &mut Plan) {
        let (key, mut entry) = self.running.pop_last().expect("a sequence runs");
        self.pool.release_all(&mut entry.blocks);
        entry.computed = 0;
        self.waiting.insert(key, entry);
        plan.preempted.push(key);
    }

    /// Lets waiting sequences in, oldest first and nobody past another, as long as a slot is free and so are the blocks
    /// for all their known tokens. An interactive one takes the place of the youngest batch sequence.
    fn admit(&mut self, plan: &mut Plan) {
        while let Some((&key, _)) = self.waiting.first_key_value() {
            if self.running.len() < self.capacity.slots && self.seat(key, plan) {
                continue;
            }
            let youngest = self.running.last_key_value().map(|(key, _)| key.priority);
            if self.capacity.sequential || youngest.is_none_or(|youngest| youngest <= key.priority)
            {
                break;
            }
            self.preempt_youngest(plan);
        }
    }

    /// Gives a waiting sequence a slot and the blocks for all its known tokens: shared ones as far as there are, and its
    /// own. False: there are too few.
    fn seat(&mut self, key: SeqKey, plan: &mut Plan) -> bool {
        let mut entry = self.waiting.remove(&key).expect("it was just seen");
        let shared = entry.take_over(&mut self.pool);
        let need = blocks_for(entry.len) - entry.blocks.len();
        // One more block for each that runs: else the newcomer would soon be preempted again.
        let spare = self.running.len();
        if need + spare > self.pool.free() {
            self.pool.release_all(&mut entry.blocks);
            entry.computed = 0;
            self.waiting.insert(key, entry);
            return false;
        }
        let taken = self.pool.take_many(need, &mut entry.blocks);
        assert!(taken, "the blocks were counted");
        self.running.insert(key, entry);
        plan.shared_tokens += shared;
        plan.admitted.push(key);
        true
    }

    /// Every decoding sequence takes part with its one token; what is left of prompts is cut to `chunk_tokens`. One
    /// whose next block an older one computes just now waits to take it over.
    fn cut_chunks(&self, chunk_tokens: usize, plan: &mut Plan) {
        let mut left = chunk_tokens;
        let mut coming: HashSet<&PrefixKey> = HashSet::new();
        for (&key, entry) in &self.running {
            let pending = entry.pending();
            let ahead = entry.ahead();
            if entry.is_at_block() && ahead.first().is_some_and(|next| coming.contains(next)) {
                continue;
            }
            coming.extend(ahead);
            let len = if pending == 1 || self.capacity.sequential {
                pending
            } else {
                let len = pending.min(left);
                left -= len;
                len
            };
            if len > 0 {
                plan.chunks.push(PlannedChunk {
                    key,
                    start: entry.computed,
                    len,
                    logits: len == pending,
                });
            }
        }
    }
}

#[cfg(test)]
#[path = "planner_tests.rs"]
mod tests;
