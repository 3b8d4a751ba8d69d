//! Models that turn a text into a vector: BERT and its kin, from a folder as sentence-transformers writes it.
//!
//! One text is computed at a time, in the order of sums of numerics v1, so that its vector never depends on what is asked
//! beside it, on threads or on the instruction set. Candle's BERT is what the results are tested against.

mod bert;
mod config;
mod pooling;
mod text;

use std::path::Path;

use rbee_queue::JobError;
use rbee_queue::request::EmbedText;

use crate::engine::embedding::{INVALID_INPUT, VectorModel};
use crate::engine::prepare::ENGINE_ERROR;
use crate::kernels::Kernel;
use crate::kernels::pool::Pool;
use crate::model_files::{ModelFiles, ResolvedModel};
use crate::safetensors::Safetensors;

use super::memory::{self, MemoryPlan};
use super::weights::{RawTensor, TensorSource};
use super::{LoadError, LoadOptions, numerics};
use bert::Bert;
use config::BertConfig;
use pooling::Pooling;
use text::TextTokens;

/// The one `model_type` that is run.
pub const MODEL_TYPE: &str = "bert";

/// Whether a model gives vectors. Files that cannot be read do not: loading them says why.
pub fn gives_vectors(model: &ResolvedModel) -> bool {
    match &model.files {
        ModelFiles::Gguf(_) => false,
        ModelFiles::Safetensors { dir } => Safetensors::open(dir).is_ok_and(|files| {
            super::safetensors_config::model_type(&files.config) == Some(MODEL_TYPE)
        }),
    }
}

/// A model of embeddings that is ready to compute.
pub struct LoadedVectorModel {
    pub model: Embedder,
    pub memory: MemoryPlan,
    /// Which nodes compute the same bytes.
    pub numerics: String,
}

/// Loads a model for which [`gives_vectors`] is true.
///
/// # Errors
/// As [`super::load`].
pub fn load(model: &ResolvedModel, options: &LoadOptions) -> Result<LoadedVectorModel, LoadError> {
    let ModelFiles::Safetensors { dir } = &model.files else {
        return Err(LoadError::Unsupported {
            path: model.requested.clone().into(),
            problem: "a GGUF file of embeddings is not supported: give a safetensors folder"
                .to_owned(),
        });
    };
    load_dir(dir, options)
}

/// [`load`] from a folder.
///
/// # Errors
/// As [`super::load`].
pub fn load_dir(dir: &Path, options: &LoadOptions) -> Result<LoadedVectorModel, LoadError> {
    let unsupported = |problem: String| LoadError::Unsupported {
        path: dir.to_owned(),
        problem,
    };
    let files = Safetensors::open(dir)?;
    let config = BertConfig::read(&files.config).map_err(unsupported)?;
    let pooling = Pooling::read(dir, config.hidden).map_err(unsupported)?;
    let text = TextTokens::read(dir, &config).map_err(unsupported)?;
    let memory = plan(&config, files.tensor_bytes(), options);
    if memory.total() > memory.budget {
        return Err(LoadError::TooLarge {
            path: dir.to_owned(),
            problem: format!("it takes {memory}: raise --memory"),
        });
    }
    let kernel = options.kernel.unwrap_or_else(Kernel::detect);
    let pool = Pool::new(options.threads);
    let source = BertTensors::new(&files);
    let bert = Bert::load(config, &source, kernel, pool).map_err(unsupported)?;
    files.check_unchanged()?;
    Ok(LoadedVectorModel {
        model: Embedder {
            bert,
            pooling,
            text,
        },
        memory,
        numerics: numerics::digest(kernel, options.kv),
    })
}

fn plan(config: &BertConfig, weights: u64, options: &LoadOptions) -> MemoryPlan {
    MemoryPlan {
        weights,
        kv: 0,
        scratch: (config.positions * config.floats_of_token() * size_of::<f32>()) as u64
            + memory::PROCESS_BYTES,
        budget: options.memory.unwrap_or_else(memory::default_budget),
        kv_blocks: 0,
    }
}

/// Gives the vectors of texts.
pub struct Embedder {
    bert: Bert,
    pooling: Pooling,
    text: TextTokens,
}

impl VectorModel for Embedder {
    fn width(&self) -> usize {
        self.bert.config().hidden
    }

    fn tokens(&self, text: &EmbedText) -> Result<Vec<u32>, JobError> {
        let tokens = match text {
            EmbedText::Text(text) => self.text.encode(text)?,
            EmbedText::Tokens(tokens) => tokens.clone(),
        };
        let vocab = self.bert.config().vocab;
        if let Some(unknown) = tokens.iter().find(|id| **id as usize >= vocab) {
            let message = format!(
                "The model has no token {unknown}: its tokens are 0 to {}.",
                vocab - 1
            );
            return Err(JobError::new(INVALID_INPUT, message));
        }
        self.text.check_length(tokens.len())?;
        Ok(tokens)
    }

    fn vector(&mut self, tokens: &[u32]) -> Result<Vec<f32>, JobError> {
        let rows = self.bert.run(tokens);
        let vector = self.pooling.pool(&rows, self.bert.config().hidden);
        if vector.iter().all(|x| x.is_finite()) {
            return Ok(vector);
        }
        let message = "The model gave numbers that are not finite for this text.";
        Err(JobError::new(ENGINE_ERROR, message))
    }
}

/// The tensors of a BERT, with or without the prefix that whole models give them.
struct BertTensors<'a> {
    files: &'a Safetensors,
    prefix: &'static str,
}

impl<'a> BertTensors<'a> {
    fn new(files: &'a Safetensors) -> BertTensors<'a> {
        let probe = "bert.embeddings.word_embeddings.weight";
        let prefix = match files.tensor(probe) {
            Some(_) => "bert.",
            None => "",
        };
        BertTensors { files, prefix }
    }

    fn find(&self, name: &str) -> Option<crate::gguf::Tensor<'a>> {
        let name = format!("{}{name}", self.prefix);
        let old = || {
            let (norm, kind) = name.rsplit_once('.')?;
            let kind = match kind {
                "weight" => "gamma",
                "bias" => "beta",
                _ => return None,
            };
            self.files.tensor(&format!("{norm}.{kind}"))
        };
        self.files.tensor(&name).or_else(old)
    }
}

impl TensorSource for BertTensors<'_> {
    fn tensor(&self, name: &str) -> Option<RawTensor<'_>> {
        let tensor = self.find(name)?;
        let k = tensor.info.shape[0];
        Some(RawTensor {
            dtype: tensor.info.dtype,
            n: tensor.info.elements() / k,
            k,
            data: tensor.data.into(),
        })
    }

    fn release(&self, name: &str) {
        if let Some(tensor) = self.find(name) {
            self.files.release(&tensor.info.name);
        }
    }
}

#[cfg(test)]
mod tests;
