//! The engine's settings and its figures.

/// Sequences that decode at once when nothing else is set.
pub const DEFAULT_SLOTS: usize = 32;
/// Most sequences that decode at once.
pub const MAX_SLOTS: usize = 1024;

/// Settings of an [`super::Engine`]. None of them changes a byte of any result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineOptions {
    /// Sequences that run at once, `1..=MAX_SLOTS`; values outside are brought inside.
    pub slots: usize,
    /// Prompt tokens a step beside the decoding ones; 0 sizes them by measured speed so that a step takes at most
    /// 250 ms.
    pub chunk_tokens: usize,
    /// Sequences whose prompts begin alike compute that beginning once.
    pub share_prefixes: bool,
}

impl Default for EngineOptions {
    fn default() -> Self {
        EngineOptions {
            slots: DEFAULT_SLOTS,
            chunk_tokens: 0,
            share_prefixes: true,
        }
    }
}

/// The engine's figures at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct EngineStats {
    /// Prompt tokens computed since start, recomputed ones after preemption not counted.
    pub prompt_tokens: u64,
    /// Tokens generated since start.
    pub completion_tokens: u64,
    /// Prompt tokens a second over the last seconds.
    pub prompt_tokens_per_s: f64,
    /// Generated tokens a second over the last seconds.
    pub completion_tokens_per_s: f64,
    /// Steps since start. It stands still when nothing runs or a step hangs.
    pub steps: u64,
    /// Duration of the last step.
    pub step_ms: f64,
    /// Sequences that may run at once.
    pub slots: usize,
    /// Sequences that run.
    pub slots_used: usize,
    /// Sequences that wait for a slot.
    pub sequences_waiting: usize,
    /// Unfinished jobs, those that are being tokenised included.
    pub jobs: usize,
    /// KV blocks there are.
    pub kv_blocks: usize,
    /// KV blocks in use.
    pub kv_blocks_used: usize,
    /// Preemptions since start.
    pub preemptions: u64,
    /// Prompt tokens since start that were not computed, since another sequence had computed the same ones.
    pub shared_tokens: u64,
}
