//! How many prompt tokens a step may hold so that no step takes long: decided from measured times. The bytes of a
//! result do not depend on it.

use super::step::MAX_CHUNK_TOKENS;
use std::time::Duration;

/// What a step may take, so that cancel and hand-over are quick with large models too.
pub const STEP_BUDGET: Duration = Duration::from_millis(250);
/// First guess, before anything was measured: little, for the model may be large and the machine slow.
const FIRST_CHUNK_TOKENS: usize = 16;
/// Fewest prompt tokens a step, however slow the model.
const MIN_CHUNK_TOKENS: usize = 8;
/// Weight of the newest measurement in the running mean.
const NEWEST: f64 = 0.3;
/// Part of the budget that prompt tokens get at least, when decoding alone takes it all.
const LEAST_SHARE: f64 = 0.25;
/// Part of a step's time that counts as theirs at least, when the step was as short as one that only decodes.
const LEAST_COST: f64 = 0.1;

/// Sizes the prompt part of steps.
#[derive(Debug, Clone)]
pub struct ChunkSizer {
    fixed: Option<usize>,
    last: usize,
    /// Seconds of a step that only decodes.
    decode_s: Option<f64>,
    /// Seconds a prompt token.
    prompt_token_s: Option<f64>,
}

fn mean(old: Option<f64>, new: f64) -> Option<f64> {
    Some(old.map_or(new, |old| old + (new - old) * NEWEST))
}

impl ChunkSizer {
    /// `chunk_tokens` fixes the size; 0 measures.
    pub fn new(chunk_tokens: usize) -> ChunkSizer {
        ChunkSizer {
            fixed: (chunk_tokens > 0).then(|| chunk_tokens.min(MAX_CHUNK_TOKENS)),
            last: FIRST_CHUNK_TOKENS,
            decode_s: None,
            prompt_token_s: None,
        }
    }

    /// Takes the duration of a step that computed `prompt_tokens` beside decoding.
    pub fn record(&mut self, prompt_tokens: usize, step: Duration) {
        let step_s = step.as_secs_f64();
        if prompt_tokens == 0 {
            self.decode_s = mean(self.decode_s, step_s);
            return;
        }
        let decode_s = self.decode_s.unwrap_or(0.0);
        let prompt_s = (step_s - decode_s).max(step_s * LEAST_COST);
        self.prompt_token_s = mean(self.prompt_token_s, prompt_s / prompt_tokens as f64);
    }

    /// Most prompt tokens of the next step. It at most doubles from one call to the next.
    pub fn chunk_tokens(&mut self) -> usize {
        if let Some(fixed) = self.fixed {
            return fixed;
        }
        let Some(prompt_token_s) = self.prompt_token_s else {
            return self.last;
        };
        let budget_s = STEP_BUDGET.as_secs_f64();
        let for_prompts = (budget_s - self.decode_s.unwrap_or(0.0)).max(budget_s * LEAST_SHARE);
        // A float cast saturates, so a time of zero gives the greatest size.
        let wanted = (for_prompts / prompt_token_s) as usize;
        self.last = wanted
            .min(self.last * 2)
            .clamp(MIN_CHUNK_TOKENS, MAX_CHUNK_TOKENS);
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_model_gets_chunks_that_keep_the_step_short() {
        let mut sizer = ChunkSizer::new(0);
        for _ in 0..20 {
            let tokens = sizer.chunk_tokens();
            sizer.record(tokens, Duration::from_millis(5) * tokens as u32);
        }
        assert!((49..=50).contains(&sizer.chunk_tokens()), "{sizer:?}");
    }

    #[test]
    fn fast_model_reaches_the_greatest_chunk() {
        let mut sizer = ChunkSizer::new(0);
        for _ in 0..10 {
            let tokens = sizer.chunk_tokens();
            sizer.record(tokens, Duration::ZERO);
        }
        assert_eq!(sizer.chunk_tokens(), MAX_CHUNK_TOKENS);
    }

    #[test]
    fn decoding_time_is_taken_off_the_budget() {
        let mut sizer = ChunkSizer::new(0);
        sizer.record(0, Duration::from_millis(150));
        sizer.record(25, Duration::from_millis(250));
        assert_eq!(sizer.chunk_tokens(), 25);
    }

    #[test]
    fn fixed_size_stays() {
        let mut sizer = ChunkSizer::new(7);
        sizer.record(7, Duration::from_secs(9));
        assert_eq!(sizer.chunk_tokens(), 7);
    }
}
