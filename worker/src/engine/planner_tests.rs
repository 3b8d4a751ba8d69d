//! Thousands of random lives of a planner: nobody starves, everybody ends, and no block is lost.

use super::*;
use proptest::prelude::*;
use std::collections::{BTreeSet, HashSet};

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
}

impl Case {
    /// Positions whose K and V are needed: the last token is never computed.
    fn positions(&self) -> usize {
        self.prompt + self.answer - 1
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
    (
        1usize..300,
        1usize..120,
        prop::bool::weighted(0.1),
        0usize..60,
        cancelled,
    )
        .prop_map(|(prompt, answer, interactive, arrives, cancelled)| Case {
            prompt,
            answer,
            interactive,
            arrives,
            cancelled,
        })
}

impl Planner {
    fn check(&self) {
        let held: Vec<BlockId> = self
            .running
            .values()
            .flat_map(|e| e.blocks.clone())
            .collect();
        let distinct: HashSet<BlockId> = held.iter().copied().collect();
        assert_eq!(held.len(), distinct.len(), "two sequences hold one block");
        assert_eq!(held.len(), self.pool.used());
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
}

fn live(capacity: Capacity, chunk_tokens: usize, cases: &[Case]) -> Life {
    let mut planner = Planner::new(capacity);
    let mut generated = vec![0usize; cases.len()];
    let mut life = Life {
        finished: BTreeSet::new(),
        steps: 0,
        preemptions: 0,
    };
    let mut gone = BTreeSet::new();
    // Each step advances at least one sequence by a chunk, and a preemption costs a prompt again: far below this.
    let limit = 100_000;
    while life.finished.len() + gone.len() < cases.len() {
        assert!(life.steps < limit, "the planner does not come to an end");
        for (number, case) in cases.iter().enumerate() {
            if case.arrives == life.steps {
                assert!(planner.fits(case.positions()));
                planner.add(case.key(number), case.prompt);
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
            assert!(first.key < key || (first.key == key && first.start == computed));
        }
        life.preemptions += plan.preempted.len();
        for chunk in &plan.chunks {
            planner.computed(chunk);
            if !chunk.logits {
                continue;
            }
            let number = chunk.key.number as usize;
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
    planner.add(keys[0], 31);
    planner.add(keys[1], 31);
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
    for key in &batch {
        planner.add(*key, 10);
    }
    planner.plan(64);
    let urgent = SeqKey {
        priority: Priority::Interactive,
        number: 2,
    };
    planner.add(urgent, 10);
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
    planner.add(keys[0], 5);
    let first = planner.plan(8);
    planner.computed(&first.chunks[0]);
    planner.grew(keys[0]);
    planner.add(keys[1], 7);
    planner.add(keys[2], 7);
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
    planner.add(plain(1, 1).key(0), 900);
    planner.add(plain(1, 1).key(1), 10);
    let plan = planner.plan(64);
    assert_eq!(plan.chunks.len(), 1);
    assert_eq!((plan.chunks[0].len, plan.chunks[0].logits), (900, true));
}
