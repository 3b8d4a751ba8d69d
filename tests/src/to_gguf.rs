//! A checkpoint as GGUF, by the conventions of llama.cpp's converter: names, layouts, metadata.
//!
//! What differs from the checkpoint: llama's q and k rows are permuted so that rotated pairs lie side by side; Gemma's
//! norms hold the 1 that its checkpoints leave out; rope factors become tensors.

use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor as CandleTensor};

use crate::checkpoint::{Array, Checkpoint};
use crate::gguf_file::{GgufFile, Tensor, Value};
use crate::spec::{Family, ModelSpec, RopeScaling, VocabularyKind};

/// How the matrices of a file are stored. Norms, biases and rope factors are always f32.
#[derive(Clone, Copy, Debug)]
pub enum BlockTypes {
    /// All of one type.
    All(GgmlDType),
    /// One type after the other, of those whose block length divides the matrix's columns.
    EveryType,
}

/// Every type that a weight matrix can have.
pub const WEIGHT_TYPES: [GgmlDType; 13] = [
    GgmlDType::F32,
    GgmlDType::F16,
    GgmlDType::BF16,
    GgmlDType::Q4_0,
    GgmlDType::Q4_1,
    GgmlDType::Q5_0,
    GgmlDType::Q5_1,
    GgmlDType::Q8_0,
    GgmlDType::Q2K,
    GgmlDType::Q3K,
    GgmlDType::Q4K,
    GgmlDType::Q5K,
    GgmlDType::Q6K,
];

impl BlockTypes {
    fn of(self, index: usize, columns: usize) -> GgmlDType {
        match self {
            BlockTypes::All(dtype) => {
                assert!(
                    columns.is_multiple_of(dtype.block_size()),
                    "{dtype:?} cannot hold rows of {columns}"
                );
                dtype
            }
            BlockTypes::EveryType => {
                let fitting: Vec<GgmlDType> = WEIGHT_TYPES
                    .into_iter()
                    .filter(|dtype| columns.is_multiple_of(dtype.block_size()))
                    .collect();
                fitting[index % fitting.len()]
            }
        }
    }
}

/// The checkpoint as a GGUF file.
pub fn to_gguf(checkpoint: &Checkpoint, types: BlockTypes) -> GgufFile {
    let mut file = GgufFile {
        metadata: metadata(checkpoint),
        tensors: Vec::new(),
    };
    let mut matrices = 0;
    for (name, array) in &checkpoint.tensors {
        let array = converted(&checkpoint.spec, name, array);
        let dtype = if array.shape.len() == 1 {
            GgmlDType::F32
        } else {
            matrices += 1;
            types.of(matrices, array.shape[1])
        };
        file.tensors.push(quantised(
            &gguf_name(checkpoint.spec.family, name),
            &array,
            dtype,
        ));
    }
    for (name, factors) in rope_factors(&checkpoint.spec) {
        let array = Array {
            shape: vec![factors.len()],
            data: factors,
        };
        file.tensors.push(quantised(name, &array, GgmlDType::F32));
    }
    file
}

/// One array in one type.
pub fn quantised(name: &str, array: &Array, dtype: GgmlDType) -> Tensor {
    let tensor = CandleTensor::from_slice(&array.data, array.shape.as_slice(), &Device::Cpu)
        .and_then(|tensor| QTensor::quantize(&tensor, dtype))
        .unwrap_or_else(|error| panic!("{name} cannot be made {dtype:?}: {error}"));
    Tensor::new(name, &tensor)
}

fn gguf_name(family: Family, name: &str) -> String {
    match name {
        "model.embed_tokens.weight" => return "token_embd.weight".into(),
        "lm_head.weight" => return "output.weight".into(),
        "model.norm.weight" => return "output_norm.weight".into(),
        _ => {}
    }
    let rest = name
        .strip_prefix("model.layers.")
        .expect("all others lie in layers");
    let (layer, part) = rest
        .split_once('.')
        .expect("the layer's number comes first");
    let (stem, ending) = part.rsplit_once('.').expect("weight or bias comes last");
    let stem = match stem {
        "self_attn.q_proj" => "attn_q",
        "self_attn.k_proj" => "attn_k",
        "self_attn.v_proj" => "attn_v",
        "self_attn.qkv_proj" => "attn_qkv",
        "self_attn.o_proj" => "attn_output",
        "self_attn.q_norm" => "attn_q_norm",
        "self_attn.k_norm" => "attn_k_norm",
        "mlp.gate_proj" => "ffn_gate",
        "mlp.up_proj" | "mlp.gate_up_proj" => "ffn_up",
        "mlp.down_proj" => "ffn_down",
        "input_layernorm" => "attn_norm",
        // Gemma has a norm after attention; the others call their norm before the feed-forward part so.
        "post_attention_layernorm" if family == Family::Gemma3 => "post_attention_norm",
        "post_attention_layernorm" => "ffn_norm",
        "pre_feedforward_layernorm" => "ffn_norm",
        "post_feedforward_layernorm" => "post_ffw_norm",
        other => panic!("no GGUF name for {other}"),
    };
    format!("blk.{layer}.{stem}.{ending}")
}

/// The array as GGUF wants it.
fn converted(spec: &ModelSpec, name: &str, array: &Array) -> Array {
    let mut array = array.clone();
    if spec.family == Family::Gemma3 && name.ends_with("norm.weight") {
        for weight in &mut array.data {
            *weight += 1.0;
        }
    }
    if spec.family == Family::Llama && name.ends_with("q_proj.weight") {
        array.data = permuted(&array, spec.heads);
    }
    if spec.family == Family::Llama && name.ends_with("k_proj.weight") {
        array.data = permuted(&array, spec.kv_heads);
    }
    array
}

/// Rows of each head from "first halves, then second halves" to "pairs side by side".
fn permuted(array: &Array, heads: usize) -> Vec<f32> {
    let (rows, columns) = (array.shape[0], array.shape[1]);
    let head = rows / heads;
    let mut out = vec![0.0; array.data.len()];
    for row in 0..rows {
        let (which, within) = (row / head, row % head);
        let (half, pair) = (within / (head / 2), within % (head / 2));
        let target = which * head + 2 * pair + half;
        out[target * columns..][..columns].copy_from_slice(&array.data[row * columns..][..columns]);
    }
    out
}

/// The tensors that hold factors of rotation frequencies: each frequency is divided by its factor.
fn rope_factors(spec: &ModelSpec) -> Vec<(&'static str, Vec<f32>)> {
    match &spec.rope_scaling {
        RopeScaling::None | RopeScaling::Linear { .. } => Vec::new(),
        RopeScaling::LongRope { short, long, .. } => vec![
            ("rope_factors_long.weight", long.clone()),
            ("rope_factors_short.weight", short.clone()),
        ],
        RopeScaling::Llama3 {
            factor,
            low,
            high,
            original_context,
        } => {
            let original = *original_context as f32;
            let (low_wave, high_wave) = (original / low, original / high);
            let factors = (0..spec.rope_dims).step_by(2).map(|dim| {
                let frequency = 1.0 / spec.rope_base.powf(dim as f32 / spec.rope_dims as f32);
                let wave = 2.0 * std::f32::consts::PI / frequency;
                if wave < high_wave {
                    1.0
                } else if wave > low_wave {
                    *factor
                } else {
                    let smooth = (original / wave - low) / (high - low);
                    1.0 / ((1.0 - smooth) / factor + smooth)
                }
            });
            vec![("rope_freqs.weight", factors.collect())]
        }
    }
}

fn metadata(checkpoint: &Checkpoint) -> Vec<(String, Value)> {
    let spec = &checkpoint.spec;
    let architecture = spec.architecture();
    let mut metadata = vec![
        (
            "general.architecture".to_string(),
            Value::String(architecture.into()),
        ),
        ("general.name".to_string(), Value::String(spec.name.into())),
        ("general.quantization_version".to_string(), Value::U32(2)),
    ];
    let mut add = |key: &str, value: Value| metadata.push((format!("{architecture}.{key}"), value));
    add("context_length", Value::U32(spec.context as u32));
    add("embedding_length", Value::U32(spec.hidden as u32));
    add("block_count", Value::U32(spec.layers as u32));
    add("feed_forward_length", Value::U32(spec.ffn as u32));
    add("attention.head_count", Value::U32(spec.heads as u32));
    add("attention.head_count_kv", Value::U32(spec.kv_heads as u32));
    add("attention.layer_norm_rms_epsilon", Value::F32(spec.rms_eps));
    add("rope.freq_base", Value::F32(spec.rope_base));
    if spec.family != Family::Gemma3 {
        add("rope.dimension_count", Value::U32(spec.rope_dims as u32));
    }
    if spec.family == Family::Gemma3 {
        add("attention.sliding_window", Value::U32(spec.window as u32));
    }
    if spec.family == Family::Gemma3 || spec.q_width() != spec.hidden {
        add("attention.key_length", Value::U32(spec.head_dim as u32));
        add("attention.value_length", Value::U32(spec.head_dim as u32));
    }
    match &spec.rope_scaling {
        RopeScaling::Linear { factor } => {
            add("rope.scaling.type", Value::String("linear".into()));
            add("rope.scaling.factor", Value::F32(*factor));
        }
        RopeScaling::LongRope {
            original_context, ..
        } => {
            add(
                "rope.scaling.original_context_length",
                Value::U32(*original_context as u32),
            );
            add(
                "rope.scaling.attn_factor",
                Value::F32(longrope_attention_factor(spec)),
            );
        }
        RopeScaling::None | RopeScaling::Llama3 { .. } => {}
    }
    if let VocabularyKind::Bpe { .. } = spec.vocabulary {
        add("vocab_size", Value::U32(checkpoint.vocabulary.len() as u32));
    }
    metadata.extend(checkpoint.vocabulary.gguf_metadata());
    metadata
}

/// By how much Phi's longrope enlarges cosines and sines: sqrt(1 + ln(context / original) / ln(original)).
pub fn longrope_attention_factor(spec: &ModelSpec) -> f32 {
    match &spec.rope_scaling {
        RopeScaling::LongRope {
            original_context, ..
        } if spec.context > *original_context => {
            let original = *original_context as f32;
            let scale = spec.context as f32 / original;
            (1.0 + scale.ln() / original.ln()).sqrt()
        }
        _ => 1.0,
    }
}
