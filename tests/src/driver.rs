//! Driving a loaded model without the engine: sequences, blocks and steps by hand.

use rbee_worker::engine::step::{BLOCK_TOKENS, BlockId, SeqChunk, StepModel};

use crate::logits::greedy;
use crate::random::Random;

/// A model and the blocks that no sequence holds.
pub struct Driver {
    model: Box<dyn StepModel>,
    free: Vec<BlockId>,
}

/// One sequence in the model: its tokens and how many of them are computed.
#[derive(Clone, Debug)]
pub struct Sequence {
    pub tokens: Vec<u32>,
    computed: usize,
    blocks: Vec<BlockId>,
}

/// What is asked of a sequence: its prompt, and how many tokens to generate greedily.
#[derive(Clone, Debug)]
pub struct Task {
    pub prompt: Vec<u32>,
    pub generate: usize,
}

/// What a task gave: the logits before each generated token, and the tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub logits: Vec<Vec<f32>>,
    pub tokens: Vec<u32>,
}

impl Answer {
    /// The bits of all logits, so that equal means equal to the last bit.
    pub fn bits(&self) -> Vec<u32> {
        self.logits
            .iter()
            .flatten()
            .map(|logit| logit.to_bits())
            .collect()
    }
}

/// How tasks are cut into steps.
pub struct Schedule {
    /// Sequences that may run at once.
    pub slots: usize,
    /// Most prompt tokens of one sequence in one step.
    pub chunk: usize,
    /// Chunks of random length, random blocks, random members of each step, and now and then a sequence that loses its
    /// blocks and is computed again.
    pub random: Option<Random>,
}

impl Schedule {
    /// One sequence after the other, prompts in chunks of this length.
    pub fn single(chunk: usize) -> Schedule {
        Schedule {
            slots: 1,
            chunk,
            random: None,
        }
    }

    fn chance(&mut self, one_in: usize) -> bool {
        self.random
            .as_mut()
            .is_some_and(|random| random.below(one_in) == 0)
    }

    fn chunk(&mut self) -> usize {
        match &mut self.random {
            Some(random) => 1 + random.below(self.chunk),
            None => self.chunk,
        }
    }
}

struct Running {
    task: usize,
    sequence: Sequence,
    answer: Answer,
}

impl Driver {
    pub fn new(model: Box<dyn StepModel>) -> Driver {
        let blocks = u32::try_from(model.kv_blocks()).expect("a test model has few blocks");
        Driver {
            model,
            free: (0..blocks).map(BlockId).collect(),
        }
    }

    pub fn vocab_size(&self) -> usize {
        self.model.vocab_size()
    }

    /// The greedy answer to one prompt, computed alone.
    pub fn alone(&mut self, prompt: &[u32], generate: usize) -> Answer {
        let task = Task {
            prompt: prompt.to_vec(),
            generate,
        };
        self.run(&[task], Schedule::single(usize::MAX)).remove(0)
    }

    /// The answers to all tasks, in their order, computed as the schedule says.
    pub fn run(&mut self, tasks: &[Task], mut schedule: Schedule) -> Vec<Answer> {
        let mut answers: Vec<Option<Answer>> = vec![None; tasks.len()];
        let mut order: Vec<usize> = (0..tasks.len()).rev().collect();
        if let Some(random) = &mut schedule.random {
            random.shuffle(&mut order);
            random.shuffle(&mut self.free);
        }
        let mut running: Vec<Running> = Vec::new();
        while !order.is_empty() || !running.is_empty() {
            while running.len() < schedule.slots && !order.is_empty() && !schedule.chance(3) {
                let task = order.pop().expect("it was not empty");
                running.push(Running::new(task, &tasks[task]));
            }
            self.step(tasks, &mut running, &mut schedule);
            let (done, rest) = running
                .into_iter()
                .partition(|running: &Running| running.done(&tasks[running.task]));
            running = rest;
            for one in done {
                self.free.extend(one.sequence.blocks);
                answers[one.task] = Some(one.answer);
            }
        }
        answers
            .into_iter()
            .map(|answer| answer.expect("every task ran"))
            .collect()
    }

    fn step(&mut self, tasks: &[Task], running: &mut [Running], schedule: &mut Schedule) {
        let mut members: Vec<(usize, usize)> = Vec::new();
        for (index, one) in running.iter_mut().enumerate() {
            if schedule.chance(4) {
                continue;
            }
            if schedule.chance(40) {
                self.free.append(&mut one.sequence.blocks);
                one.sequence.computed = 0;
            }
            let left = one.sequence.tokens.len() - one.sequence.computed;
            let length = left.min(schedule.chunk());
            self.cover(&mut one.sequence, length);
            members.push((index, length));
        }
        if members.is_empty() {
            return;
        }
        let step: Vec<SeqChunk<'_>> = members
            .iter()
            .map(|(index, length)| running[*index].sequence.chunk(*length))
            .collect();
        let wanted: Vec<bool> = step.iter().map(|chunk| chunk.logits).collect();
        let mut logits = Vec::new();
        self.model
            .forward(&step, &mut logits)
            .expect("the model computes a step");
        let vocabulary = self.model.vocab_size();
        let rows = wanted.iter().filter(|wanted| **wanted).count();
        assert_eq!(
            logits.len(),
            rows * vocabulary,
            "one row a chunk that asked for it"
        );
        let mut rows = logits.chunks(vocabulary);
        for ((index, length), wanted) in members.into_iter().zip(wanted) {
            let one = &mut running[index];
            one.sequence.computed += length;
            if wanted {
                one.take(
                    rows.next().expect("counted above").to_vec(),
                    &tasks[one.task],
                );
            }
        }
    }

    fn cover(&mut self, sequence: &mut Sequence, more: usize) {
        let needed = (sequence.computed + more).div_ceil(BLOCK_TOKENS);
        while sequence.blocks.len() < needed {
            sequence.blocks.push(
                self.free
                    .pop()
                    .expect("the model has blocks enough for the test"),
            );
        }
    }
}

impl Sequence {
    fn chunk(&self, length: usize) -> SeqChunk<'_> {
        let end = self.computed + length;
        SeqChunk {
            tokens: &self.tokens[self.computed..end],
            start: self.computed,
            blocks: &self.blocks,
            logits: end == self.tokens.len(),
        }
    }
}

impl Running {
    fn new(task: usize, asked: &Task) -> Running {
        Running {
            task,
            sequence: Sequence {
                tokens: asked.prompt.clone(),
                computed: 0,
                blocks: Vec::new(),
            },
            answer: Answer {
                logits: Vec::new(),
                tokens: Vec::new(),
            },
        }
    }

    fn take(&mut self, logits: Vec<f32>, asked: &Task) {
        let token = greedy(&logits);
        self.answer.logits.push(logits);
        self.answer.tokens.push(token);
        if !self.done(asked) {
            self.sequence.tokens.push(token);
        }
    }

    fn done(&self, asked: &Task) -> bool {
        self.answer.tokens.len() == asked.generate
    }
}
