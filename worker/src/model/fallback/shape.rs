//! The sizes of a model that candle runs: what they may be, and what memory they need.

use crate::engine::step::BLOCK_TOKENS;
use crate::model::memory::{self, LEAST_POSITIONS, MemoryPlan, PROCESS_BYTES};

/// What of a model's configuration decides its memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    pub layers: usize,
    pub hidden: usize,
    pub ffn: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    /// Experts of a layer; 0 in a dense model.
    pub experts: usize,
    pub vocab: usize,
    /// Most positions for which candle computes this model as it was made.
    pub context: usize,
}

/// Limits on what a file may claim, far above every real model: candle reserves memory by these numbers before it has
/// seen a tensor.
mod limit {
    pub const LAYERS: usize = 1024;
    pub const WIDTH: usize = 1 << 20;
    pub const VOCAB: usize = 1 << 24;
    pub const CONTEXT: usize = 1 << 24;
    pub const HEADS: usize = 4096;
    pub const HEAD_DIM: usize = 1024;
    pub const EXPERTS: usize = 1024;
}

/// Copies of the attention scores that candle holds at once: plain, scaled or masked, softmax.
const SCORE_COPIES: u64 = 3;
/// Bytes of attention masks for each pair of positions.
const MASK_BYTES: u64 = 12;
/// Rows of the hidden and of the feed-forward size that a layer holds at once.
const ROW_COPIES: u64 = 6;
/// What candle computes in, and keeps keys and values in.
const F32_BYTES: u64 = 4;

impl Shape {
    /// Checks that the numbers make a model.
    ///
    /// # Errors
    /// A clause that names what does not fit.
    pub fn validate(&self) -> Result<(), String> {
        let within = |name: &str, value: usize, least: usize, most: usize| {
            if (least..=most).contains(&value) {
                Ok(())
            } else {
                Err(format!("its {name} is {value}, not {least} to {most}"))
            }
        };
        within("number of layers", self.layers, 1, limit::LAYERS)?;
        within("hidden size", self.hidden, 1, limit::WIDTH)?;
        within("feed-forward size", self.ffn, 1, limit::WIDTH)?;
        within("number of heads", self.heads, 1, limit::HEADS)?;
        within("number of key-value heads", self.kv_heads, 1, limit::HEADS)?;
        within("head size", self.head_dim, 2, limit::HEAD_DIM)?;
        within("number of experts", self.experts, 0, limit::EXPERTS)?;
        within("vocabulary", self.vocab, 2, limit::VOCAB)?;
        // The least is what `SequentialModel::try_out` computes.
        within("context length", self.context, 3, limit::CONTEXT)?;
        if !self.heads.is_multiple_of(self.kv_heads) {
            return Err(format!(
                "its {} heads do not share {} key-value heads evenly",
                self.heads, self.kv_heads
            ));
        }
        Ok(())
    }

    /// Bytes of keys and values of so many positions.
    fn kv_bytes(&self, positions: usize) -> u64 {
        let row = 2 * self.layers * self.kv_heads * self.head_dim;
        row as u64 * F32_BYTES * positions as u64
    }

    /// Bytes besides weights and cache: candle computes a prompt in one piece, with all its attention scores at once.
    fn scratch_bytes(&self, positions: usize) -> u64 {
        let positions = positions as u64;
        let scores =
            positions * positions * (self.heads as u64 * F32_BYTES * SCORE_COPIES + MASK_BYTES);
        let widths = self.hidden + self.ffn + self.heads * self.head_dim + 2 * self.head_dim;
        let rows = positions * widths as u64 * F32_BYTES * ROW_COPIES;
        let logits = 2 * self.vocab as u64 * F32_BYTES;
        scores + rows + logits + PROCESS_BYTES
    }

    /// Plans memory: the longest context, up to the model's own and the one wished for, that fits beside the weights.
    /// Returns the plan and that context.
    ///
    /// # Errors
    /// A clause that says how much is missing and what helps.
    pub fn plan(
        &self,
        weights: u64,
        wanted: Option<usize>,
        budget: u64,
    ) -> Result<(MemoryPlan, usize), String> {
        let most = wanted.unwrap_or(self.context).clamp(3, self.context);
        let plan = |positions: usize| MemoryPlan {
            weights,
            kv: self.kv_bytes(positions),
            scratch: self.scratch_bytes(positions),
            budget,
            kv_blocks: positions.div_ceil(BLOCK_TOKENS),
        };
        let least = plan(LEAST_POSITIONS.min(most));
        if least.total() > budget {
            return Err(format!(
                "it needs at least {} ({least}); use a smaller model or quantisation, or raise --memory",
                memory::mebibytes(least.total())
            ));
        }
        let (mut fits, mut too_many) = (LEAST_POSITIONS.min(most), most + 1);
        while fits + 1 < too_many {
            let middle = fits + (too_many - fits) / 2;
            if plan(middle).total() <= budget {
                fits = middle;
            } else {
                too_many = middle;
            }
        }
        Ok((plan(fits), fits))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape {
        layers: 24,
        hidden: 2048,
        ffn: 8192,
        heads: 32,
        kv_heads: 8,
        head_dim: 64,
        experts: 0,
        vocab: 50_000,
        context: 32_768,
    };

    #[test]
    fn context_is_the_longest_that_fits_the_budget() {
        let budget = 4 << 30;
        let (plan, context) = SHAPE.plan(1 << 30, None, budget).unwrap();
        assert!(plan.total() <= budget && context < SHAPE.context);
        let more = SHAPE.kv_bytes(context + 1) + SHAPE.scratch_bytes(context + 1);
        assert!((1 << 30) + more > budget);
        assert_eq!(plan.kv_blocks, context.div_ceil(BLOCK_TOKENS));
    }

    #[test]
    fn wished_for_context_is_an_upper_bound() {
        let (_, context) = SHAPE.plan(1 << 20, Some(700), 64 << 30).unwrap();
        assert_eq!(context, 700);
    }

    #[test]
    fn model_larger_than_the_budget_is_refused_with_its_need() {
        let error = SHAPE.plan(9 << 30, None, 8 << 30).unwrap_err();
        assert!(error.contains("weights 9216 MiB"), "{error}");
    }

    #[test]
    fn absurd_sizes_are_refused() {
        assert!(SHAPE.validate().is_ok());
        let broken = [
            Shape {
                layers: 1 << 31,
                ..SHAPE
            },
            Shape { heads: 0, ..SHAPE },
            Shape {
                kv_heads: 5,
                ..SHAPE
            },
            Shape {
                experts: 1 << 30,
                ..SHAPE
            },
            Shape {
                context: 0,
                ..SHAPE
            },
        ];
        for shape in broken {
            assert!(shape.validate().is_err(), "{shape:?}");
        }
    }
}
