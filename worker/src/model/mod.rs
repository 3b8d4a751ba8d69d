//! Models: from files to something that computes steps.
//!
//! [`load`] reads a model's configuration and weights, plans its memory, and gives a [`StepModel`] with the tokenizer
//! and chat template that belong to it. One [`decoder`] runs all architectures whose configuration it understands, or on a
//! GPU its twin over candle's tensors; some others run through candle's models, one sequence at a time.

pub mod config;
mod control_group;
pub mod decoder;
pub mod device;
pub mod embedding;
mod fallback;
mod gguf_config;
mod gguf_source;
pub mod memory;
pub mod numerics;
pub mod outline;
#[cfg(test)]
mod packing_tests;
mod rope;
mod safetensors_config;
mod safetensors_source;
mod tensors;
mod weights;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::chat_template::{ChatTemplate, TemplateError};
use crate::engine::step::StepModel;
use crate::gguf::{Gguf, GgufError, TensorInfo};
use crate::kernels::Kernel;
use crate::kernels::pack::PackedMatrix;
use crate::kernels::pool::Pool;
use crate::model_files::{ModelFiles, ResolvedModel};
use crate::safetensors::{Safetensors, SafetensorsError};
use crate::tokenizer::{Tokenizer, TokenizerError};

use config::ModelConfig;
use decoder::Decoder;
use device::ComputeDevice;
use memory::{Demand, KvType, MemoryPlan};
use safetensors_source::SafetensorsSource;
use tensors::TensorDecoder;
use weights::{TensorSource, Weights};

/// How a model is loaded. Nothing here but `device`, `kv` and `context` changes a byte of any result.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    pub device: ComputeDevice,
    /// Compute over candle's tensors on the processor too, as on a GPU: other bytes, and slow. For checking that decoder
    /// where there is no GPU.
    pub over_tensors: bool,
    /// Threads that compute.
    pub threads: usize,
    /// Sequences that run at once.
    pub slots: usize,
    /// Memory budget in bytes; without one, a share of what is free.
    pub memory: Option<u64>,
    /// Other models use the memory too: the KV takes its usual size, not all that the budget leaves.
    pub beside_others: bool,
    pub kv: KvType,
    /// Positions of the longest sequence; without a wish, what the model was made for.
    pub context: Option<usize>,
    /// The instruction set; without a wish, the best of the CPU.
    pub kernel: Option<Kernel>,
}

impl LoadOptions {
    /// What the model may take, in bytes.
    fn budget(&self) -> Result<u64, String> {
        self.memory.map_or_else(|| self.device.budget(), Ok)
    }

    fn plan(&self, config: &ModelConfig, weights: u64) -> Result<MemoryPlan, String> {
        let demand = Demand {
            weights,
            slots: self.slots,
            kv: self.kv,
            budget: self.budget()?,
            wished: self.memory.is_some(),
            beside_others: self.beside_others,
        };
        memory::plan(config, demand)
    }

    /// Bytes of a tensor where it is computed with.
    fn tensor_bytes(&self, info: &TensorInfo) -> usize {
        let k = info.shape[0];
        match self.device {
            ComputeDevice::Cpu if info.shape.len() > 1 => {
                PackedMatrix::packed_bytes(info.dtype, info.elements() / k, k)
            }
            // candle has blocks as the file has them, and floats as f32.
            ComputeDevice::Cuda(_) if info.shape.len() > 1 && info.dtype.is_quantised() => {
                info.byte_len()
            }
            _ => info.elements() * 4,
        }
    }
}

/// A model that is ready to compute.
pub struct LoadedModel {
    pub model: Box<dyn StepModel>,
    pub tokenizer: Arc<Tokenizer>,
    /// `None` for a base model.
    pub template: Option<Arc<ChatTemplate>>,
    pub memory: MemoryPlan,
    pub architecture: String,
    /// Whether it runs one sequence at a time.
    pub sequential: bool,
    /// Which nodes compute the same bytes.
    pub numerics: String,
    /// Whether its results are the same bytes on every node of these numerics.
    pub reproducible: bool,
}

/// A model that could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error(transparent)]
    Gguf(#[from] GgufError),
    #[error("the tokenizer of {path} cannot be used: {source}", path = .path.display())]
    Tokenizer {
        path: PathBuf,
        source: TokenizerError,
    },
    #[error("the chat template of {path} cannot be used: {source}", path = .path.display())]
    Template {
        path: PathBuf,
        source: TemplateError,
    },
    #[error(transparent)]
    Safetensors(#[from] SafetensorsError),
    /// The file is sound, but no model that can be computed.
    #[error("{path} cannot be loaded: {problem}", path = .path.display())]
    Unsupported { path: PathBuf, problem: String },
    /// Weights, scratch and the least KV are more than the budget.
    #[error("{path} is too large for the memory: {problem}", path = .path.display())]
    TooLarge { path: PathBuf, problem: String },
}

/// Loads a model that has been resolved to files.
///
/// # Errors
/// The files are damaged, of an architecture or tokenizer that is not known, or too large for the memory.
pub fn load(model: &ResolvedModel, options: &LoadOptions) -> Result<LoadedModel, LoadError> {
    match &model.files {
        ModelFiles::Gguf(paths) => load_gguf(paths, options),
        ModelFiles::Safetensors { dir } => load_safetensors(dir, options),
    }
}

/// Loads a GGUF model from its file, or from the files of a split one in order.
///
/// # Errors
/// The file is damaged, of an architecture or tokenizer that is not known, or too large for the memory.
pub fn load_gguf(paths: &[PathBuf], options: &LoadOptions) -> Result<LoadedModel, LoadError> {
    let gguf = Gguf::open_parts(paths)?;
    if fallback::runs_gguf(&gguf) {
        return fallback::load_gguf(gguf, options);
    }
    let path = gguf.path().to_owned();
    let Described {
        config,
        text,
        weights,
    } = describe_gguf(&gguf, options)?;
    let memory = options
        .plan(&config, weights)
        .map_err(|problem| LoadError::TooLarge {
            path: path.clone(),
            problem,
        })?;
    let source = gguf_source::GgufSource(&gguf);
    let loaded = assemble(config, &source, options, memory, text)
        .map_err(|problem| LoadError::Unsupported { path, problem })?;
    gguf.check_unchanged()?;
    Ok(loaded)
}

/// What a model's files say before its weights are read.
struct Described {
    config: ModelConfig,
    text: Text,
    /// Bytes of the weights in memory.
    weights: u64,
}

fn describe_gguf(gguf: &Gguf, options: &LoadOptions) -> Result<Described, LoadError> {
    let unsupported = |problem: String| LoadError::Unsupported {
        path: gguf.path().to_owned(),
        problem,
    };
    let architecture = gguf.architecture()?;
    if !gguf_config::ARCHITECTURES.contains(&architecture) {
        return Err(unsupported(format!(
            "its architecture is `{architecture}`; rbee runs {}, and one sequence at a time {}",
            gguf_config::ARCHITECTURES.join(", "),
            fallback::gguf_architectures()
        )));
    }
    let config = gguf_config::read(gguf, options.context).map_err(unsupported)?;
    config.validate().map_err(unsupported)?;
    if gguf_config::vocabulary(gguf).is_some_and(|tokens| tokens > config.vocab) {
        return Err(unsupported(
            "its tokenizer has more tokens than its embedding".to_owned(),
        ));
    }
    Ok(Described {
        config,
        text: Text::from_gguf(gguf)?,
        weights: (gguf.tensors())
            .map(|info| options.tensor_bytes(info))
            .sum::<usize>() as u64,
    })
}

/// Loads a safetensors model from its directory.
///
/// # Errors
/// As [`load`].
pub fn load_safetensors(dir: &Path, options: &LoadOptions) -> Result<LoadedModel, LoadError> {
    let model = Safetensors::open(dir)?;
    if fallback::runs_safetensors(&model) {
        return fallback::load_safetensors(&model, Text::from_dir(dir)?, options);
    }
    let (described, source) = describe_safetensors(&model, dir, options)?;
    let Described {
        config,
        text,
        weights,
    } = described;
    let path = || dir.to_owned();
    let memory = options
        .plan(&config, weights)
        .map_err(|problem| LoadError::TooLarge {
            path: path(),
            problem,
        })?;
    let loaded = assemble(config, &source, options, memory, text).map_err(|problem| {
        LoadError::Unsupported {
            path: path(),
            problem,
        }
    })?;
    model.check_unchanged()?;
    Ok(loaded)
}

fn describe_safetensors<'m>(
    model: &'m Safetensors,
    dir: &Path,
    options: &LoadOptions,
) -> Result<(Described, SafetensorsSource<'m>), LoadError> {
    let unsupported = |problem: String| LoadError::Unsupported {
        path: dir.to_owned(),
        problem,
    };
    let kind = safetensors_config::model_type(&model.config).unwrap_or("unknown");
    if kind == embedding::MODEL_TYPE {
        let problem =
            "it gives embeddings and generates no text: send lines with the url /v1/embeddings";
        return Err(unsupported(problem.to_owned()));
    }
    if !safetensors_config::MODEL_TYPES.contains(&kind) {
        return Err(unsupported(format!(
            "its model_type is `{kind}`; rbee runs {}, and one sequence at a time {}",
            safetensors_config::MODEL_TYPES.join(", "),
            fallback::model_types()
        )));
    }
    let config = safetensors_config::read(&model.config, options.context).map_err(unsupported)?;
    config.validate().map_err(unsupported)?;
    let tied = safetensors_config::text_part(&model.config).get("tie_word_embeddings")
        == Some(&serde_json::Value::Bool(true));
    let source = SafetensorsSource::new(model, config.architecture == "gemma3", tied)
        .map_err(unsupported)?;
    let used = model.tensors().filter(|info| source.used(&info.name));
    let weights = used.map(|info| options.tensor_bytes(info)).sum::<usize>() as u64;
    let described = Described {
        config,
        text: Text::from_dir(dir)?,
        weights,
    };
    Ok((described, source))
}

/// How a model's text becomes tokens.
struct Text {
    tokenizer: Arc<Tokenizer>,
    template: Option<Arc<ChatTemplate>>,
}

impl Text {
    fn from_gguf(gguf: &Gguf) -> Result<Text, LoadError> {
        let path = || gguf.path().to_owned();
        let tokenizer = Tokenizer::from_gguf(gguf).map_err(|source| LoadError::Tokenizer {
            path: path(),
            source,
        })?;
        let template =
            ChatTemplate::from_gguf(gguf, &tokenizer).map_err(|source| LoadError::Template {
                path: path(),
                source,
            })?;
        Ok(Text {
            tokenizer: Arc::new(tokenizer),
            template: template.map(Arc::new),
        })
    }

    fn from_dir(dir: &Path) -> Result<Text, LoadError> {
        let path = || dir.to_owned();
        let tokenizer = Tokenizer::from_json(dir).map_err(|source| LoadError::Tokenizer {
            path: path(),
            source,
        })?;
        let template =
            ChatTemplate::from_dir(dir, &tokenizer).map_err(|source| LoadError::Template {
                path: path(),
                source,
            })?;
        Ok(Text {
            tokenizer: Arc::new(tokenizer),
            template: template.map(Arc::new),
        })
    }
}

fn assemble(
    config: ModelConfig,
    source: &dyn TensorSource,
    options: &LoadOptions,
    memory: MemoryPlan,
    text: Text,
) -> Result<LoadedModel, String> {
    let mut pool = Pool::new(options.threads);
    if options.over_tensors || options.device != ComputeDevice::Cpu {
        let device = options.device.open()?;
        let architecture = config.architecture.clone();
        let room = (options.kv, memory.kv_blocks);
        let model = TensorDecoder::load(config, source, (device, &mut pool), room)?;
        return Ok(LoadedModel {
            model: Box::new(model),
            tokenizer: text.tokenizer,
            template: text.template,
            memory,
            numerics: numerics::of_candle(&architecture, options.device),
            architecture,
            sequential: false,
            reproducible: false,
        });
    }
    let kernel = options.kernel.unwrap_or_else(Kernel::detect);
    let weights = Weights::load(&config, source, &mut pool)?;
    let architecture = config.architecture.clone();
    let model: Box<dyn StepModel> = match options.kv {
        KvType::F16 => Box::new(Decoder::<u16>::new(
            config,
            weights,
            kernel,
            pool,
            memory.kv_blocks,
        )),
        KvType::F32 => Box::new(Decoder::<f32>::new(
            config,
            weights,
            kernel,
            pool,
            memory.kv_blocks,
        )),
    };
    Ok(LoadedModel {
        model,
        tokenizer: text.tokenizer,
        template: text.template,
        memory,
        architecture,
        sequential: false,
        numerics: numerics::digest(kernel, options.kv),
        reproducible: true,
    })
}
