//! Thousands of random lives of a planner: nobody starves, everybody ends, no block is lost, and what is shared is equal.

use super::super::prefix::prefix_keys;
use super::super::randomness::mix;
use super::*;
use proptest::prelude::*;
use std::collections::{BTreeSet, HashMap, HashSet};

/// A sequence of the simulation.
#[derive(Debug, Clone)]
struct Case {
    prompt: usize,
    answer: usize,
    interactive: bool,
    /// The step before which it arrives.
    arrives: usize,
    /// Cancelled after this many steps of the whole run.
    cancelled: Option<usize>,
    /// Prompts of one family begin alike, for so many tokens; none is like no other.
    family: Option<(u32, usize)>,
}

impl Case {
    /// Positions whose K and V are needed: the last token is never computed.
    fn positions(&self) -> usize {
        self.prompt + self.answer - 1
    }

    fn prompt(&self, number: usize) -> Vec<u32> {
        let (family, alike) = self.family.unwrap_or((0, 0));
        let token = |at: usize| match at < alike {
            true => family,
            false => 1_000 + number as u32,
        };
        (0..self.prompt).map(token).collect()
    }

    fn newcomer(&self, number: usize) -> Newcomer {
        Newcomer {
            key: self.key(number),
            len: self.prompt,
            prefix: match self.family {
                Some(_) => prefix_keys(&self.prompt(number)),
                None => Arc::default(),
            },
        }
    }

    fn key(&self, number: usize) -> SeqKey {
        let priority = if self.interactive {
            Priority::Interactive
        } else {
            Priority::Batch
        };
        SeqKey {
            priority,
            number: number as u64,
        }
    }
}

fn case() -> impl Strategy<Value = Case> {
    let cancelled = prop_oneof![4 => Just(None), 1 => (0usize..200).prop_map(Some)];
    let family = prop_oneof![1 => Just(None), 2 => (0u32..3, 0usize..250).prop_map(Some)];
    (
        1usize..300,
        1usize..120,
        prop::bool::weighted(0.1),
        0usize..60,
        cancelled,
        family,
    )
        .prop_map(
            |(prompt, answer, interactive, arrives, cancelled, family)| Case {
                prompt,
                answer,
                interactive,
                arrives,
                cancelled,
                family,
            },
        )
}

impl Planner {
    fn check(&self) {
        let held: Vec<BlockId> = self
            .running
            .values()
            .flat_map(|e| e.blocks.clone())
            .collect();
        let distinct: HashSet<BlockId> = held.iter().copied().collect();
        assert_eq!(distinct.len(), self.pool.used());
        assert_eq!(self.pool.used() + self.pool.free(), self.pool.total());
        assert!(self.running.len() <= self.capacity.slots);
        for entry in self.waiting.values() {
            assert!(entry.blocks.is_empty() && entry.computed == 0);
        }
    }

    fn check_plan(&self, plan: &Plan, chunk_tokens: usize) {
        let prompt_tokens: usize = plan.chunks.iter().map(|c| c.len).filter(|l| *l > 1).sum();
        assert!(self.capacity.sequential || prompt_tokens <= chunk_tokens);
        assert!(plan.chunks.is_sorted_by(|a, b| a.key < b.key));
        for chunk in &plan.chunks {
            let entry = &self.running[&chunk.key];
            assert_eq!(chunk.start, entry.computed);
            assert!(chunk.len >= 1 && chunk.start + chunk.len <= entry.len);
            assert_eq!(chunk.logits, chunk.start + chunk.len == entry.len);
            assert!(entry.blocks.len() >= blocks_for(chunk.start + chunk.len));
        }
        if self.capacity.sequential {
            assert!(plan.preempted.is_empty() && plan.chunks.len() <= 1);
        }
    }
}

/// What a run came to.
struct Life {
    finished: BTreeSet<usize>,
    steps: usize,
    preemptions: usize,
    shared_tokens: usize,
    computed_tokens: usize,
}

/// What the blocks hold, as a model would write it: at each position a hash of all tokens up to it.
#[derive(Default)]
struct Written(HashMap<(BlockId, usize), u64>);

/// The hashes of all beginnings of `tokens`.
fn beginnings(tokens: &[u32]) -> Vec<u64> {
    let after = |hash: &mut u64, token: &u32| {
        *hash = mix(*hash ^ u64::from(*token));
        Some(*hash)
    };
    tokens.iter().scan(0, after).collect()
}

impl Written {
    /// Writes a chunk, after looking at what it stands on.
    fn write(&mut self, right: &[u64], chunk: &PlannedChunk, blocks: &[BlockId]) {
        let place = |at: usize| (blocks[at / BLOCK_TOKENS], at % BLOCK_TOKENS);
        for end in (BLOCK_TOKENS..=chunk.start)
            .step_by(BLOCK_TOKENS)
            .chain([chunk.start])
        {
            if let Some(at) = end.checked_sub(1) {
                assert_eq!(self.0[&place(at)], right[at], "{chunk:?}: position {at}");
            }
        }
        let written = right.iter().enumerate().skip(chunk.start).take(chunk.len);
        self.0.extend(written.map(|(at, hash)| (place(at), *hash)));
    }
}

fn live(capacity: Capacity, chunk_tokens: usize, cases: &[Case]) -> Life {
    let mut planner = Planner::new(capacity);
    let mut generated = vec![0usize; cases.len()];
    let mut life = Life {
        finished: BTreeSet::new(),
        steps: 0,
        preemptions: 0,
        shared_tokens: 0,
        computed_tokens: 0,
    };
    let mut right: Vec<Vec<u64>> = (cases.iter().enumerate())
        .map(|(number, case)| beginnings(&case.prompt(number)))
        .collect();
    let mut written = Written::default();
    let mut gone = BTreeSet::new();
    // Each step advances at least one sequence by a chunk, and a preemption costs a prompt again: far below this.
    let limit = 100_000;
    while life.finished.len() + gone.len() < cases.len() {
        assert!(life.steps < limit, "the planner does not come to an end");
        for (number, case) in cases.iter().enumerate() {
            if case.arrives == life.steps {
                assert!(planner.fits(case.positions()));
                planner.add(case.newcomer(number));
            }
            let known = case.arrives <= life.steps && !life.finished.contains(&number);
            if known && case.cancelled.is_some_and(|at| at <= life.steps) && gone.insert(number) {
                planner.remove(case.key(number));
            }
        }
        let oldest = planner
            .running
            .first_key_value()
            .map(|(key, e)| (*key, e.computed));
        let plan = planner.plan(chunk_tokens);
        planner.check();
        planner.check_plan(&plan, chunk_tokens);
        if let Some((key, computed)) = oldest {
            let first = plan
                .chunks
                .first()
                .expect("the oldest advances in every step");
            assert!(first.key < key || (first.key == key && first.start >= computed));
        }
        life.preemptions += plan.preempted.len();
        life.shared_tokens += plan.shared_tokens;
        if !capacity.sequential {
            for chunk in &plan.chunks {
                let right = &right[chunk.key.number as usize];
                written.write(right, chunk, planner.blocks(chunk.key));
            }
        }
        for chunk in &plan.chunks {
            life.computed_tokens += chunk.len;
            planner.computed(chunk);
            if !chunk.logits {
                continue;
            }
            let number = chunk.key.number as usize;
            let last = right[number].last().expect("a prompt has a token");
            let next = mix(last ^ (2_000 + number as u64));
            right[number].push(next);
            generated[number] += 1;
            if generated[number] == cases[number].answer {
                planner.remove(chunk.key);
                life.finished.insert(number);
            } else {
                planner.grew(chunk.key);
            }
        }
        planner.check();
        life.steps += 1;
    }
    assert_eq!(planner.pool.used(), 0, "blocks are left behind");
    assert_eq!(planner.running() + planner.waiting(), 0);
    life
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn every_sequence_ends_and_every_block_comes_back(
        cases in prop::collection::vec(case(), 1..40),
        slots in 1usize..12,
        extra_blocks in 0usize..20,
        chunk_tokens in 1usize..200,
        sequential in prop::bool::weighted(0.1),
    ) {
        let widest = cases.iter().map(|c| blocks_for(c.positions())).max().unwrap_or(1);
        let capacity = Capacity { slots, blocks: widest + extra_blocks, sequential };
        let life = live(capacity, chunk_tokens, &cases);
        let never_cancelled = cases.iter().filter(|c| c.cancelled.is_none()).count();
        prop_assert!(life.finished.len() >= never_cancelled);
    }
}

fn plain(prompt: usize, answer: usize) -> Case {
    Case {
        prompt,
        answer,
        interactive: false,
        arrives: 0,
        cancelled: None,
        family: None,
    }
}

#[test]
fn tight_kv_preempts_the_youngest_and_all_end() {
    let cases = vec![plain(40, 100); 6];
    let capacity = Capacity {
        slots: 6,
        blocks: 12,
        sequential: false,
    };
    let life = live(capacity, 64, &cases);
    assert_eq!(life.finished.len(), 6);
    assert!(life.preemptions > 0);
}

#[test]
fn old_sequences_are_never_preempted_by_young_ones() {
    let mut planner = Planner::new(Capacity {
        slots: 4,
        blocks: 4,
        sequential: false,
    });
    let keys: Vec<SeqKey> = (0..2).map(|n| plain(1, 1).key(n)).collect();
    planner.add(plain(31, 1).newcomer(0));
    planner.add(plain(31, 1).newcomer(1));
    let plan = planner.plan(64);
    assert_eq!(plan.admitted, keys);
    let mut preempted = Vec::new();
    for _ in 0..96 {
        let plan = planner.plan(64);
        preempted.extend(plan.preempted.clone());
        for chunk in &plan.chunks {
            planner.computed(chunk);
            if chunk.logits {
                planner.grew(chunk.key);
            }
        }
    }
    assert_eq!(preempted.first(), Some(&keys[1]));
    assert!(!preempted.contains(&keys[0]));
}

#[test]
fn interactive_sequence_takes_the_slot_of_the_youngest_batch_sequence() {
    let mut planner = Planner::new(Capacity {
        slots: 2,
        blocks: 100,
        sequential: false,
    });
    let batch: Vec<SeqKey> = (0..2).map(|n| plain(1, 1).key(n)).collect();
    for number in 0..2 {
        planner.add(plain(10, 1).newcomer(number));
    }
    planner.plan(64);
    let urgent = SeqKey {
        priority: Priority::Interactive,
        number: 2,
    };
    planner.add(Newcomer {
        key: urgent,
        ..plain(10, 1).newcomer(2)
    });
    let plan = planner.plan(64);
    assert_eq!(plan.preempted, vec![batch[1]]);
    assert_eq!(plan.admitted, vec![urgent]);
    assert_eq!(plan.chunks[0].key, urgent);
}

#[test]
fn prompts_are_cut_beside_decoding_and_fifo() {
    let mut planner = Planner::new(Capacity {
        slots: 3,
        blocks: 100,
        sequential: false,
    });
    let keys: Vec<SeqKey> = (0..3).map(|n| plain(1, 1).key(n)).collect();
    planner.add(plain(5, 1).newcomer(0));
    let first = planner.plan(8);
    planner.computed(&first.chunks[0]);
    planner.grew(keys[0]);
    planner.add(plain(7, 1).newcomer(1));
    planner.add(plain(7, 1).newcomer(2));
    let lens = |plan: &Plan| {
        plan.chunks
            .iter()
            .map(|c| (c.key.number, c.len, c.logits))
            .collect::<Vec<_>>()
    };
    let second = planner.plan(8);
    assert_eq!(
        lens(&second),
        vec![(0, 1, true), (1, 7, true), (2, 1, false)]
    );
}

#[test]
fn sequential_model_gets_its_prompt_whole() {
    let mut planner = Planner::new(Capacity {
        slots: 8,
        blocks: 100,
        sequential: true,
    });
    planner.add(plain(900, 1).newcomer(0));
    planner.add(plain(10, 1).newcomer(1));
    let plan = planner.plan(64);
    assert_eq!(plan.chunks.len(), 1);
    assert_eq!((plan.chunks[0].len, plan.chunks[0].logits), (900, true));
}

/// Prompts of 100 tokens that are alike but for the last few.
fn alike(count: usize) -> Vec<Case> {
    let one = Case {
        family: Some((1, 96)),
        ..plain(100, 10)
    };
    vec![one; count]
}

#[test]
fn common_beginning_is_computed_once_though_all_begin_at_once() {
    let capacity = Capacity {
        slots: 8,
        blocks: 100,
        sequential: false,
    };
    for chunk_tokens in [7, 32, 1000] {
        let life = live(capacity, chunk_tokens, &alike(20));
        assert_eq!(life.shared_tokens, 19 * 96, "chunks of {chunk_tokens}");
        assert_eq!(life.computed_tokens, 96 + 20 * (4 + 9));
    }
}

#[test]
fn whole_prompt_in_blocks_still_computes_its_last_token() {
    let mut planner = Planner::new(Capacity {
        slots: 2,
        blocks: 8,
        sequential: false,
    });
    let twin = Case {
        family: Some((1, 64)),
        ..plain(64, 1)
    };
    for number in 0..2 {
        planner.add(twin.newcomer(number));
        let plan = planner.plan(64);
        let chunk = plan.chunks.last().expect("it advances");
        assert_eq!((chunk.start, chunk.len), [(0, 64), (32, 32)][number]);
        assert!(chunk.logits);
        planner.computed(chunk);
        planner.remove(chunk.key);
    }
}

#[test]
fn faulty_sequence_leaves_nothing_to_take_over() {
    let mut planner = Planner::new(Capacity {
        slots: 2,
        blocks: 8,
        sequential: false,
    });
    let cases = alike(2);
    planner.add(cases[0].newcomer(0));
    let plan = planner.plan(1000);
    planner.computed(&plan.chunks[0]);
    planner.remove_faulty(cases[0].key(0));
    planner.add(cases[1].newcomer(1));
    let plan = planner.plan(1000);
    assert_eq!((plan.shared_tokens, plan.chunks[0].len), (0, 100));
}
