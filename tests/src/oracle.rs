//! candle-transformers' own models, one sequence at a time, as a second opinion on the same files.
//!
//! Known differences, so that no test asks for what it cannot have: its `quantized_llama` knows no rope factors and no
//! head length of its own; `quantized_gemma3` uses SiLU where Gemma uses GELU; both Gemma models let a local layer see
//! one position more than its window; `phi3` multiplies by longrope's factors where the paper divides.

use std::fs::File;
use std::path::Path;

use candle_core::quantized::gguf_file;
use candle_core::{DType, Device, Result, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::{
    gemma3, llama, phi3, quantized_llama, quantized_phi3, quantized_qwen2, quantized_qwen3, qwen2,
    qwen3,
};

use crate::checkpoint::Checkpoint;
use crate::spec::Family;
use crate::to_safetensors::{config_json, tensors};

type Forward = dyn FnMut(&Tensor, usize) -> Result<Tensor>;

/// A sequential model: logits of the last of some tokens that follow `start` earlier ones.
pub struct Oracle {
    forward: Box<Forward>,
}

impl Oracle {
    /// candle's quantised model of a GGUF file.
    pub fn open(path: &Path) -> Oracle {
        let mut file =
            File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let content = gguf_file::Content::read(&mut file).expect("candle reads the file");
        let architecture = match content.metadata.get("general.architecture") {
            Some(gguf_file::Value::String(name)) => name.clone(),
            other => panic!("no architecture: {other:?}"),
        };
        Oracle::quantised(&architecture, content, &mut file).expect("candle loads the model")
    }

    fn quantised(
        architecture: &str,
        content: gguf_file::Content,
        file: &mut File,
    ) -> Result<Oracle> {
        let cpu = Device::Cpu;
        Ok(match architecture {
            "llama" => {
                let mut model = quantized_llama::ModelWeights::from_gguf(content, file, &cpu)?;
                Oracle::new(move |tokens, start| model.forward(tokens, start))
            }
            "qwen2" => {
                let mut model = quantized_qwen2::ModelWeights::from_gguf(content, file, &cpu)?;
                Oracle::new(move |tokens, start| model.forward(tokens, start))
            }
            "qwen3" => {
                let mut model = quantized_qwen3::ModelWeights::from_gguf(content, file, &cpu)?;
                Oracle::new(move |tokens, start| model.forward(tokens, start))
            }
            "phi3" => {
                let mut model =
                    quantized_phi3::ModelWeights::from_gguf(false, content, file, &cpu)?;
                Oracle::new(move |tokens, start| model.forward(tokens, start))
            }
            other => panic!("no quantised oracle for {other}"),
        })
    }

    /// candle's f32 model of a checkpoint.
    pub fn of(checkpoint: &Checkpoint) -> Oracle {
        Oracle::dense(checkpoint).expect("candle loads the model")
    }

    fn dense(checkpoint: &Checkpoint) -> Result<Oracle> {
        let map = tensors(checkpoint, DType::F32).into_iter().collect();
        let weights = VarBuilder::from_tensors(map, DType::F32, &Device::Cpu);
        let config = config_json(checkpoint).to_string();
        Ok(match checkpoint.spec.family {
            Family::Llama => {
                let config: llama::LlamaConfig = parsed(&config);
                let config = config.into_config(false);
                let mut cache = llama::Cache::new(true, DType::F32, &config, &Device::Cpu)?;
                let model = llama::Llama::load(weights, &config)?;
                Oracle::new(move |tokens, start| model.forward(tokens, start, &mut cache))
            }
            Family::Qwen2 => {
                let mut model = qwen2::ModelForCausalLM::new(&parsed(&config), weights)?;
                Oracle::new(move |tokens, start| model.forward(tokens, start))
            }
            Family::Qwen3 => {
                let mut model = qwen3::ModelForCausalLM::new(&parsed(&config), weights)?;
                Oracle::new(move |tokens, start| model.forward(tokens, start))
            }
            Family::Phi3 => {
                let mut model = phi3::Model::new(&parsed(&config), weights)?;
                Oracle::new(move |tokens, start| model.forward(tokens, start))
            }
            Family::Gemma3 => {
                let mut model = gemma3::Model::new(false, &parsed(&config), weights)?;
                Oracle::new(move |tokens, start| model.forward(tokens, start))
            }
        })
    }

    fn new(forward: impl FnMut(&Tensor, usize) -> Result<Tensor> + 'static) -> Oracle {
        Oracle {
            forward: Box::new(forward),
        }
    }

    /// The logits after the last of `tokens`; `start` tokens were given before.
    pub fn logits(&mut self, tokens: &[u32], start: usize) -> Vec<f32> {
        let tokens = Tensor::new(tokens, &Device::Cpu).and_then(|tokens| tokens.unsqueeze(0));
        let logits = tokens
            .and_then(|tokens| (self.forward)(&tokens, start))
            .and_then(|logits| logits.flatten_all()?.to_vec1());
        logits.expect("candle computes the logits")
    }
}

fn parsed<T: serde::de::DeserializeOwned>(config: &str) -> T {
    serde_json::from_str(config).expect("candle reads the config")
}
