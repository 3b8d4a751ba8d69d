//! The prompts that are measured: made up, of a given number of tokens, each different.

use rbee_queue::{Endpoint, Input, JobKey, Params, Request};
use rbee_worker::engine::{EngineJob, Priority};
use rbee_worker::tokenizer::{ParseSpecial, Tokenizer};

use crate::moment;

const WORDS: [&str; 32] = [
    "river", "letter", "garden", "winter", "copper", "window", "island", "market", "silver",
    "thunder", "meadow", "candle", "harbour", "number", "orchard", "paper", "quiet", "ribbon",
    "shadow", "travel", "valley", "whistle", "yellow", "zebra", "open", "carry", "under", "before",
    "small", "bright", "north", "seven",
];
/// A word is seldom more tokens than this; the text is cut afterwards.
const SPARE_WORDS: u32 = 2;

/// A text of `tokens` tokens, or a few less; another one for each `number`.
pub fn prompt(tokenizer: &Tokenizer, number: u64, tokens: u32) -> String {
    let mut state = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let words = (0..tokens + SPARE_WORDS).map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        WORDS[(state >> 32) as usize % WORDS.len()]
    });
    let mut text = words.collect::<Vec<_>>().join(" ");
    let length = |text: &str| tokenizer.encode(text, ParseSpecial::No).len();
    let mut surplus = length(&text).saturating_sub(tokens as usize);
    while surplus > 0 {
        let end = text.char_indices().rev().nth(surplus - 1);
        text.truncate(end.map_or(0, |(at, _)| at));
        surplus = length(&text).saturating_sub(tokens as usize);
    }
    text
}

/// A job that continues a raw prompt for exactly `new_tokens` tokens.
pub fn job(id: u64, text: String, new_tokens: u32) -> EngineJob {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&id.to_le_bytes());
    EngineJob {
        id,
        request: Request {
            endpoint: Endpoint::Completions,
            model: "bench".into(),
            input: Input::Prompt { text, raw: true },
            params: Params {
                max_tokens: new_tokens,
                temperature: 0.0,
                ignore_eos: true,
                ..Params::default()
            },
        },
        job_key: JobKey(key),
        batch_seed: 0,
        template_date: moment::today(),
        priority: Priority::Batch,
        stream: false,
    }
}
