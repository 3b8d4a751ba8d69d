//! Randomness as a pure function of what is asked: no generator, no state, no order of drawing.
//!
//! The number drawn for a token depends on (the line's seed, choice, position) if the line has a seed, else on (batch
//! seed, job key, choice, position). So a job that is recomputed, moved or run beside others draws the same numbers.
//!
//! Definition, part of numerics v1: `key = sha256("rbee draw v1\n" ++ source ++ choice as u32 LE)`, where `source` is
//! `0x01 ++ seed LE` for a line's own seed and `0x00 ++ batch seed LE ++ job key` otherwise. With `k0` and `k1` the
//! key's first two little-endian words and `mix` the finaliser of SplitMix64 (Steele, Lea, Flood 2014), the draw is
//! `u = (mix(mix(k0 + (position + 1) * 0x9E3779B97F4A7C15) ^ k1) >> 11) * 2^-53`, which is in [0, 1).

use rbee_queue::JobKey;
use sha2::{Digest, Sha256};

const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
const UNIT: f64 = 1.0 / (1u64 << 53) as f64;

/// The draws of one choice of one job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Randomness {
    k0: u64,
    k1: u64,
}

impl Randomness {
    /// Draws of a choice of a line that has its own seed.
    pub fn of_line_seed(seed: u64, choice: u32) -> Randomness {
        let mut hash = Sha256::new();
        hash.update(b"rbee draw v1\n\x01");
        hash.update(seed.to_le_bytes());
        Randomness::finish(hash, choice)
    }

    /// Draws of a choice of a job without a seed of its own.
    pub fn of_job(batch_seed: u64, job_key: &JobKey, choice: u32) -> Randomness {
        let mut hash = Sha256::new();
        hash.update(b"rbee draw v1\n\x00");
        hash.update(batch_seed.to_le_bytes());
        hash.update(job_key.0);
        Randomness::finish(hash, choice)
    }

    fn finish(mut hash: Sha256, choice: u32) -> Randomness {
        hash.update(choice.to_le_bytes());
        let digest: [u8; 32] = hash.finalize().into();
        let word = |at: usize| {
            let bytes = digest[at..at + 8].try_into().expect("eight bytes of 32");
            u64::from_le_bytes(bytes)
        };
        Randomness {
            k0: word(0),
            k1: word(8),
        }
    }

    /// The number in [0, 1) for the generated token at the 0-based `position` of the answer.
    pub fn draw(&self, position: u32) -> f64 {
        let step = (u64::from(position) + 1).wrapping_mul(GOLDEN);
        let word = mix(mix(self.k0.wrapping_add(step)) ^ self.k1);
        (word >> 11) as f64 * UNIT
    }
}

/// The finaliser of SplitMix64: a bijection that spreads every bit over all.
pub fn mix(mut word: u64) -> u64 {
    word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_the_published_ones() {
        let line = Randomness::of_line_seed(7, 0);
        let job = Randomness::of_job(0, &JobKey([3; 32]), 2);
        let drawn: Vec<u64> = [
            line.draw(0),
            line.draw(1),
            job.draw(0),
            job.draw(4_000_000_000),
        ]
        .iter()
        .map(|u| (u * (1u64 << 53) as f64) as u64)
        .collect();
        assert_eq!(drawn, PUBLISHED);
    }

    /// Computed from the definition above by another program (Python's hashlib).
    const PUBLISHED: [u64; 4] = [
        2_005_714_318_420_257,
        6_604_786_233_095_513,
        4_942_894_105_130_649,
        5_099_158_918_244_409,
    ];

    #[test]
    fn line_seed_forgets_the_job_and_every_choice_has_its_own_draws() {
        assert_ne!(
            Randomness::of_line_seed(1, 0),
            Randomness::of_line_seed(1, 1)
        );
        assert_ne!(
            Randomness::of_line_seed(1, 0),
            Randomness::of_line_seed(2, 0)
        );
        let key = JobKey([1; 32]);
        assert_ne!(
            Randomness::of_job(1, &key, 0),
            Randomness::of_job(2, &key, 0)
        );
        assert_ne!(
            Randomness::of_job(1, &key, 0),
            Randomness::of_job(1, &JobKey([2; 32]), 0)
        );
    }

    #[test]
    fn draws_fill_the_unit_interval_evenly() {
        let randomness = Randomness::of_line_seed(42, 0);
        let mut buckets = [0u32; 16];
        let draws = 160_000;
        for position in 0..draws {
            let u = randomness.draw(position);
            assert!((0.0..1.0).contains(&u));
            buckets[(u * 16.0) as usize] += 1;
        }
        // Chi-squared with 15 degrees of freedom: over 40 happens once in two thousand generators.
        let expected = f64::from(draws) / 16.0;
        let chi: f64 = buckets
            .iter()
            .map(|b| (f64::from(*b) - expected).powi(2) / expected)
            .sum();
        assert!(chi < 40.0, "{buckets:?}");
    }
}
