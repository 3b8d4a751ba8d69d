//! From a row of logits to one token, the same token on every machine and in every batch.
//!
//! Order of the steps, part of numerics v1:
//! 1. A row with NaN or an infinity is refused.
//! 2. Log-probabilities, if asked for: log-softmax of the unmodified row in vocabulary order.
//! 3. Penalties. `repetition_penalty` looks at the tokens of prompt and answer (as transformers and vLLM do): a positive
//!    logit is divided by it, another multiplied. `frequency_penalty` times the number of occurrences and
//!    `presence_penalty` are then subtracted, for tokens of the answer only (as OpenAI and vLLM do).
//! 4. Temperature below [`GREEDY_BELOW`]: arg-max, ties to the lowest id. The rest does not apply.
//! 5. Weights `exp((logit - max) / temperature)`.
//! 6. `top_k`, then `top_p` (the smallest head that has the mass, of what top_k left), then `min_p` (relative to the
//!    likeliest token). Equal logits are ordered by id.
//! 7. A walk over the weights left, likeliest first with any filter on, else in vocabulary order, until their sum
//!    exceeds the draw times their total.

use super::candidates::{self, Candidate};
use super::randomness::Randomness;
use crate::kernels::{math, vocab};
use rbee_queue::Params;
use std::collections::HashMap;

/// Temperatures below this are 0: the weights of all but the best would vanish.
pub const GREEDY_BELOW: f32 = 1e-5;
/// Tokens whose weights are summed together in the walk over the whole vocabulary, from coarse to fine.
const WALK_BLOCKS: [usize; 3] = [1024, 32, 1];
/// Heads of the sorted vocabulary that are tried in turn for `top_p`; the whole vocabulary is the last.
const NUCLEUS_HEADS: [usize; 3] = [128, 2048, 16384];

/// A row of logits that no token can be taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the model computed a logit that is not a number or infinite for this job: its answer would be arbitrary"
)]
pub struct NotFinite;

/// A token with what was asked about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampled {
    /// The token.
    pub token: u32,
    /// Its log-probability and the likeliest alternatives, if asked for.
    pub logprobs: Option<Logprobs>,
}

/// Log-probabilities at one place, under the unmodified logits.
#[derive(Debug, Clone, PartialEq)]
pub struct Logprobs {
    /// Of the token taken.
    pub taken: f32,
    /// The likeliest tokens, best first, ties to the lowest id.
    pub top: Vec<(u32, f32)>,
}

/// Buffers that all sequences use in turn.
#[derive(Debug, Default)]
pub struct Scratch {
    candidates: Vec<Candidate>,
    weights: Vec<f64>,
    sums: Vec<f64>,
    unpenalised: Vec<(u32, f32)>,
}

/// How often a token occurred.
#[derive(Debug, Default, Clone, Copy)]
struct Occurrences {
    /// In the answer.
    answer: u32,
}

/// The sampler of one sequence.
#[derive(Debug)]
pub struct Sampler {
    temperature: f32,
    top_p: f32,
    top_k: usize,
    min_p: f32,
    repetition_penalty: f32,
    frequency_penalty: f32,
    presence_penalty: f32,
    /// Alternatives wanted; `None` if no log-probabilities are.
    top_logprobs: Option<usize>,
    randomness: Randomness,
    /// Every token that occurred in prompt or answer; empty while no penalty is on.
    seen: HashMap<u32, Occurrences>,
}

impl Sampler {
    /// A sampler for an answer to `prompt`.
    pub fn new(params: &Params, prompt: &[u32], randomness: Randomness) -> Sampler {
        let mut sampler = Sampler {
            temperature: params.temperature,
            top_p: params.top_p,
            top_k: params.top_k as usize,
            min_p: params.min_p,
            repetition_penalty: params.repetition_penalty,
            frequency_penalty: params.frequency_penalty,
            presence_penalty: params.presence_penalty,
            top_logprobs: params.logprobs.then_some(usize::from(params.top_logprobs)),
            randomness,
            seen: HashMap::new(),
        };
        if sampler.repetition_penalty != 1.0 {
            sampler.seen = prompt
                .iter()
                .map(|token| (*token, Occurrences::default()))
                .collect();
        }
        sampler
    }

    /// Takes the answer's token at the 0-based `position`. The row is used up.
    ///
    /// # Errors
    /// When the row has a value that is not finite.
    pub fn sample(
        &mut self,
        row: &mut [f32],
        position: u32,
        scratch: &mut Scratch,
    ) -> Result<Sampled, NotFinite> {
        if row.is_empty() || !vocab::all_finite(row) {
            return Err(NotFinite);
        }
        let measure = self
            .top_logprobs
            .map(|wanted| Measure::new(row, wanted, scratch));
        self.penalise(row, scratch);
        let token = if self.temperature < GREEDY_BELOW {
            vocab::arg_max(row) as u32
        } else {
            self.draw(row, position, scratch)
        };
        let logprobs = measure.map(|measure| {
            let untouched = scratch.unpenalised.iter().find(|(id, _)| *id == token);
            let logit = untouched.map_or(row[token as usize], |(_, logit)| *logit);
            Logprobs {
                taken: measure.logprob(logit),
                top: measure.top,
            }
        });
        self.note(token);
        Ok(Sampled { token, logprobs })
    }

    fn penalises(&self) -> bool {
        self.repetition_penalty != 1.0
            || self.frequency_penalty != 0.0
            || self.presence_penalty != 0.0
    }

    fn note(&mut self, token: u32) {
        if self.penalises() {
            self.seen.entry(token).or_default().answer += 1;
        }
    }

    /// Every token is changed by itself, so the order of the map does not matter.
    fn penalise(&self, row: &mut [f32], scratch: &mut Scratch) {
        scratch.unpenalised.clear();
        for (&token, occurrences) in &self.seen {
            let Some(logit) = row.get_mut(token as usize) else {
                continue;
            };
            scratch.unpenalised.push((token, *logit));
            let mut value = if *logit > 0.0 {
                *logit / self.repetition_penalty
            } else {
                *logit * self.repetition_penalty
            };
            if occurrences.answer > 0 {
                value -= self.frequency_penalty * occurrences.answer as f32;
                value -= self.presence_penalty;
            }
            // A penalty may overflow; the row stays finite.
            *logit = value.clamp(f32::MIN, f32::MAX);
        }
    }

    fn draw(&self, row: &[f32], position: u32, scratch: &mut Scratch) -> u32 {
        let draw = self.randomness.draw(position);
        let weigher = Weigher {
            max: vocab::max(row),
            scale: 1.0 / self.temperature,
        };
        let top_k = self.top_k > 0 && self.top_k < row.len();
        if !top_k && self.top_p >= 1.0 && self.min_p <= 0.0 {
            return weigher.walk_vocabulary(row, draw, &mut scratch.sums);
        }
        let kept = if top_k {
            candidates::largest(row, self.top_k, &mut scratch.candidates);
            weigher.weigh(scratch);
            let total: f64 = scratch.weights.iter().sum();
            self.cut(&scratch.weights, total).len
        } else if self.top_p < 1.0 {
            self.nucleus(row, &weigher, scratch)
        } else {
            let cutoff = weigher.max + math::ln(self.min_p) / weigher.scale;
            candidates::at_least(row, cutoff, &mut scratch.candidates);
            weigher.weigh(scratch);
            scratch.weights.len()
        };
        let place = walk(&scratch.weights[..kept], draw);
        scratch.candidates[place].id
    }

    /// Fills the scratch with as much of the sorted vocabulary as `top_p` and `min_p` can want; returns how much they
    /// keep.
    fn nucleus(&self, row: &[f32], weigher: &Weigher, scratch: &mut Scratch) -> usize {
        let total = weigher.sum_vocabulary(row, &mut scratch.sums);
        for head in NUCLEUS_HEADS {
            if head >= row.len() {
                break;
            }
            candidates::largest(row, head, &mut scratch.candidates);
            weigher.weigh(scratch);
            let cut = self.cut(&scratch.weights, total);
            if cut.certain {
                return cut.len;
            }
        }
        candidates::largest(row, row.len(), &mut scratch.candidates);
        weigher.weigh(scratch);
        self.cut(&scratch.weights, total).len
    }

    /// How much of a head of the sorted weights `top_p` of `total` and `min_p` keep: at least one.
    fn cut(&self, weights: &[f64], total: f64) -> Cut {
        let wanted = f64::from(self.top_p) * total;
        let least = f64::from(self.min_p) * weights[0];
        let mut sum = 0.0;
        for (place, &weight) in weights.iter().enumerate() {
            if place > 0 && weight < least {
                return Cut {
                    len: place,
                    certain: true,
                };
            }
            sum += weight;
            if self.top_p < 1.0 && sum >= wanted {
                return Cut {
                    len: place + 1,
                    certain: true,
                };
            }
        }
        Cut {
            len: weights.len(),
            certain: false,
        }
    }
}

/// Where `top_p` and `min_p` end.
struct Cut {
    len: usize,
    /// A longer head would end at the same place.
    certain: bool,
}

/// Unnormalised probabilities of a row.
struct Weigher {
    max: f32,
    /// One over the temperature.
    scale: f32,
}

impl Weigher {
    fn weight(&self, logit: f32) -> f64 {
        // The same value as `math::exp`, from the vector unit.
        f64::from(vocab::sum_exp(&[logit], self.max, self.scale))
    }

    fn weigh(&self, scratch: &mut Scratch) {
        scratch.weights.clear();
        let weights = scratch.candidates.iter().map(|c| self.weight(c.logit));
        scratch.weights.extend(weights);
    }

    /// Sums of the weights by the coarsest of [`WALK_BLOCKS`], and their total.
    fn sum_vocabulary(&self, row: &[f32], sums: &mut Vec<f64>) -> f64 {
        sums.clear();
        let blocks = row.chunks(WALK_BLOCKS[0]);
        sums.extend(blocks.map(|block| f64::from(vocab::sum_exp(block, self.max, self.scale))));
        sums.iter().sum()
    }

    /// Walks the vocabulary block by block, then the block by smaller ones, then these token by token.
    fn walk_vocabulary(&self, row: &[f32], draw: f64, sums: &mut Vec<f64>) -> u32 {
        let target = draw * self.sum_vocabulary(row, sums);
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
    reached.expect("a block was chosen for its weight, so one of its parts has some")
}

/// The first place at which the running sum exceeds the draw times the total; the last one if rounding forbids it.
fn walk(weights: &[f64], draw: f64) -> usize {
    let target = draw * weights.iter().sum::<f64>();
    let mut sum = 0.0;
    for (place, weight) in weights.iter().enumerate() {
        sum += weight;
        if sum > target {
            return place;
        }
    }
    weights.len() - 1
}

/// The log-softmax of a row: what is left of it when the row is modified.
struct Measure {
    max: f32,
    ln_sum: f32,
    top: Vec<(u32, f32)>,
}

impl Measure {
    fn new(row: &[f32], wanted: usize, scratch: &mut Scratch) -> Measure {
        let max = vocab::max(row);
        let mut measure = Measure {
            max,
            ln_sum: math::ln(vocab::sum_exp(row, max, 1.0)),
            top: Vec::with_capacity(wanted),
        };
        candidates::largest(row, wanted, &mut scratch.candidates);
        for candidate in &scratch.candidates {
            measure
                .top
                .push((candidate.id, measure.logprob(candidate.logit)));
        }
        measure
    }

    fn logprob(&self, logit: f32) -> f32 {
        (logit - self.max) - self.ln_sum
    }
}

#[cfg(test)]
#[path = "sampler_tests.rs"]
mod tests;
