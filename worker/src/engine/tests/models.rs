//! Models that misbehave, wait or echo, for tests.

use super::*;
use crate::engine::step::{BLOCK_TOKENS, BlockId, SeqChunk, StepError};
use std::sync::mpsc;

/// A prompt with this byte makes the model panic.
pub const PANIC: char = '\u{1}';
/// A prompt with this byte makes the model give NaN.
pub const NAN: char = '\u{2}';
/// A prompt with this byte makes the model give positive infinity.
pub const INFINITY: char = '\u{3}';
/// A prompt with this byte makes the model refuse.
pub const REFUSE: char = '\u{4}';

/// The stub, but for certain contents.
pub struct Faulty(pub StubModel);

impl StepModel for Faulty {
    fn vocab_size(&self) -> usize {
        self.0.vocab_size()
    }

    fn context_len(&self) -> usize {
        self.0.context_len()
    }

    fn kv_blocks(&self) -> usize {
        self.0.kv_blocks()
    }

    fn forward(&mut self, step: &[SeqChunk<'_>], logits: &mut Vec<f32>) -> Result<(), StepError> {
        let has = |chunk: &SeqChunk<'_>, c: char| chunk.tokens.contains(&(c as u32));
        if step.iter().any(|chunk| has(chunk, PANIC)) {
            // Half a step's work is done before it comes to that.
            self.0.forward(&step[..step.len() / 2], logits)?;
            panic!("this content is bad");
        }
        if step.iter().any(|chunk| has(chunk, REFUSE)) {
            return Err(StepError {
                message: "this content is refused".into(),
            });
        }
        self.0.forward(step, logits)?;
        let width = self.0.vocab_size();
        for (row, chunk) in step.iter().filter(|chunk| chunk.logits).enumerate() {
            if has(chunk, NAN) {
                logits[row * width..(row + 1) * width].fill(f32::NAN);
            }
            if has(chunk, INFINITY) {
                logits[row * width + 7] = f32::INFINITY;
            }
        }
        Ok(())
    }
}

/// A model that steps only when it is let, and tells of each step how many chunks it had.
pub struct Gated {
    pub inner: StubModel,
    pub gate: mpsc::Receiver<()>,
    pub steps: mpsc::Sender<usize>,
}

impl StepModel for Gated {
    fn vocab_size(&self) -> usize {
        self.inner.vocab_size()
    }

    fn context_len(&self) -> usize {
        self.inner.context_len()
    }

    fn kv_blocks(&self) -> usize {
        self.inner.kv_blocks()
    }

    fn forward(&mut self, step: &[SeqChunk<'_>], logits: &mut Vec<f32>) -> Result<(), StepError> {
        // A test that has ended lets everything through.
        let _ = self.gate.recv();
        let _ = self.steps.send(step.len());
        self.inner.forward(step, logits)
    }
}

/// The stub behind the private state of a model that holds one sequence at a time.
pub struct Sequential {
    pub inner: StubModel,
    pub positions: usize,
}

impl StepModel for Sequential {
    fn vocab_size(&self) -> usize {
        self.inner.vocab_size()
    }

    fn context_len(&self) -> usize {
        self.inner.context_len()
    }

    fn kv_blocks(&self) -> usize {
        0
    }

    fn forward(&mut self, step: &[SeqChunk<'_>], logits: &mut Vec<f32>) -> Result<(), StepError> {
        assert_eq!(step.len(), 1, "one sequence at a time");
        let chunk = step[0];
        if chunk.start == 0 {
            self.positions = 0;
        }
        assert_eq!(chunk.start, self.positions, "positions follow each other");
        self.positions = chunk.end();
        let blocks: Vec<BlockId> = (0..chunk.end().div_ceil(BLOCK_TOKENS) as u32)
            .map(BlockId)
            .collect();
        let own = SeqChunk {
            blocks: &blocks,
            ..chunk
        };
        self.inner.forward(&[own], logits)
    }

    fn sequential(&self) -> bool {
        true
    }
}

/// Prompts of exactly this many bytes are repeated for ever by [`Echo`].
pub const ECHO_PERIOD: usize = 80;

/// Remembers tokens in its blocks and says the one of [`ECHO_PERIOD`] positions before.
pub struct Echo {
    pub kv: Vec<[u32; BLOCK_TOKENS]>,
}

impl Echo {
    pub fn new(blocks: usize) -> Echo {
        Echo {
            kv: vec![[0; BLOCK_TOKENS]; blocks],
        }
    }

    fn at(&mut self, blocks: &[BlockId], position: usize) -> &mut u32 {
        let block = blocks[position / BLOCK_TOKENS].0 as usize;
        &mut self.kv[block][position % BLOCK_TOKENS]
    }
}

impl StepModel for Echo {
    fn vocab_size(&self) -> usize {
        257
    }

    fn context_len(&self) -> usize {
        1024
    }

    fn kv_blocks(&self) -> usize {
        self.kv.len()
    }

    fn forward(&mut self, step: &[SeqChunk<'_>], logits: &mut Vec<f32>) -> Result<(), StepError> {
        logits.clear();
        for chunk in step {
            for (offset, token) in chunk.tokens.iter().enumerate() {
                *self.at(chunk.blocks, chunk.start + offset) = *token;
            }
            if chunk.logits {
                let said = *self.at(chunk.blocks, chunk.end() - ECHO_PERIOD);
                let row = logits.len();
                logits.resize(row + 257, 0.0);
                logits[row + said as usize] = 9.0;
            }
        }
        Ok(())
    }
}
