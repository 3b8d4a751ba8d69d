//! The stub engine: a model without weights, for tests of everything around a model.
//!
//! Its text derives from the tokens seen so far and nothing else, and it goes through the same planner, KV blocks,
//! sampler and tokenizer code as a real one. Its "KV" is a running hash a position, kept in the blocks it is given, so
//! that a wrong block or position shows in the text. It answers in lower-case words and ends by itself, after
//! [`MEAN_TOKENS`] tokens on average.

use super::TextFace;
use super::randomness::mix;
use super::step::{BLOCK_TOKENS, BlockId, SeqChunk, StepError, StepModel};
use crate::chat_template::ChatTemplate;
use crate::tokenizer::Tokenizer;
use std::sync::Arc;
use std::time::Duration;

/// Mean length of an answer that nothing cuts, in tokens.
pub const MEAN_TOKENS: u64 = 32;
/// Most positions of a sequence.
pub const STUB_CONTEXT: usize = 32_768;
/// The shortest answer that ends by itself, in tokens: no prompt is answered by nothing.
const FEWEST_TOKENS: u16 = 6;
/// Mean KV positions a slot beyond the one sequence that may fill the context.
const POSITIONS_A_SLOT: usize = 1024;
/// The end token of [`Tokenizer::bytes`], after the 256 bytes.
const EOS: usize = 256;
const VOCAB: usize = 257;
/// Logits of the token that greedy takes, of its few rivals, and of all others.
const BEST: f32 = 12.0;
const RIVAL: f32 = 8.0;
const REST: f32 = -12.0;
const RIVALS: u64 = 3;
/// Every member of every message shows in the prompt, so that the answer depends on all of it.
const TEMPLATE: &str = "{% if tools %}{{ tools | tojson }}\n{% endif %}{% for message in messages %}{{ message | tojson }}\n{% endfor %}";

/// Settings of the stub engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StubOptions {
    /// Slots that the KV is made for.
    pub slots: usize,
    /// How long a step takes: each sequence gets one token a step, however many there are.
    pub token_time: Duration,
    /// KV blocks; `None` for plenty.
    pub kv_blocks: Option<usize>,
}

impl Default for StubOptions {
    fn default() -> Self {
        StubOptions {
            slots: super::options::DEFAULT_SLOTS,
            token_time: Duration::ZERO,
            kv_blocks: None,
        }
    }
}

/// Bytes of one KV block.
pub const BLOCK_BYTES: u64 = (BLOCK_TOKENS * size_of::<State>()) as u64;

/// What the stub remembers of a position.
#[derive(Debug, Clone, Copy, Default)]
struct State {
    /// Hash of all tokens up to here.
    hash: u64,
    /// How many tokens up to here are what the stub itself would have said: in a prompt hardly any, so this tells how
    /// long the answer is.
    own: u16,
}

impl State {
    fn after(self, token: u32) -> State {
        let own = if token as usize == self.best() {
            self.own.saturating_add(1)
        } else {
            0
        };
        let hash = mix(self.hash ^ (u64::from(token) + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        State { hash, own }
    }

    /// The likeliest next token.
    fn best(self) -> usize {
        let ends = self.own >= FEWEST_TOKENS
            && mix(self.hash ^ 1).is_multiple_of(MEAN_TOKENS - u64::from(FEWEST_TOKENS));
        if ends {
            EOS
        } else {
            letter(mix(self.hash ^ 2))
        }
    }
}

/// A space once in six, else a letter.
fn letter(hash: u64) -> usize {
    if hash.is_multiple_of(6) {
        usize::from(b' ')
    } else {
        usize::from(b'a') + (hash >> 8) as usize % 26
    }
}

/// The stub's model.
#[derive(Debug)]
pub struct StubModel {
    kv: Vec<[State; BLOCK_TOKENS]>,
    token_time: Duration,
}

impl StubModel {
    /// A model with room for at least one whole context.
    pub fn new(options: &StubOptions) -> StubModel {
        let plenty = (STUB_CONTEXT + options.slots * POSITIONS_A_SLOT) / BLOCK_TOKENS;
        let blocks = options.kv_blocks.unwrap_or(plenty);
        StubModel {
            kv: vec![[State::default(); BLOCK_TOKENS]; blocks],
            token_time: options.token_time,
        }
    }

    fn state(&mut self, blocks: &[BlockId], position: usize) -> &mut State {
        let block = blocks[position / BLOCK_TOKENS].0 as usize;
        &mut self.kv[block][position % BLOCK_TOKENS]
    }
}

impl StepModel for StubModel {
    fn vocab_size(&self) -> usize {
        VOCAB
    }

    fn context_len(&self) -> usize {
        STUB_CONTEXT
    }

    fn kv_blocks(&self) -> usize {
        self.kv.len()
    }

    fn forward(&mut self, step: &[SeqChunk<'_>], logits: &mut Vec<f32>) -> Result<(), StepError> {
        logits.clear();
        for chunk in step {
            let mut state = match chunk.start {
                0 => State::default(),
                start => *self.state(chunk.blocks, start - 1),
            };
            for (offset, &token) in chunk.tokens.iter().enumerate() {
                state = state.after(token);
                *self.state(chunk.blocks, chunk.start + offset) = state;
            }
            if chunk.logits {
                let row = logits.len();
                logits.resize(row + VOCAB, REST);
                for rival in 0..RIVALS {
                    logits[row + letter(mix(state.hash ^ (3 + rival)))] = RIVAL - rival as f32;
                }
                logits[row + state.best()] = BEST;
            }
        }
        if !self.token_time.is_zero() {
            std::thread::sleep(self.token_time);
        }
        Ok(())
    }
}

/// The stub's model and its text face: bytes as tokens, and messages written down as JSON.
pub fn load(options: &StubOptions) -> (Box<dyn StepModel>, TextFace) {
    let tokenizer = Arc::new(Tokenizer::bytes());
    let template = ChatTemplate::new(TEMPLATE, &tokenizer).expect("the stub's template is valid");
    let text = TextFace {
        tokenizer,
        template: Some(Arc::new(template)),
    };
    (Box::new(StubModel::new(options)), text)
}
