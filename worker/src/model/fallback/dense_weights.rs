//! The tensors of a safetensors model in f32, which is what candle computes in here.

use std::collections::HashMap;

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::VarBuilder;
use half::{bf16, f16};

use crate::gguf;
use crate::gguf::BlockType;
use crate::safetensors::Safetensors;

/// The name of the output matrix.
const HEAD: &str = "lm_head.weight";

/// Tensors by name, on one device.
pub struct DenseWeights {
    tensors: HashMap<String, Tensor>,
    device: Device,
}

impl DenseWeights {
    /// Reads all tensors onto a device.
    ///
    /// # Errors
    /// What candle says.
    pub fn read(model: &Safetensors, device: &Device) -> Result<DenseWeights> {
        let mut tensors = HashMap::new();
        for info in model.tensors() {
            if let Some(tensor) = model.tensor(&info.name) {
                let shape: Vec<usize> = info.shape.iter().rev().copied().collect();
                let tensor = Tensor::from_vec(floats(tensor)?, shape, device)?;
                tensors.insert(info.name.clone(), tensor);
                model.release(&info.name);
            }
        }
        Ok(DenseWeights {
            tensors,
            device: device.clone(),
        })
    }

    /// Lets the output matrix be the embedding.
    pub fn tie(&mut self, embedding: &str) {
        if let Some(embedding) = self.tensors.get(embedding).cloned() {
            self.tensors.insert(HEAD.to_owned(), embedding);
        }
    }

    /// Multiplies all tensors whose name ends so. Tied matrices are not tied any longer after it.
    ///
    /// # Errors
    /// What candle says.
    pub fn scale(&mut self, ending: &str, factor: f64) -> Result<()> {
        if factor != 1.0 {
            for (_, tensor) in self
                .tensors
                .iter_mut()
                .filter(|(name, _)| name.ends_with(ending))
            {
                *tensor = (&*tensor * factor)?;
            }
        }
        Ok(())
    }

    /// For candle; clones of it share the tensors.
    pub fn builder(self) -> VarBuilder<'static> {
        VarBuilder::from_tensors(self.tensors, DType::F32, &self.device)
    }
}

fn floats(tensor: gguf::Tensor<'_>) -> Result<Vec<f32>> {
    let data = tensor.data;
    Ok(match tensor.info.dtype {
        BlockType::F32 => data
            .as_chunks::<4>()
            .0
            .iter()
            .map(|bytes| f32::from_le_bytes(*bytes))
            .collect(),
        BlockType::F16 => data
            .as_chunks::<2>()
            .0
            .iter()
            .map(|bytes| f16::from_le_bytes(*bytes).to_f32())
            .collect(),
        BlockType::BF16 => data
            .as_chunks::<2>()
            .0
            .iter()
            .map(|bytes| bf16::from_le_bytes(*bytes).to_f32())
            .collect(),
        other => candle_core::bail!(
            "tensor {} is of type {}, which is no float type",
            tensor.info.name,
            other.name()
        ),
    })
}
