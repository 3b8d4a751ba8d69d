//! Numbers that look random and are the same in every run of a seed.

/// A stream of them (SplitMix64).
#[derive(Clone, Copy, Debug)]
pub struct Random(u64);

impl Random {
    /// The stream of a seed and two numbers that name what it is for.
    pub fn new(seed: u64, what: u64, which: u64) -> Random {
        let mut mixed = Random(seed);
        for part in [what, which] {
            mixed = Random(mixed.next() ^ part.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        }
        mixed
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to 1, without 1.
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Between two numbers.
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// Mostly short, sometimes long, on average 1: as answers are.
    pub fn length(&mut self) -> f64 {
        let long = -(1.0 - self.unit()).ln();
        (0.25 + 0.75 * long).min(6.0)
    }
}
