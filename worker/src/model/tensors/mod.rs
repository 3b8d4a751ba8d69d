//! A decoder over candle's tensors, for devices that the kernels of our own do not know: the same models, the same batches
//! and KV blocks as [`super::decoder`], computed by candle.
//!
//! Its sums are in candle's order, which differs from device to device and with the number of rows, so that its results
//! are not promised to be the same bytes anywhere. On the processor it gives the numbers of the other decoder but for
//! rounding: a test holds it to that.

mod attention;
mod layer;

use std::borrow::Cow;

use candle_core::quantized::{QMatMul, QStorage, QTensor};
use candle_core::{DType, Device, Module, Result, Tensor};

use crate::engine::step::{BLOCK_TOKENS, SeqChunk, StepError, StepModel};
use crate::kernels::pool::Pool;

use super::config::ModelConfig;
use super::decoder::{RowPlace, places};
use super::fallback::{candle_text, ggml_type};
use super::memory::KvType;
use super::rope::RopeTable;
use super::weights::{Projection, RawTensor, TensorSource, Weights};
use attention::{Groups, LayerKv};
use layer::{Layer, Linear};

/// The strictest of candle's block types lie at multiples of this.
const ALIGNMENT: usize = 4;

/// A loaded model with its KV memory, on a device.
pub struct TensorDecoder {
    config: ModelConfig,
    device: Device,
    embedding: QMatMul,
    head: Linear,
    output_norm: Tensor,
    layers: Vec<Layer>,
    ropes: Vec<RopeTable>,
    /// The windows that its layers have, each once.
    windows: Vec<Option<usize>>,
    kv: Vec<LayerKv>,
    kv_blocks: usize,
}

/// What the layers need to know of a step.
struct Step {
    /// Cosines and sines of each kind of layer, `[rows, pairs]`.
    angles: Vec<(Tensor, Tensor)>,
    /// Where each row's keys and values go: `[rows, kv width]`, the same number along a row.
    slots: Tensor,
    groups: Groups,
}

impl TensorDecoder {
    /// Reads the weights onto the device, with room for `kv_blocks` blocks.
    ///
    /// # Errors
    /// A clause about the file or the device.
    pub fn load(
        config: ModelConfig,
        source: &dyn TensorSource,
        (device, pool): (Device, &mut Pool),
        (kv, kv_blocks): (KvType, usize),
    ) -> std::result::Result<TensorDecoder, String> {
        let form = |raw: &RawTensor<'_>| matrix(raw, &device).map_err(|error| candle_text(&error));
        let weights = Weights::load_as(&config, source, pool, &form)?;
        let made = TensorDecoder::new(config, weights, device.clone(), (kv, kv_blocks));
        made.map_err(|error| format!("candle says: {}", candle_text(&error)))
    }

    fn new(
        config: ModelConfig,
        weights: Weights<QMatMul>,
        device: Device,
        (kv, kv_blocks): (KvType, usize),
    ) -> Result<TensorDecoder> {
        let dtype = match kv {
            KvType::F16 => DType::F16,
            KvType::F32 => DType::F32,
        };
        let positions = kv_blocks * BLOCK_TOKENS;
        let room = |_| LayerKv::new((positions, config.kv_width()), dtype, &device);
        let kv = (0..config.layers.len()).map(room).collect::<Result<_>>()?;
        let embedding = weights.embedding;
        let head = match weights.head {
            Some(head) => Linear::new(head, &device)?,
            None => {
                let matrix = embedding.clone();
                Linear::new(Projection { matrix, bias: None }, &device)?
            }
        };
        let mut windows: Vec<_> = config.layers.iter().map(|layer| layer.window).collect();
        windows.sort_unstable();
        windows.dedup();
        let layers = weights.layers.into_iter();
        Ok(TensorDecoder {
            ropes: config.ropes.iter().map(RopeTable::new).collect(),
            layers: layers
                .map(|layer| Layer::new(layer, &device))
                .collect::<Result<_>>()?,
            output_norm: Tensor::new(weights.output_norm, &device)?,
            windows,
            embedding,
            head,
            kv,
            kv_blocks,
            config,
            device,
        })
    }

    fn step(&self, chunks: &[SeqChunk<'_>], rows: &[RowPlace]) -> Result<Step> {
        let angles = self.ropes.iter().map(|table| {
            let pairs = table.pairs();
            let mut both = vec![0.0; rows.len() * 2 * pairs];
            for (row, out) in rows.iter().zip(both.chunks_exact_mut(2 * pairs)) {
                table.angles(row.position, out);
            }
            let both = Tensor::from_vec(both, (rows.len(), 2 * pairs), &self.device)?;
            let part = |first: usize| both.narrow(1, first, pairs)?.contiguous();
            Ok((part(0)?, part(pairs)?))
        });
        let angles = angles.collect::<Result<_>>()?;
        let zeros = self.kv_blocks * BLOCK_TOKENS;
        let slots: Vec<u32> = rows.iter().map(RowPlace::slot).collect();
        let slots = Tensor::from_vec(slots, (rows.len(), 1), &self.device)?;
        Ok(Step {
            angles,
            slots: slots
                .broadcast_as((rows.len(), self.config.kv_width()))?
                .contiguous()?,
            groups: Groups::new(chunks, (&self.windows, zeros), &self.device)?,
        })
    }

    fn compute(&self, chunks: &[SeqChunk<'_>], rows: &[RowPlace]) -> Result<Vec<f32>> {
        let step = self.step(chunks, rows)?;
        let tokens: Vec<u32> = rows.iter().map(|row| row.token).collect();
        let tokens = Tensor::new(tokens, &self.device)?;
        let mut stream = self.embedding.embedding(&tokens)?.to_dtype(DType::F32)?;
        if let Some(scale) = self.config.embedding_scale {
            stream = (stream * f64::from(scale))?;
        }
        for ((layer, kind), kv) in self.layers.iter().zip(&self.config.layers).zip(&self.kv) {
            stream = layer.forward(&self.config, *kind, (&stream, &step), kv)?;
        }
        let mut row = 0;
        let mut wanted = Vec::new();
        for chunk in chunks {
            row += chunk.tokens.len();
            if chunk.logits {
                wanted.push(row as u32 - 1);
            }
        }
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let last = stream.index_select(&Tensor::new(wanted, &self.device)?, 0)?;
        let normed = candle_nn::ops::rms_norm(&last, &self.output_norm, self.config.norm_epsilon)?;
        let mut logits = self.head.forward(&normed)?;
        if let Some(cap) = self.config.logit_cap.map(f64::from) {
            logits = ((logits / cap)?.tanh()? * cap)?;
        }
        logits.flatten_all()?.to_vec1()
    }
}

impl StepModel for TensorDecoder {
    fn vocab_size(&self) -> usize {
        self.config.vocab
    }

    fn context_len(&self) -> usize {
        self.config.context.min(self.kv_blocks * BLOCK_TOKENS)
    }

    fn kv_blocks(&self) -> usize {
        self.kv_blocks
    }

    fn forward(
        &mut self,
        step: &[SeqChunk<'_>],
        logits: &mut Vec<f32>,
    ) -> std::result::Result<(), StepError> {
        let rows = places(&self.config, self.kv_blocks, step)?;
        *logits = self.compute(step, &rows).map_err(|error| StepError {
            message: format!("candle says: {}", candle_text(&error)),
        })?;
        Ok(())
    }
}

/// A file's matrix on the device, in the file's own form.
fn matrix(raw: &RawTensor<'_>, device: &Device) -> Result<QMatMul> {
    // candle reads blocks where they lie, which must then be aligned as its blocks are.
    let data = match raw.data.as_ptr().align_offset(ALIGNMENT) {
        0 => Cow::Borrowed(&*raw.data),
        _ => candle_core::bail!("its bytes are not aligned"),
    };
    let storage = QStorage::from_data(data, device, ggml_type(raw.dtype))?;
    QMatMul::from_qtensor(QTensor::new(storage, (raw.n, raw.k))?)
}
