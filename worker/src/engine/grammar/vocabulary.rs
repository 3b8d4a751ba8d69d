//! A model's vocabulary as the grammar engine sees it: the bytes that each token adds to an answer.

use crate::engine::prepare::ENGINE_ERROR;
use crate::tokenizer::Tokenizer;
use llguidance::ParserFactory;
use llguidance::api::ParserLimits;
use rbee_queue::JobError;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use toktrie::{ApproximateTokEnv, TokEnv, TokRxInfo, TokTrie};

/// Longer tokens cannot be told apart by the trie; no grammar needs them.
const MAX_TOKEN_BYTES: usize = 512;
/// This byte is in no text, and marks special tokens in a trie.
const MARKER: u8 = TokTrie::SPECIAL_TOKEN_MARKER;

/// States of the lexer that a form may come to, at one or two kilobytes each.
const MAX_LEXER_STATES: usize = 20_000;
/// Work of making the lexer: some twenty milliseconds.
const INITIAL_LEXER_FUEL: u64 = 1_000_000;
/// Work of the lexer for one mask: some ten milliseconds.
const STEP_LEXER_FUEL: u64 = 150_000;
/// Items of the parser for one mask: some three milliseconds.
const STEP_MAX_ITEMS: usize = 50_000;
/// Symbols of a grammar.
const MAX_GRAMMAR_SIZE: usize = 200_000;

/// The limits of one form.
fn limits() -> ParserLimits {
    ParserLimits {
        initial_lexer_fuel: INITIAL_LEXER_FUEL,
        step_lexer_fuel: STEP_LEXER_FUEL,
        step_max_items: STEP_MAX_ITEMS,
        max_lexer_states: MAX_LEXER_STATES,
        max_grammar_size: MAX_GRAMMAR_SIZE,
        // It would spend time that no limit bounds.
        precompute_large_lexemes: false,
        verbose_errors: false,
        ..ParserLimits::default()
    }
}

/// What grammars are compiled by.
///
/// Its vocabulary has one token more than the model's, which stands for the end of an answer: which of the model's tokens
/// end one is the job's matter.
pub fn factory(tokenizer: &Tokenizer) -> Result<ParserFactory, JobError> {
    let made = catch_unwind(AssertUnwindSafe(|| {
        let end = tokenizer.vocab_size() as u32;
        let mut words: Vec<Vec<u8>> = (0..end).map(|id| word(tokenizer, id)).collect();
        words.push(Vec::new());
        let trie = TokTrie::from(&TokRxInfo::new(words.len() as u32, end), &words);
        let environment: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        ParserFactory::new_simple(&environment)
    }));
    let mut factory = match made {
        Ok(Ok(factory)) => factory,
        Ok(Err(error)) => return Err(unusable(&error.to_string())),
        Err(panic) => return Err(unusable(crate::engine::forward::panic_text(panic.as_ref()))),
    };
    factory.quiet();
    *factory.limits_mut() = limits();
    Ok(factory)
}

/// What a token adds; nothing if no grammar may use it, as control tokens.
fn word(tokenizer: &Tokenizer, id: u32) -> Vec<u8> {
    let bytes = tokenizer.token_bytes(id);
    match bytes.len() > MAX_TOKEN_BYTES || bytes.contains(&MARKER) {
        true => Vec::new(),
        false => bytes.to_vec(),
    }
}

fn unusable(why: &str) -> JobError {
    let message = format!("The model's vocabulary cannot be held to a form: {why}.");
    JobError::new(ENGINE_ERROR, message)
}
