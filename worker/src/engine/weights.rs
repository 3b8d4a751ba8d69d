//! Unnormalised probabilities of a row, and the walk that draws a token from them.
//!
//! A weight is `exp((logit - max) / temperature)`, so the likeliest token weighs 1. Sums of weights are f64, added in
//! vocabulary order.

use super::candidates::{self, Candidate};
use crate::kernels::{Kernel, LANES, Op, Simd, math, vocab};

/// Tokens whose weights are summed together in the walk over the whole vocabulary, from coarse to fine.
const WALK_BLOCKS: [usize; 3] = [1024, 32, 1];
/// A weight's exponent, as f32 has it, is below this: no weight is over 1.
const EXPONENTS: usize = 128;

/// Weighs the tokens of one row.
#[derive(Debug, Clone, Copy)]
pub struct Weigher {
    /// The greatest logit.
    pub max: f32,
    /// One over the temperature.
    pub scale: f32,
}

/// What is kept of a row.
#[derive(Debug, Clone, Copy)]
pub struct Kept {
    /// The least likely token that is kept; `None` keeps all.
    pub last: Option<Candidate>,
    /// The least weight that is kept.
    pub least: f32,
}

impl Kept {
    fn weight(&self, id: usize, logit: f32, weight: f32) -> f64 {
        let before = |last: &Candidate| {
            logit > last.logit || (logit == last.logit && id <= last.id as usize)
        };
        if weight >= self.least && self.last.as_ref().is_none_or(before) {
            f64::from(weight)
        } else {
            0.0
        }
    }
}

impl Weigher {
    /// The weight of a logit.
    pub fn weight(&self, logit: f32) -> f64 {
        // The same value as `math::exp`, from the vector unit.
        f64::from(vocab::sum_exp(&[logit], self.max, self.scale))
    }

    /// Replaces `weights` by those of the whole row.
    pub fn weigh(&self, row: &[f32], weights: &mut Vec<f32>) {
        weights.clear();
        weights.resize(row.len().next_multiple_of(LANES), 0.0);
        Kernel::detect().run(Weigh {
            row,
            weigher: *self,
            weights,
        });
        weights.truncate(row.len());
    }

    /// Replaces `sums` by the weights of blocks of the coarsest of [`WALK_BLOCKS`] tokens; returns their total.
    pub fn sum_blocks(&self, row: &[f32], sums: &mut Vec<f64>) -> f64 {
        sums.clear();
        let blocks = row.chunks(WALK_BLOCKS[0]);
        sums.extend(blocks.map(|block| f64::from(vocab::sum_exp(block, self.max, self.scale))));
        sums.iter().sum()
    }

    /// Draws from the whole row: block by block, then the block by smaller ones, then these token by token.
    pub fn draw_from_all(&self, row: &[f32], draw: f64, sums: &mut Vec<f64>) -> u32 {
        let target = draw * self.sum_blocks(row, sums);
        let blocks = (0..row.len())
            .step_by(WALK_BLOCKS[0])
            .zip(sums.iter().copied());
        let (mut first, mut before) = reach(blocks, 0.0, target);
        for (size, part) in WALK_BLOCKS.into_iter().zip(WALK_BLOCKS.into_iter().skip(1)) {
            let end = row.len().min(first + size);
            let parts = (first..end).step_by(part).map(|start| {
                let values = &row[start..end.min(start + part)];
                (
                    start,
                    f64::from(vocab::sum_exp(values, self.max, self.scale)),
                )
            });
            (first, before) = reach(parts, before, target);
        }
        first as u32
    }

    /// Draws from some tokens, in the order of their ids.
    pub fn draw_from_few(&self, tokens: &mut [Candidate], draw: f64) -> u32 {
        tokens.sort_unstable_by_key(|candidate| candidate.id);
        let weights = tokens.iter().map(|candidate| self.weight(candidate.logit));
        let target = draw * weights.clone().sum::<f64>();
        let (place, _) = reach(weights.enumerate(), 0.0, target);
        tokens[place].id
    }
}

/// Draws from what is kept of a row, in vocabulary order. `weights` are the row's.
pub fn draw_from_kept(row: &[f32], weights: &[f32], kept: Kept, draw: f64) -> u32 {
    let each = || (0..row.len()).map(|id| kept.weight(id, row[id], weights[id]));
    let target = draw * each().sum::<f64>();
    let (id, _) = reach(each().enumerate(), 0.0, target);
    id as u32
}

/// The last token of the smallest head of the row, likeliest first, that weighs at least `wanted`. Only the tokens
/// whose weights have one exponent are sorted; all that weigh more lie before them.
pub fn last_of_head(
    row: &[f32],
    weights: &[f32],
    wanted: f64,
    sorted: &mut Vec<Candidate>,
) -> Option<Candidate> {
    let exponent = |weight: f32| (weight.to_bits() >> 23) as usize;
    let mut sums = [0.0f64; EXPONENTS];
    for weight in weights {
        sums[exponent(*weight)] += f64::from(*weight);
    }
    let mut sum = 0.0;
    for bucket in (0..EXPONENTS).rev() {
        if sum + sums[bucket] < wanted {
            sum += sums[bucket];
            continue;
        }
        sorted.clear();
        let inside = (0..row.len()).filter(|id| exponent(weights[*id]) == bucket);
        sorted.extend(inside.map(|id| candidates::candidate(id, row[id])));
        sorted.sort_unstable_by(candidates::order);
        for candidate in sorted.iter() {
            sum += f64::from(weights[candidate.id as usize]);
            if sum >= wanted {
                return Some(*candidate);
            }
        }
    }
    // Rounding kept the sum below: everything belongs to the head.
    None
}

/// The first of consecutive blocks (start, weight) at whose end the running sum exceeds the target, and the sum before
/// it. If rounding forbids it, the last one that has any weight.
fn reach(blocks: impl Iterator<Item = (usize, f64)>, before: f64, target: f64) -> (usize, f64) {
    let mut sum = before;
    let mut reached = None;
    for (start, weight) in blocks {
        if weight > 0.0 {
            reached = Some((start, sum));
            sum += weight;
            if sum > target {
                break;
            }
        }
    }
    reached.expect(
        "the likeliest token weighs 1 and is always kept, and a block is entered for its weight",
    )
}

struct Weigh<'a> {
    row: &'a [f32],
    weigher: Weigher,
    /// As long as the row, rounded up to whole vectors.
    weights: &'a mut [f32],
}

impl Op for Weigh<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (max, scale) = (s.splat(self.weigher.max), s.splat(self.weigher.scale));
        for (row, weights) in self
            .row
            .chunks(LANES)
            .zip(self.weights.chunks_exact_mut(LANES))
        {
            let values = if row.len() == LANES {
                s.load(row)
            } else {
                s.load_partial(row, self.weigher.max)
            };
            s.store(
                math::exp_lanes(s, s.mul(s.sub(values, max), scale)),
                weights,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn weigher(row: &[f32], scale: f32) -> Weigher {
        Weigher {
            max: vocab::max(row),
            scale,
        }
    }

    proptest! {
        #[test]
        fn weights_of_a_row_are_those_of_its_values(row in prop::collection::vec(-90.0f32..9.0, 1..200), scale in 0.1f32..20.0) {
            let weigher = weigher(&row, scale);
            let mut weights = Vec::new();
            weigher.weigh(&row, &mut weights);
            prop_assert_eq!(weights.len(), row.len());
            for (weight, logit) in weights.iter().zip(&row) {
                prop_assert_eq!(f64::from(*weight), weigher.weight(*logit));
                prop_assert_eq!(*weight, math::exp((logit - weigher.max) * weigher.scale));
            }
        }

        #[test]
        fn head_ends_where_a_full_sort_says(
            row in prop::collection::vec((-40i32..40).prop_map(|x| x as f32 * 0.25), 1..800),
            share in 0.01f64..0.99,
        ) {
            let weigher = weigher(&row, 1.0);
            let (mut weights, mut sorted) = (Vec::new(), Vec::new());
            weigher.weigh(&row, &mut weights);
            let wanted = share * weights.iter().map(|w| f64::from(*w)).sum::<f64>();
            let last = last_of_head(&row, &weights, wanted, &mut sorted).unwrap();
            let mut all = Vec::new();
            candidates::largest(&row, row.len(), &mut all);
            let place = all.iter().position(|c| *c == last).unwrap();
            let sum = |len: usize| all[..len].iter().map(|c| weigher.weight(c.logit)).sum::<f64>();
            prop_assert!(sum(place) < wanted + 1e-9 && sum(place + 1) > wanted - 1e-9);
        }
    }
}
