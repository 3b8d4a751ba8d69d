//! How far two rows of logits lie apart, and when two greedy choices count as equal.

/// The difference between logits and the right ones.
#[derive(Clone, Copy, Debug)]
pub struct Distance {
    /// Root of the mean squared difference, over the right row's standard deviation.
    pub relative: f64,
    /// Largest difference of one token.
    pub largest: f64,
}

/// Differences between `logits` and the `right` ones. A constant added to all tokens counts as difference.
pub fn distance(logits: &[f32], right: &[f32]) -> Distance {
    assert_eq!(logits.len(), right.len(), "the vocabularies differ");
    assert!(
        logits.iter().all(|logit| logit.is_finite()),
        "a logit is not finite"
    );
    let count = right.len() as f64;
    let mean = right.iter().map(|x| f64::from(*x)).sum::<f64>() / count;
    let variance = right
        .iter()
        .map(|x| (f64::from(*x) - mean).powi(2))
        .sum::<f64>()
        / count;
    let differences: Vec<f64> = logits
        .iter()
        .zip(right)
        .map(|(a, b)| f64::from(*a) - f64::from(*b))
        .collect();
    let squared = differences.iter().map(|d| d * d).sum::<f64>() / count;
    Distance {
        relative: squared.sqrt() / variance.sqrt(),
        largest: differences.iter().fold(0.0, |most, d| most.max(d.abs())),
    }
}

/// The worst of several distances.
pub fn worst(distances: impl IntoIterator<Item = Distance>) -> Distance {
    let start = Distance {
        relative: 0.0,
        largest: 0.0,
    };
    distances.into_iter().fold(start, |worst, one| Distance {
        relative: worst.relative.max(one.relative),
        largest: worst.largest.max(one.largest),
    })
}

/// The token of the largest logit, the lowest id among equals.
pub fn greedy(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (id, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = id;
        }
    }
    best as u32
}

/// By how much the right logits prefer their own best token over this one.
pub fn regret(right: &[f32], token: u32) -> f64 {
    f64::from(right[greedy(right) as usize]) - f64::from(right[token as usize])
}
