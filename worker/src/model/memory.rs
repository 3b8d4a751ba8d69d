//! How much memory a model takes: computed before it is loaded, shown, and kept.

use std::fmt;

use crate::engine::step::{BLOCK_TOKENS, MAX_CHUNK_TOKENS};
use crate::kernels::LANES;
use crate::kernels::activations::ActivationBlock;

use super::config::ModelConfig;
use super::control_group;

/// How keys and values are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KvType {
    #[default]
    F16,
    F32,
}

impl KvType {
    fn bytes(self) -> u64 {
        match self {
            KvType::F16 => 2,
            KvType::F32 => 4,
        }
    }
}

impl fmt::Display for KvType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            KvType::F16 => "f16",
            KvType::F32 => "f32",
        })
    }
}

impl std::str::FromStr for KvType {
    type Err = String;

    fn from_str(name: &str) -> Result<KvType, String> {
        match name {
            "f16" => Ok(KvType::F16),
            "f32" => Ok(KvType::F32),
            _ => Err(format!("unknown KV type `{name}`: use f16 or f32")),
        }
    }
}

/// Share of the free memory that is used when no budget is given.
const DEFAULT_SHARE: f64 = 0.8;
/// Without a budget, KV for this many positions a slot, or for one whole context if that is more.
const POSITIONS_OF_SLOT: usize = 384;
/// Without a budget, KV takes at most this share of what the weights leave, unless one context needs more.
const KV_SHARE: f64 = 0.5;
/// Least context worth running with.
pub(super) const LEAST_POSITIONS: usize = 256;
/// Program, stacks, tokenizer and allocator: what a process has besides.
pub(super) const PROCESS_BYTES: u64 = 24 << 20;

/// What a loaded model takes, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryPlan {
    pub weights: u64,
    /// All KV blocks; touched as they are first used.
    pub kv: u64,
    /// Activations, logits, and the process itself.
    pub scratch: u64,
    /// What may be used.
    pub budget: u64,
    pub kv_blocks: usize,
}

impl MemoryPlan {
    /// Bytes in all.
    pub fn total(&self) -> u64 {
        self.weights + self.kv + self.scratch
    }
}

/// Bytes for people.
pub(super) fn mebibytes(bytes: u64) -> String {
    let mib = bytes as f64 / f64::from(1 << 20);
    if mib < 10_000.0 {
        format!("{mib:.0} MiB")
    } else {
        format!("{:.1} GiB", mib / 1024.0)
    }
}

impl fmt::Display for MemoryPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "weights {} + KV up to {} + scratch {} = {} of {}",
            mebibytes(self.weights),
            mebibytes(self.kv),
            mebibytes(self.scratch),
            mebibytes(self.total()),
            mebibytes(self.budget)
        )
    }
}

/// What the plan is made for.
#[derive(Debug, Clone, Copy)]
pub struct Demand {
    pub weights: u64,
    pub slots: usize,
    pub kv: KvType,
    /// What may be used, in bytes.
    pub budget: u64,
    /// Whether the user set that.
    pub wished: bool,
    /// KV takes its usual size even if a budget that the user set has room for more.
    pub beside_others: bool,
}

/// Plans memory for a model.
///
/// # Errors
/// A clause that says how much is missing and what helps.
pub fn plan(config: &ModelConfig, demand: Demand) -> Result<MemoryPlan, String> {
    let budget = demand.budget;
    let scratch = scratch_bytes(config, demand.slots) + PROCESS_BYTES;
    let block = block_bytes(config, demand.kv);
    let left = budget.saturating_sub(demand.weights + scratch);
    let least = blocks_of(LEAST_POSITIONS.min(config.context)) as u64;
    if left < least * block {
        let needed = demand.weights + scratch + least * block;
        return Err(format!(
            "it needs at least {} (weights {}, scratch {}, KV {}), and {} may be used; use a smaller model or \
             quantisation, fewer --slots, or raise --memory",
            mebibytes(needed),
            mebibytes(demand.weights),
            mebibytes(scratch),
            mebibytes(least * block),
            mebibytes(budget)
        ));
    }
    let most = blocks_of(config.context) * demand.slots;
    let wanted = if demand.wished && !demand.beside_others {
        most
    } else {
        let share = (left as f64 * KV_SHARE) as u64 / block;
        let usual = blocks_of(POSITIONS_OF_SLOT) * demand.slots;
        usual
            .max(blocks_of(config.context))
            .min(share.max(least) as usize)
            .min(most)
    };
    let kv_blocks = wanted.min((left / block) as usize).min(u32::MAX as usize);
    Ok(MemoryPlan {
        weights: demand.weights,
        kv: kv_blocks as u64 * block,
        scratch,
        budget,
        kv_blocks,
    })
}

fn blocks_of(positions: usize) -> usize {
    positions.div_ceil(BLOCK_TOKENS)
}

/// Bytes of one KV block, over all layers.
fn block_bytes(config: &ModelConfig, kv: KvType) -> u64 {
    let head = config.head_dim.next_multiple_of(LANES) * BLOCK_TOKENS;
    (2 * config.layers.len() * config.kv_heads * head) as u64 * kv.bytes()
}

/// Rows of the largest step.
pub fn most_rows(slots: usize) -> usize {
    MAX_CHUNK_TOKENS + slots
}

fn scratch_bytes(config: &ModelConfig, slots: usize) -> u64 {
    let widest = config.hidden.max(config.query_width()).max(config.ffn);
    let floats = 2 * config.hidden
        + 2 * config.query_width()
        + 2 * config.kv_width()
        + 2 * config.ffn
        + widest;
    let row = floats * 4 + widest.div_ceil(32) * size_of::<ActivationBlock>();
    // The sampler looks at a row of logits while the engine holds them all.
    let logits = (slots + 1) * config.vocab * 4;
    (most_rows(slots) * row + logits) as u64
}

/// [`DEFAULT_SHARE`] of the memory that is free now, within the limits of the control group.
pub fn default_budget() -> u64 {
    (available() as f64 * DEFAULT_SHARE) as u64
}

/// Used where the system does not tell how much memory is free.
const UNKNOWN_AVAILABLE: u64 = 4 << 30;

fn available() -> u64 {
    let system = std::fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| {
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix("MemAvailable:"))?;
            let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
            Some(kib * 1024)
        });
    let system = system.unwrap_or(UNKNOWN_AVAILABLE);
    control_group::left().map_or(system, |left| left.min(system))
}
