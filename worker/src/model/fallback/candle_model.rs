//! What all of candle's models have in common: logits of the last token, a private cache, and a way to begin anew.
//!
//! Some of them clear their cache at position 0, some by a method, some never; some keep every attention mask they have
//! ever made. So none is trusted to: a new sequence gets a model without history, by [`Cloned`] where the model can be
//! cloned (its weights are shared, only the cache is its own) and by [`Rebuilt`] where it cannot.

use candle_core::{Result, Tensor};

/// One of candle's models, with the cache of one sequence.
pub trait CandleModel: Send {
    /// Forgets everything but the weights. `prompt` is the number of tokens that come next.
    fn renew(&mut self, prompt: usize) -> Result<()>;

    /// Logits of the last of `tokens` (shape `[1, n]`), which stand at `start` and after in the sequence.
    fn logits(&mut self, tokens: &Tensor, start: usize) -> Result<Tensor>;
}

/// How a model computes its logits.
pub type Forward<M> = fn(&mut M, &Tensor, usize) -> Result<Tensor>;

/// A model whose clones share their weights.
pub struct Cloned<M> {
    fresh: M,
    running: M,
    forward: Forward<M>,
}

impl<M: Clone + Send + 'static> Cloned<M> {
    /// `fresh` has computed nothing yet.
    pub fn boxed(fresh: M, forward: Forward<M>) -> Box<dyn CandleModel> {
        Box::new(Cloned {
            running: fresh.clone(),
            fresh,
            forward,
        })
    }
}

impl<M: Clone + Send> CandleModel for Cloned<M> {
    fn renew(&mut self, _prompt: usize) -> Result<()> {
        self.running = self.fresh.clone();
        Ok(())
    }

    fn logits(&mut self, tokens: &Tensor, start: usize) -> Result<Tensor> {
        (self.forward)(&mut self.running, tokens, start)
    }
}

/// A model that is made again from its weights.
pub struct Rebuilt<M> {
    /// `None` after a rebuild that failed.
    running: Option<M>,
    forward: Forward<M>,
    build: Box<dyn FnMut() -> Result<M> + Send>,
    /// Whether a sequence whose prompt has so many tokens needs a new model. Asked once a sequence.
    due: Box<dyn FnMut(usize) -> bool + Send>,
}

impl<M: Send + 'static> Rebuilt<M> {
    /// # Errors
    /// When the model cannot be built.
    pub fn boxed(
        mut build: Box<dyn FnMut() -> Result<M> + Send>,
        forward: Forward<M>,
        due: Box<dyn FnMut(usize) -> bool + Send>,
    ) -> Result<Box<dyn CandleModel>> {
        Ok(Box::new(Rebuilt {
            running: Some(build()?),
            forward,
            build,
            due,
        }))
    }
}

impl<M: Send> CandleModel for Rebuilt<M> {
    fn renew(&mut self, prompt: usize) -> Result<()> {
        if (self.due)(prompt) || self.running.is_none() {
            // The old one goes first, so that there are never two.
            self.running = None;
            self.running = Some((self.build)()?);
        }
        Ok(())
    }

    fn logits(&mut self, tokens: &Tensor, start: usize) -> Result<Tensor> {
        let Some(model) = &mut self.running else {
            candle_core::bail!("the model could not be made again for this sequence")
        };
        (self.forward)(model, tokens, start)
    }
}
