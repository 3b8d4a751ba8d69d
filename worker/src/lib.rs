//! An rbee node: model files, tokenizers and the batch inference engine.

pub mod engine;
