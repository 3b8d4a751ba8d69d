//! A model without its weights: how its text becomes tokens, what it can hold, what memory it would take.
//!
//! For plans that are made before anything is computed. A model that only candle runs is loaded for it, since candle
//! reads configuration and weights in one.

use super::config::ModelConfig;
use super::memory::MemoryPlan;
use super::{
    Described, LoadError, LoadOptions, LoadedModel, describe_gguf, describe_safetensors, fallback,
};
use super::{Text, load};
use crate::engine::TextFace;
use crate::engine::prepare::Limits;
use crate::engine::step::BLOCK_TOKENS;
use crate::gguf::Gguf;
use crate::model_files::{ModelFiles, ResolvedModel};
use crate::safetensors::Safetensors;

/// What is known of a model before it is loaded.
pub struct Outline {
    /// How its text becomes tokens.
    pub text: TextFace,
    /// The file's name for what it is.
    pub architecture: String,
    /// Whether it runs one sequence at a time.
    pub sequential: bool,
    vocab_size: usize,
    context_len: usize,
    size: Size,
}

enum Size {
    /// It can be planned for any memory.
    Planned {
        config: Box<ModelConfig>,
        weights: u64,
    },
    /// It was loaded, and takes this.
    Taken(MemoryPlan),
}

impl Outline {
    /// Reads what the files say.
    ///
    /// # Errors
    /// As [`load`], but for a model that is too large for the memory.
    pub fn read(model: &ResolvedModel, options: &LoadOptions) -> Result<Outline, LoadError> {
        match &model.files {
            ModelFiles::Gguf(paths) => {
                let gguf = Gguf::open_parts(paths)?;
                if !fallback::runs_gguf(&gguf) {
                    return Ok(Outline::of(describe_gguf(&gguf, options)?));
                }
            }
            ModelFiles::Safetensors { dir } => {
                let files = Safetensors::open(dir)?;
                if !fallback::runs_safetensors(&files) {
                    let (described, _) = describe_safetensors(&files, dir, options)?;
                    return Ok(Outline::of(described));
                }
            }
        }
        Ok(Outline::of_loaded(load(model, options)?))
    }

    fn of(described: Described) -> Outline {
        let Described {
            config,
            text: Text {
                tokenizer,
                template,
            },
            weights,
        } = described;
        Outline {
            text: TextFace {
                tokenizer,
                template,
            },
            architecture: config.architecture.clone(),
            sequential: false,
            vocab_size: config.vocab,
            context_len: config.context,
            size: Size::Planned {
                config: Box::new(config),
                weights,
            },
        }
    }

    /// Of a model that is in memory already.
    pub fn of_loaded(loaded: LoadedModel) -> Outline {
        Outline {
            text: TextFace {
                tokenizer: loaded.tokenizer,
                template: loaded.template,
            },
            architecture: loaded.architecture,
            sequential: loaded.sequential,
            vocab_size: loaded.model.vocab_size(),
            context_len: loaded.model.context_len(),
            size: Size::Taken(loaded.memory),
        }
    }

    /// The memory that it would take with these options.
    ///
    /// # Errors
    /// A clause that says how much is missing and what helps.
    pub fn memory(&self, options: &LoadOptions) -> Result<MemoryPlan, String> {
        match &self.size {
            Size::Planned { config, weights } => options.plan(config, *weights),
            Size::Taken(plan) => match options.memory {
                Some(budget) if budget < plan.total() => Err(format!(
                    "it needs {} bytes and {budget} may be used",
                    plan.total()
                )),
                _ => Ok(*plan),
            },
        }
    }

    /// What a job must keep to where the model has this memory; without, what it was made for.
    pub fn limits(&self, memory: Option<&MemoryPlan>) -> Limits {
        let room = memory.map_or(usize::MAX, |plan| plan.kv_blocks * BLOCK_TOKENS);
        let context_len = match self.size {
            Size::Planned { .. } => self.context_len.min(room),
            Size::Taken(_) => self.context_len,
        };
        Limits {
            context_len,
            kv_positions: room.max(context_len),
            vocab_size: self.vocab_size,
        }
    }
}
