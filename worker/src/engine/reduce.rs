//! Reductions over a row of logits, in 16 virtual lanes and one fixed tree.

const LANES: usize = 16;

/// Natural exponential.
pub fn exp(x: f32) -> f32 {
    libm::expf(x)
}

/// Natural logarithm.
pub fn ln(x: f32) -> f32 {
    libm::logf(x)
}

/// Index of the greatest value, the lowest one among equals.
pub fn arg_max(xs: &[f32]) -> usize {
    let greatest = max(xs);
    xs.iter().position(|x| *x == greatest).unwrap_or(0)
}

/// The greatest value.
pub fn max(xs: &[f32]) -> f32 {
    xs.iter().copied().fold(f32::NEG_INFINITY, f32::max)
}

/// Σ exp((x - max) * scale).
pub fn sum_exp(xs: &[f32], max: f32, scale: f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    for (i, x) in xs.iter().enumerate() {
        lanes[i % LANES] += exp((x - max) * scale);
    }
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// Whether no value is NaN or infinite.
pub fn all_finite(xs: &[f32]) -> bool {
    xs.iter().all(|x| x.is_finite())
}
