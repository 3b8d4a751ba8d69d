//! A guarded forward pass: a panic or an error of the model in a step of many chunks is traced to the chunk at fault, so
//! that its mates go on.

use super::step::{SeqChunk, StepError, StepModel};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What came of the chunks of one step.
#[derive(Debug, Default)]
pub struct Rows {
    logits: Vec<f32>,
    alone: Vec<f32>,
    width: usize,
}

impl Rows {
    /// The logits of the chunks that wanted them, in order.
    pub fn all(&mut self) -> impl Iterator<Item = &mut [f32]> {
        self.logits.chunks_exact_mut(self.width.max(1))
    }

    /// Computes `step`. Returns, for each chunk, whether it was computed.
    ///
    /// If the whole step fails, each chunk is computed again by itself; that gives the same numbers as together. A row
    /// of a failed chunk is undefined.
    pub fn forward(
        &mut self,
        model: &mut dyn StepModel,
        step: &[SeqChunk<'_>],
    ) -> Vec<Result<(), StepError>> {
        self.width = model.vocab_size();
        let together = guarded(model, step, &mut self.logits, self.width);
        let error = match together {
            Ok(()) => return vec![Ok(()); step.len()],
            Err(error) => error,
        };
        if step.len() == 1 {
            self.logits.resize(self.width, 0.0);
            return vec![Err(error)];
        }
        tracing::warn!(%error, chunks = step.len(), "a step failed; computing its chunks one by one");
        self.logits.clear();
        let mut outcomes = Vec::with_capacity(step.len());
        for chunk in step {
            let outcome = guarded(
                model,
                std::slice::from_ref(chunk),
                &mut self.alone,
                self.width,
            );
            if chunk.logits {
                self.alone.resize(self.width, 0.0);
                self.logits.extend_from_slice(&self.alone);
            }
            outcomes.push(outcome);
        }
        outcomes
    }
}

fn guarded(
    model: &mut dyn StepModel,
    step: &[SeqChunk<'_>],
    logits: &mut Vec<f32>,
    width: usize,
) -> Result<(), StepError> {
    // A model that panicked keeps its contract: the KV of chunks outside the step is intact, those inside are redone.
    catch_unwind(AssertUnwindSafe(|| model.forward(step, logits))).unwrap_or_else(|panic| {
        Err(StepError {
            message: format!("it panicked: {}", panic_text(panic.as_ref())),
        })
    })?;
    let wanted = step.iter().filter(|chunk| chunk.logits).count() * width;
    if logits.len() == wanted {
        return Ok(());
    }
    Err(StepError {
        message: format!("it gave {} logits instead of {wanted}", logits.len()),
    })
}

/// What a panic said.
pub fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    let owned = panic.downcast_ref::<String>().map(String::as_str);
    text.or(owned).unwrap_or("no message")
}
