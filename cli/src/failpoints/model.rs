//! The moment at which a sequence got its first token.

use rbee_worker::engine::step::{SeqChunk, StepError, StepModel};

use super::at;

/// A model whose steps that give tokens are a moment.
pub struct FailModel(pub Box<dyn StepModel>);

impl StepModel for FailModel {
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
        self.0.forward(step, logits)?;
        if step.iter().any(|chunk| chunk.logits) {
            at("first-token");
        }
        Ok(())
    }

    fn share_out(&mut self, units: usize, work: &(dyn Fn(usize) + Sync)) {
        self.0.share_out(units, work);
    }

    fn sequential(&self) -> bool {
        self.0.sequential()
    }
}
