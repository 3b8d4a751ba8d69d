//! The seam between the engine and a model: one forward pass over chunks of many sequences.
//!
//! The planner decides which tokens of which sequences go into a step; a [`StepModel`] computes them. The seam holds
//! token ids, positions and block numbers only: no tensor type crosses it, so that planner, sampler and stub engine
//! build and test without one.

pub use rbee_kernels::kv::{BLOCK_TOKENS, BlockId};

/// Most prompt tokens the planner puts into one step, whatever the measured speed. A step has at most this many rows
/// plus one row for each slot, which bounds a model's scratch memory. A `sequential` model gets its prompt whole.
pub const MAX_CHUNK_TOKENS: usize = 512;

/// Consecutive tokens of one sequence, to be computed in this step.
#[derive(Debug, Clone, Copy)]
pub struct SeqChunk<'a> {
    /// The tokens, at least one.
    pub tokens: &'a [u32],
    /// Absolute position of `tokens[0]` in its sequence; all positions before it are in the KV already.
    pub start: usize,
    /// The sequence's blocks: position `p` lies in `blocks[p / BLOCK_TOKENS]` at offset `p % BLOCK_TOKENS`. They cover
    /// at least `0..start + tokens.len()`; positions from there on hold leftovers of other sequences (even NaN) and must
    /// not influence a result.
    pub blocks: &'a [BlockId],
    /// Whether the logits of the chunk's last token are wanted.
    pub logits: bool,
}

impl SeqChunk<'_> {
    /// One past the absolute position of the chunk's last token.
    pub fn end(&self) -> usize {
        self.start + self.tokens.len()
    }
}

/// A forward pass that failed. Nothing is assumed about the KV of the chunks in it, but that of all others is intact.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the model could not compute a step: {message}")]
pub struct StepError {
    /// What went wrong, as one clause.
    pub message: String,
}

/// A loaded model that computes many sequences a step.
///
/// The engine calls it from one thread. A row's numbers must not depend on the other chunks of the step, on how its
/// sequence was cut into chunks, or on which blocks it was given. Computing a chunk again with the same tokens at the
/// same positions gives the same KV and logits: after an error or a panic the engine repeats the chunks one by one to
/// find the culprit.
pub trait StepModel: Send {
    /// Length of one row of logits.
    fn vocab_size(&self) -> usize;

    /// Most positions one sequence may have (prompt and answer).
    fn context_len(&self) -> usize;

    /// Number of KV blocks there are.
    fn kv_blocks(&self) -> usize;

    /// Computes every chunk of `step`: writes their K and V, and replaces `logits` by one row of `vocab_size` values
    /// for each chunk with `logits == true`, in the order of `step`.
    ///
    /// # Errors
    /// When a chunk cannot be computed. No chunk of the step counts as computed then.
    fn forward(&mut self, step: &[SeqChunk<'_>], logits: &mut Vec<f32>) -> Result<(), StepError>;

    /// Calls `work(0)` … `work(units - 1)`, in any order, on the threads that the model computes with.
    fn share_out(&mut self, units: usize, work: &(dyn Fn(usize) + Sync)) {
        (0..units).for_each(work);
    }

    /// Whether the model can hold one sequence at a time only (the candle-transformers fallback). Such a model gets one
    /// chunk a step, its prompt in one piece, and its sequence is never preempted; `start == 0` begins a new sequence.
    fn sequential(&self) -> bool {
        false
    }
}
