//! A model of candle-transformers behind the engine's seam: one sequence at a time, panics caught.

use std::panic::{AssertUnwindSafe, catch_unwind};

use candle_core::{DType, Device, Tensor};

use crate::engine::forward::panic_text;
use crate::engine::step::{BLOCK_TOKENS, SeqChunk, StepError, StepModel};

use super::candle_model::CandleModel;

/// A [`StepModel`] with the KV of one sequence, which is the model's own and not in blocks.
pub struct SequentialModel {
    model: Box<dyn CandleModel>,
    device: Device,
    vocab: usize,
    context: usize,
    /// Positions of the present sequence in the cache; `None` when a step failed and nobody knows.
    computed: Option<usize>,
}

impl SequentialModel {
    /// `model` is on that device.
    pub fn new(
        (model, device): (Box<dyn CandleModel>, Device),
        vocab: usize,
        context: usize,
    ) -> SequentialModel {
        SequentialModel {
            model,
            device,
            vocab,
            context,
            computed: None,
        }
    }

    /// Computes two tokens and one more, as a prompt and an answer, so that tensors which do not fit each other are found
    /// at loading.
    ///
    /// # Errors
    /// Why the model cannot compute.
    pub fn try_out(&mut self) -> Result<(), StepError> {
        let mut logits = Vec::new();
        let last = u32::try_from(self.vocab - 1).unwrap_or(0);
        let mut run = |tokens: &[u32], start: usize| {
            let chunk = SeqChunk {
                tokens,
                start,
                blocks: &[],
                logits: true,
            };
            self.forward(&[chunk], &mut logits)
        };
        run(&[0, last], 0)?;
        run(&[0], 2)?;
        self.computed = None;
        Ok(())
    }

    fn compute(&mut self, chunk: &SeqChunk<'_>) -> Result<Option<Vec<f32>>, StepError> {
        // Until the step is whole, the state of the cache is not known.
        let computed = self.computed.take();
        if chunk.end() > self.context {
            return Err(failed(format!(
                "position {} is beyond the context of {}",
                chunk.end() - 1,
                self.context
            )));
        }
        let last = if chunk.start == 0 {
            self.model.renew(chunk.tokens.len()).map_err(candle)?;
            self.logits(chunk.tokens, 0)?
        } else if computed == Some(chunk.start) {
            // One by one: some of candle's masks are right for a single token or for a whole prompt only.
            let mut last = None;
            for (offset, token) in chunk.tokens.iter().enumerate() {
                last = Some(self.logits(std::slice::from_ref(token), chunk.start + offset)?);
            }
            last.ok_or_else(|| failed("a chunk without tokens".to_owned()))?
        } else {
            return Err(failed(format!(
                "position {} was asked for when {computed:?} are computed",
                chunk.start
            )));
        };
        let row = if chunk.logits {
            Some(self.row(&last)?)
        } else {
            None
        };
        self.computed = Some(chunk.end());
        Ok(row)
    }

    fn logits(&mut self, tokens: &[u32], start: usize) -> Result<Tensor, StepError> {
        Tensor::new(tokens, &self.device)
            .and_then(|tokens| tokens.unsqueeze(0))
            .and_then(|tokens| self.model.logits(&tokens, start))
            .map_err(candle)
    }

    fn row(&self, logits: &Tensor) -> Result<Vec<f32>, StepError> {
        let row: Vec<f32> = logits
            .to_dtype(DType::F32)
            .and_then(|logits| logits.flatten_all()?.to_vec1())
            .map_err(candle)?;
        if row.len() == self.vocab {
            Ok(row)
        } else {
            Err(failed(format!(
                "it gave {} logits for a vocabulary of {}",
                row.len(),
                self.vocab
            )))
        }
    }
}

impl StepModel for SequentialModel {
    fn vocab_size(&self) -> usize {
        self.vocab
    }

    fn context_len(&self) -> usize {
        self.context
    }

    fn kv_blocks(&self) -> usize {
        self.context.div_ceil(BLOCK_TOKENS)
    }

    fn forward(&mut self, step: &[SeqChunk<'_>], logits: &mut Vec<f32>) -> Result<(), StepError> {
        logits.clear();
        let [chunk] = step else {
            return Err(failed(format!(
                "it computes one sequence at a time and was given {}",
                step.len()
            )));
        };
        let row =
            catch_unwind(AssertUnwindSafe(|| self.compute(chunk))).unwrap_or_else(|panic| {
                Err(failed(format!(
                    "candle panicked: {}",
                    panic_text(panic.as_ref())
                )))
            })?;
        if let Some(row) = row {
            *logits = row;
        }
        Ok(())
    }

    fn sequential(&self) -> bool {
        true
    }
}

fn failed(message: String) -> StepError {
    StepError { message }
}

fn candle(error: candle_core::Error) -> StepError {
    failed(candle_text(&error))
}

/// What candle says, without the backtrace that it may append.
pub fn candle_text(error: &candle_core::Error) -> String {
    let text = error.to_string();
    text.lines().next().unwrap_or("no message").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Result as CandleResult;

    /// Adds up what it has seen since it was renewed; panics at token 7.
    struct Adder(f32);

    impl CandleModel for Adder {
        fn renew(&mut self, _prompt: usize) -> CandleResult<()> {
            self.0 = 0.0;
            Ok(())
        }

        fn logits(&mut self, tokens: &Tensor, _start: usize) -> CandleResult<Tensor> {
            for token in tokens.flatten_all()?.to_vec1::<u32>()? {
                assert_ne!(token, 7, "seven");
                self.0 += token as f32;
            }
            Tensor::new(&[[self.0, 0.0]], &Device::Cpu)
        }
    }

    fn run(
        model: &mut SequentialModel,
        tokens: &[u32],
        start: usize,
    ) -> Result<Vec<f32>, StepError> {
        let mut logits = Vec::new();
        let chunk = SeqChunk {
            tokens,
            start,
            blocks: &[],
            logits: true,
        };
        model.forward(&[chunk], &mut logits).map(|()| logits)
    }

    fn adder() -> SequentialModel {
        SequentialModel::new((Box::new(Adder(0.0)), Device::Cpu), 2, 8)
    }

    #[test]
    fn panic_ends_its_sequence_and_the_next_one_runs() {
        let mut model = adder();
        assert_eq!(run(&mut model, &[1, 2], 0).unwrap()[0], 3.0);
        let error = run(&mut model, &[7], 2).unwrap_err();
        assert!(error.message.contains("seven"), "{error}");
        assert!(run(&mut model, &[1], 3).is_err(), "the cache is not known");
        assert_eq!(run(&mut model, &[1], 0).unwrap()[0], 1.0);
    }

    #[test]
    fn several_tokens_after_the_prompt_are_computed_one_by_one() {
        let mut model = adder();
        run(&mut model, &[1], 0).unwrap();
        assert_eq!(run(&mut model, &[2, 3], 1).unwrap()[0], 6.0);
    }

    #[test]
    fn positions_beyond_the_context_and_second_sequences_are_errors() {
        let mut model = adder();
        assert!(run(&mut model, &[1; 9], 0).is_err());
        let chunk = SeqChunk {
            tokens: &[1],
            start: 0,
            blocks: &[],
            logits: false,
        };
        let mut logits = Vec::new();
        assert!(model.forward(&[chunk, chunk], &mut logits).is_err());
    }

    #[test]
    fn wrong_number_of_logits_is_an_error() {
        let mut model = SequentialModel::new((Box::new(Adder(0.0)), Device::Cpu), 3, 8);
        assert!(model.try_out().is_err());
    }
}
