//! An rbee node: model files, tokenizers and the batch inference engine.

pub mod chat_template;
pub mod engine;
pub mod face;
pub mod gguf;
pub mod model;
pub mod model_files;
pub mod node;
pub mod safetensors;
pub mod tokenizer;

pub use rbee_kernels as kernels;
