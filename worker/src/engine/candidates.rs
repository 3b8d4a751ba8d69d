//! The likeliest tokens of a row, without sorting the vocabulary.

use std::cmp::Ordering;

/// Up to this many are kept by insertion while scanning; more are selected by partition.
const INSERTION_LIMIT: usize = 256;
/// Values that are compared with the threshold at once.
const SCAN: usize = 64;

/// A token and its logit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// The token.
    pub id: u32,
    /// Its logit, finite.
    pub logit: f32,
}

/// Likelier first; among equals the lower id.
pub fn order(a: &Candidate, b: &Candidate) -> Ordering {
    let by_logit = b.logit.partial_cmp(&a.logit).unwrap_or(Ordering::Equal);
    by_logit.then(a.id.cmp(&b.id))
}

/// The candidate of a place in a row.
pub fn candidate(id: usize, logit: f32) -> Candidate {
    Candidate {
        id: id as u32,
        logit,
    }
}

/// Replaces `out` by the `k` likeliest tokens of a finite row, likeliest first, ties to the lower id.
pub fn largest(row: &[f32], k: usize, out: &mut Vec<Candidate>) {
    out.clear();
    let k = k.min(row.len());
    if k <= INSERTION_LIMIT {
        insert_largest(row, k, out);
    } else {
        out.extend(
            row.iter()
                .enumerate()
                .map(|(id, logit)| candidate(id, *logit)),
        );
        if k < out.len() {
            out.select_nth_unstable_by(k - 1, order);
            out.truncate(k);
        }
        out.sort_unstable_by(order);
    }
}

fn insert_largest(row: &[f32], k: usize, out: &mut Vec<Candidate>) {
    if k == 0 {
        return;
    }
    for (scan, values) in row.chunks(SCAN).enumerate() {
        let threshold = if out.len() < k {
            f32::NEG_INFINITY
        } else {
            out[k - 1].logit
        };
        if out.len() == k && !values.iter().fold(false, |any, x| any | (*x > threshold)) {
            continue;
        }
        for (offset, &logit) in values.iter().enumerate() {
            if out.len() == k {
                if logit <= out[k - 1].logit {
                    continue;
                }
                out.pop();
            }
            // Ids ascend, so an equal value goes behind those that are there.
            let place = out.partition_point(|c| c.logit >= logit);
            out.insert(place, candidate(scan * SCAN + offset, logit));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sorted(row: &[f32]) -> Vec<Candidate> {
        let mut all: Vec<Candidate> = row
            .iter()
            .enumerate()
            .map(|(i, x)| candidate(i, *x))
            .collect();
        all.sort_by(order);
        all
    }

    proptest! {
        #[test]
        fn selection_equals_the_head_of_a_full_sort(
            // Few distinct values, so that ties are everywhere.
            row in prop::collection::vec((-20i32..20).prop_map(|x| x as f32 * 0.5), 1..2000),
            k in 0usize..1500,
        ) {
            let mut out = Vec::new();
            largest(&row, k, &mut out);
            prop_assert_eq!(&out, &sorted(&row)[..k.min(row.len())]);
        }
    }
}
