//! The sampler against plain definitions over the whole vocabulary.

use super::*;
use proptest::prelude::*;

fn sampler(params: Params, prompt: &[u32]) -> Sampler {
    Sampler::new(&params, prompt, Randomness::of_line_seed(9, 0))
}

fn take(sampler: &mut Sampler, row: &[f32], position: u32) -> Sampled {
    let mut row = row.to_vec();
    sampler
        .sample(&mut row, position, &mut Scratch::default())
        .unwrap()
}

/// The filters by their definition: sort everything, cut, normalise.
fn distribution(row: &[f32], params: &Params) -> Vec<f64> {
    let max = row.iter().copied().fold(f32::MIN, f32::max);
    let mut all: Vec<(usize, f64)> = row
        .iter()
        .map(|x| f64::from((x - max) * (1.0 / params.temperature)).exp())
        .enumerate()
        .collect();
    all.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    if params.top_k > 0 {
        all.truncate(params.top_k as usize);
    }
    let total: f64 = all.iter().map(|x| x.1).sum();
    let mut kept = 0;
    let mut sum = 0.0;
    while kept < all.len() && sum < f64::from(params.top_p) * total {
        sum += all[kept].1;
        kept += 1;
    }
    all.truncate(kept);
    let best = all[0].1;
    all.retain(|x| x.1 >= f64::from(params.min_p) * best);
    let total: f64 = all.iter().map(|x| x.1).sum();
    let mut probabilities = vec![0.0; row.len()];
    for (id, weight) in all {
        probabilities[id] = weight / total;
    }
    probabilities
}

/// Draws often and compares the shares with the definition.
fn assert_follows(row: &[f32], params: Params) {
    let wanted = distribution(row, &params);
    let mut sampler = sampler(params.clone(), &[]);
    let mut counts = vec![0u32; row.len()];
    let draws = 20_000;
    for position in 0..draws {
        counts[take(&mut sampler, row, position).token as usize] += 1;
    }
    for (id, count) in counts.iter().enumerate() {
        let share = f64::from(*count) / f64::from(draws);
        assert!(
            (share - wanted[id]).abs() < 0.02,
            "token {id}: {share} for {} ({params:?})",
            wanted[id]
        );
        assert!(
            wanted[id] > 0.0 || *count == 0,
            "token {id} is filtered out ({params:?})"
        );
    }
}

#[test]
fn shares_follow_the_definition_of_every_filter() {
    let row: Vec<f32> = (0..40).map(|i| ((i * 7) % 40) as f32 * 0.2).collect();
    let hot = |f: fn(&mut Params)| {
        let mut params = Params {
            temperature: 0.8,
            ..Params::default()
        };
        f(&mut params);
        params
    };
    assert_follows(&row, hot(|_| ()));
    assert_follows(&row, hot(|p| p.top_k = 3));
    assert_follows(&row, hot(|p| p.top_p = 0.6));
    assert_follows(&row, hot(|p| p.min_p = 0.3));
    assert_follows(&row, hot(|p| (p.top_k, p.top_p, p.min_p) = (6, 0.8, 0.4)));
    assert_follows(&row, hot(|p| (p.top_p, p.min_p) = (0.9, 0.2)));
}

#[test]
fn nucleus_wider_than_the_first_head_is_found() {
    // 5,000 equal tokens: half of the mass is the 2,500 lowest ids.
    let row = vec![1.0f32; 5000];
    let mut sampler = sampler(
        Params {
            temperature: 1.0,
            top_p: 0.5,
            ..Params::default()
        },
        &[],
    );
    let taken: Vec<u32> = (0..500)
        .map(|p| take(&mut sampler, &row, p).token)
        .collect();
    assert!(taken.iter().all(|t| *t < 2500), "{:?}", taken.iter().max());
    assert!(taken.iter().any(|t| *t > 2000));
}

#[test]
fn greedy_ties_go_to_the_lowest_id() {
    let mut sampler = sampler(Params::default(), &[]);
    assert_eq!(take(&mut sampler, &[1.0, 3.0, 3.0, 2.0], 0).token, 1);
}

#[test]
fn row_with_nan_or_infinity_is_refused() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for temperature in [0.0, 1.0] {
            let mut sampler = sampler(
                Params {
                    temperature,
                    ..Params::default()
                },
                &[],
            );
            let mut row = [0.0, bad, 1.0];
            assert_eq!(
                sampler.sample(&mut row, 0, &mut Scratch::default()),
                Err(NotFinite)
            );
        }
    }
}

#[test]
fn repetition_penalty_sees_prompt_and_answer() {
    let params = Params {
        repetition_penalty: 2.0,
        ..Params::default()
    };
    let mut sampler = sampler(params, &[0]);
    let row = [4.0, 3.0, 1.9, -1.0];
    assert_eq!(
        take(&mut sampler, &row, 0).token,
        1,
        "token 0 of the prompt counts 2"
    );
    assert_eq!(
        take(&mut sampler, &row, 1).token,
        0,
        "both count half now, 2 beats 1.9 and 1.5"
    );
    let row = [-1.0, -1.5, -1.9, -9.0];
    assert_eq!(
        take(&mut sampler, &row, 2).token,
        2,
        "negative logits are multiplied"
    );
}

#[test]
fn frequency_and_presence_penalties_see_the_answer_only() {
    let mut frequency = sampler(
        Params {
            frequency_penalty: 0.5,
            ..Params::default()
        },
        &[0, 0, 0],
    );
    let row = [2.0, 1.2];
    let tokens: Vec<u32> = (0..5)
        .map(|p| take(&mut frequency, &row, p).token)
        .collect();
    assert_eq!(
        tokens,
        [0, 0, 1, 0, 1],
        "2.0, 1.5, then 1.0 < 1.2, 1.0 > 0.7, 0.5 < 0.7"
    );
    let mut presence = sampler(
        Params {
            presence_penalty: 1.0,
            ..Params::default()
        },
        &[0],
    );
    let tokens: Vec<u32> = (0..3).map(|p| take(&mut presence, &row, p).token).collect();
    assert_eq!(
        tokens,
        [0, 1, 0],
        "each is penalised once, whatever the count"
    );
}

#[test]
fn logprobs_are_those_of_the_unmodified_row() {
    let params = Params {
        temperature: 1.0,
        top_k: 1,
        repetition_penalty: 3.0,
        logprobs: true,
        top_logprobs: 3,
        ..Params::default()
    };
    let row = [1.0f32, 2.0, 2.0, 0.0];
    let sampled = take(&mut sampler(params, &[1]), &row, 0);
    assert_eq!(sampled.token, 2);
    let sum: f64 = row.iter().map(|x| f64::from(*x).exp()).sum();
    let logprobs = sampled.logprobs.unwrap();
    let close = |got: f32, logit: f64| (f64::from(got) - (logit - sum.ln())).abs() < 1e-6;
    assert!(close(logprobs.taken, 2.0));
    let ids: Vec<u32> = logprobs.top.iter().map(|t| t.0).collect();
    assert_eq!(ids, [1, 2, 0], "equal ones by id");
    assert!(close(logprobs.top[2].1, 1.0));
}

#[test]
fn extreme_parameters_still_give_a_token() {
    let row: Vec<f32> = (0..300).map(|i| (i % 17) as f32 * 1e30 - 8e30).collect();
    for temperature in [1e-6, 1e-4, 2.0, f32::MAX] {
        for (repetition_penalty, top_p, min_p) in [
            (1e-38, 1.0, 0.0),
            (1e38, 1e-30, 1.0),
            (1.0, 0.999_999_94, 1e-38),
        ] {
            let params = Params {
                temperature,
                top_p,
                min_p,
                repetition_penalty,
                ..Params::default()
            };
            let token = take(&mut sampler(params, &[16]), &row, 3).token;
            assert!((token as usize) < row.len());
        }
    }
}

proptest! {
    #[test]
    fn equal_rows_give_equal_tokens_whatever_came_before_in_the_scratch(
        row in prop::collection::vec(-8.0f32..8.0, 1..3000),
        position in 0u32..1000,
        top_p in prop_oneof![Just(1.0f32), 0.01f32..1.0],
        top_k in prop_oneof![Just(0u32), 1u32..400],
        min_p in prop_oneof![Just(0.0f32), 0.001f32..1.0],
    ) {
        let params = Params { temperature: 0.9, top_p, top_k, min_p, ..Params::default() };
        let first = take(&mut sampler(params.clone(), &[]), &row, position);
        let mut scratch = Scratch::default();
        let mut other = vec![5.0; 4000];
        sampler(Params { temperature: 1.0, top_p: 0.5, ..Params::default() }, &[]).sample(&mut other, 0, &mut scratch).unwrap();
        let mut row = row;
        let again = sampler(params, &[]).sample(&mut row, position, &mut scratch).unwrap();
        prop_assert_eq!(first, again);
    }
}
