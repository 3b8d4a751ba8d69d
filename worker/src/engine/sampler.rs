//! From a row of logits to one token, the same token on every machine and in every batch.
//!
//! Order of the steps, part of numerics v1:
//! 1. A row with NaN or an infinity is refused.
//! 2. Log-probabilities, if asked for: log-softmax of the unmodified row in vocabulary order.
//! 3. Penalties. `repetition_penalty` looks at the tokens of prompt and answer (as transformers and vLLM do): a positive
//!    logit is divided by it, another multiplied. `frequency_penalty` times the number of occurrences and
//!    `presence_penalty` are then subtracted, for tokens of the answer only (as OpenAI and vLLM do).
//! 4. An answer that has a form: all tokens but those that may come next are left out. Steps 5 to 8 see the others only;
//!    log-probabilities are those of step 2, so the likeliest tokens may be ones that were not allowed.
//! 5. Temperature below [`GREEDY_BELOW`]: arg-max, ties to the lowest id. The rest does not apply.
//! 6. Weights `exp((logit - max) / temperature)`.
//! 7. `top_k`, then `top_p` (the smallest head that has the mass, of what top_k left), then `min_p` (relative to the
//!    likeliest token). Equal logits are ordered by id.
//! 8. A walk in vocabulary order over the weights left, until their sum exceeds the draw times their total.

use super::candidates::{self, Candidate};
use super::grammar::Mask;
use super::randomness::Randomness;
use super::weights::{self, Kept, Weigher};
use crate::kernels::{math, vocab};
use rbee_queue::Params;
use std::collections::HashMap;

/// Temperatures below this are 0: the weights of all but the best would vanish.
pub const GREEDY_BELOW: f32 = 1e-5;
/// A head of the sorted vocabulary that mostly has the mass of `top_p`.
const LIKELY_HEAD: usize = 128;

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
    weights: Vec<f32>,
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
        self.sample_among(row, position, None, scratch)
    }

    /// As [`sample`](Self::sample), among the tokens of a mask, which has one at least.
    ///
    /// # Errors
    /// When the row has a value that is not finite.
    pub fn sample_among(
        &mut self,
        row: &mut [f32],
        position: u32,
        mask: Option<&Mask>,
        scratch: &mut Scratch,
    ) -> Result<Sampled, NotFinite> {
        if row.is_empty() {
            return Err(NotFinite);
        }
        let likeliest = vocab::finite_arg_max(row).ok_or(NotFinite)?;
        let measure = self
            .top_logprobs
            .map(|wanted| Measure::new(row, wanted, scratch));
        self.penalise(row, scratch);
        if let Some(mask) = mask {
            mask.apply(row);
        }
        let untouched = self.seen.is_empty() && mask.is_none();
        let token = if self.temperature < GREEDY_BELOW && untouched {
            likeliest as u32
        } else if self.temperature < GREEDY_BELOW {
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
        if self.top_k > 0 && self.top_k < row.len() {
            candidates::largest(row, self.top_k, &mut scratch.candidates);
            let weights = scratch.candidates.iter().map(|c| weigher.weight(c.logit));
            let cut = self.cut(&scratch.candidates, weigher, weights.sum());
            return weigher.draw_from_few(&mut scratch.candidates[..cut.len], draw);
        }
        if self.top_p >= 1.0 && self.min_p <= 0.0 {
            return weigher.draw_from_all(row, draw, &mut scratch.sums);
        }
        let mut wanted = None;
        if self.top_p < 1.0 {
            let total = weigher.sum_blocks(row, &mut scratch.sums);
            candidates::largest(row, LIKELY_HEAD, &mut scratch.candidates);
            let cut = self.cut(&scratch.candidates, weigher, total);
            if cut.certain {
                return weigher.draw_from_few(&mut scratch.candidates[..cut.len], draw);
            }
            wanted = Some(f64::from(self.top_p) * total);
        }
        weigher.weigh(row, &mut scratch.weights);
        let kept = Kept {
            last: wanted.and_then(|wanted| {
                weights::last_of_head(row, &scratch.weights, wanted, &mut scratch.candidates)
            }),
            least: self.min_p,
        };
        weights::draw_from_kept(row, &scratch.weights, kept, draw)
    }

    /// How much of a sorted head `top_p` of `total` and `min_p` keep: at least one.
    fn cut(&self, head: &[Candidate], weigher: Weigher, total: f64) -> Cut {
        let wanted = f64::from(self.top_p) * total;
        let mut sum = 0.0;
        for (place, candidate) in head.iter().enumerate() {
            let weight = weigher.weight(candidate.logit);
            if place > 0 && weight < f64::from(self.min_p) {
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
            len: head.len(),
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
