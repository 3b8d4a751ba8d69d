//! Rotary position embedding: the angles of each position, with the ways models stretch them.
//!
//! Angles are computed in f64 by the `libm` crate and rounded to f32 once, so that they are the same on every machine.
//! Sources: RoFormer (Su et al. 2021), YaRN (Peng et al. 2023), Llama 3.1's and Phi 3's model definitions.

/// How one kind of layer rotates its queries and keys.
#[derive(Debug, Clone, PartialEq)]
pub struct RopeConfig {
    /// Dimensions of a head that are rotated; even, at most the head's.
    pub dims: usize,
    pub base: f64,
    pub scaling: RopeScaling,
    /// What cosines and sines are multiplied with.
    pub magnitude: f64,
}

/// How a model's angles are stretched beyond the context that it was first trained with.
#[derive(Debug, Clone, PartialEq)]
pub enum RopeScaling {
    None,
    /// All angles divided by the factor.
    Linear(f64),
    /// Each pair's angle divided by its own factor (Llama 3.1, Phi 3).
    Factors(Vec<f32>),
    /// YaRN: low frequencies divided by the factor, high ones kept, a ramp between them.
    Yarn {
        factor: f64,
        original_context: f64,
        beta_fast: f64,
        beta_slow: f64,
    },
}

impl RopeConfig {
    /// # Errors
    /// A clause that says what does not fit a head of `head_dim` dimensions.
    pub fn validate(&self, head_dim: usize) -> Result<(), String> {
        if self.dims == 0 || !self.dims.is_multiple_of(2) || self.dims > head_dim {
            return Err(format!(
                "it rotates {} of {head_dim} dimensions of a head",
                self.dims
            ));
        }
        if !self.base.is_finite() || self.base <= 0.0 || !self.magnitude.is_finite() {
            return Err(format!("the base of its rotary embedding is {}", self.base));
        }
        if self.frequencies().iter().any(|f| !f.is_finite())
            || self.frequencies().len() * 2 != self.dims
        {
            return Err("the scaling of its rotary embedding does not fit".to_owned());
        }
        Ok(())
    }

    /// Radians a position, one value a pair.
    pub fn frequencies(&self) -> Vec<f64> {
        let pairs = self.dims / 2;
        let plain = |i: usize| libm::pow(self.base, -2.0 * i as f64 / self.dims as f64);
        match &self.scaling {
            RopeScaling::None => (0..pairs).map(plain).collect(),
            RopeScaling::Linear(factor) => (0..pairs).map(|i| plain(i) / factor).collect(),
            RopeScaling::Factors(factors) => factors
                .iter()
                .take(pairs)
                .enumerate()
                .map(|(i, f)| plain(i) / f64::from(*f))
                .collect(),
            RopeScaling::Yarn {
                factor,
                original_context,
                beta_fast,
                beta_slow,
            } => {
                let bound = |turns: f64| {
                    let ratio = original_context / (turns * std::f64::consts::TAU);
                    self.dims as f64 * libm::log(ratio) / (2.0 * libm::log(self.base))
                };
                let low = libm::floor(bound(*beta_fast)).max(0.0);
                let high = libm::ceil(bound(*beta_slow)).min(self.dims as f64 - 1.0);
                let width = (high - low).max(0.001);
                (0..pairs)
                    .map(|i| {
                        let stretched = ((i as f64 - low) / width).clamp(0.0, 1.0);
                        plain(i) * ((1.0 - stretched) + stretched / factor)
                    })
                    .collect()
            }
        }
    }
}

/// Cosines and sines of one kind of layer.
pub struct RopeTable {
    frequencies: Vec<f64>,
    magnitude: f64,
}

impl RopeTable {
    pub fn new(config: &RopeConfig) -> RopeTable {
        RopeTable {
            frequencies: config.frequencies(),
            magnitude: config.magnitude,
        }
    }

    /// Pairs of a head that are rotated.
    pub fn pairs(&self) -> usize {
        self.frequencies.len()
    }

    /// Writes the cosines of `position` to the first half of `out` and the sines to the second.
    pub fn angles(&self, position: usize, out: &mut [f32]) {
        let (cos, sin) = out.split_at_mut(self.pairs());
        for ((frequency, cos), sin) in self.frequencies.iter().zip(cos).zip(sin) {
            let (s, c) = libm::sincos(position as f64 * frequency);
            *cos = (c * self.magnitude) as f32;
            *sin = (s * self.magnitude) as f32;
        }
    }
}
