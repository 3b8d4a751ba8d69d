//! A plain forward pass over a GGUF file: every weight dequantised, nothing cached, one position after the other where
//! that is simpler. Slow, readable, and sharing no code with the engine; it says what the right logits are.
//!
//! Values are f32, sums f64. Formulas follow the papers and llama.cpp's graphs of the families.

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;

use candle_core::Device;
use candle_core::quantized::{GgmlDType, QTensor, gguf_file};

use crate::spec::{GEMMA3_LOCAL_BASE, GEMMA3_PATTERN};

/// Threads that a matrix product is split over.
const THREADS: usize = 2;

/// A model to be computed slowly.
pub struct Reference {
    shape: Shape,
    tensors: HashMap<String, QTensor>,
    rounds_activations: bool,
}

struct Shape {
    architecture: String,
    layers: usize,
    hidden: usize,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    ffn: usize,
    context: usize,
    rms_eps: f64,
    rope_base: f64,
    rope_dims: usize,
    rope_original: usize,
    rope_linear: f64,
    rope_attention: f64,
    window: usize,
}

/// Rows of activations, one a position.
type Rows = Vec<Vec<f32>>;

impl Reference {
    /// Read a file of one of the families.
    pub fn open(path: &Path) -> Reference {
        let mut file =
            File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let content = gguf_file::Content::read(&mut file).expect("candle reads the file");
        let shape = Shape::read(&content);
        let tensors = content
            .tensor_infos
            .keys()
            .map(|name| {
                let tensor = content.tensor(&mut file, name, &Device::Cpu);
                (name.clone(), tensor.expect("candle reads the tensor"))
            })
            .collect();
        Reference {
            shape,
            tensors,
            rounds_activations: false,
        }
    }

    /// The model with the rounding that numerics v1 prescribes before each product with a quantised matrix: activations
    /// to 8 bits, one scale for each 32. What an engine differs from this is not rounding.
    pub fn rounding_activations(mut self) -> Reference {
        self.rounds_activations = true;
        self
    }

    /// The model as it is for this longest context: Phi's long factors serve contexts beyond the original one.
    pub fn for_context(mut self, context: usize) -> Reference {
        self.shape.context = context;
        self
    }

    /// The logits after each of these positions, given all tokens before them.
    pub fn logits(&self, tokens: &[u32], positions: &[usize]) -> Vec<Vec<f32>> {
        let mut rows = self.embedded(tokens);
        for layer in 0..self.shape.layers {
            self.layer(layer, &mut rows);
        }
        let wanted: Rows = positions.iter().map(|at| rows[*at].clone()).collect();
        let normed = self.normed(&wanted, "output_norm.weight");
        let head = if self.tensors.contains_key("output.weight") {
            "output.weight"
        } else {
            "token_embd.weight"
        };
        self.product(&normed, head)
    }

    /// The logits after the last token.
    pub fn last_logits(&self, tokens: &[u32]) -> Vec<f32> {
        self.logits(tokens, &[tokens.len() - 1]).remove(0)
    }

    fn embedded(&self, tokens: &[u32]) -> Rows {
        let table = self.dequantised("token_embd.weight");
        let hidden = self.shape.hidden;
        let scale = if self.gemma() {
            (hidden as f32).sqrt()
        } else {
            1.0
        };
        tokens
            .iter()
            .map(|token| {
                table[*token as usize * hidden..][..hidden]
                    .iter()
                    .map(|x| x * scale)
                    .collect()
            })
            .collect()
    }

    fn layer(&self, layer: usize, rows: &mut Rows) {
        let name = |part: &str| format!("blk.{layer}.{part}.weight");
        let normed = self.normed(rows, &name("attn_norm"));
        let mut attended = self.attention(layer, &normed);
        if self.gemma() {
            attended = self.normed(&attended, &name("post_attention_norm"));
        }
        add(rows, &attended);
        let normed = self.normed(rows, &name("ffn_norm"));
        let mut fed = self.feed_forward(layer, &normed);
        if self.gemma() {
            fed = self.normed(&fed, &name("post_ffw_norm"));
        }
        add(rows, &fed);
    }

    fn feed_forward(&self, layer: usize, rows: &Rows) -> Rows {
        let name = |part: &str| format!("blk.{layer}.{part}.weight");
        let up = self.product(rows, &name("ffn_up"));
        let ffn = self.shape.ffn;
        let gated: Rows = if self.tensors.contains_key(&name("ffn_gate")) {
            let gate = self.product(rows, &name("ffn_gate"));
            let pairs = gate.iter().zip(&up);
            pairs
                .map(|(gate, up)| {
                    gate.iter()
                        .zip(up)
                        .map(|(g, u)| self.activation(*g) * u)
                        .collect()
                })
                .collect()
        } else {
            // Phi's fused matrix: the gate's rows come first.
            let halves = up.iter().map(|row| row.split_at(ffn));
            halves
                .map(|(gate, up)| {
                    gate.iter()
                        .zip(up)
                        .map(|(g, u)| self.activation(*g) * u)
                        .collect()
                })
                .collect()
        };
        self.product(&gated, &name("ffn_down"))
    }

    fn activation(&self, x: f32) -> f32 {
        let x = f64::from(x);
        let y = if self.gemma() {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x);
            0.5 * x * (1.0 + inner.tanh())
        } else {
            x / (1.0 + (-x).exp())
        };
        y as f32
    }

    fn attention(&self, layer: usize, rows: &Rows) -> Rows {
        let shape = &self.shape;
        let (mut q, mut k, v) = self.projections(layer, rows);
        let head_dim = shape.head_dim;
        if self
            .tensors
            .contains_key(&format!("blk.{layer}.attn_q_norm.weight"))
        {
            self.norm_heads(&mut q, &format!("blk.{layer}.attn_q_norm.weight"));
            self.norm_heads(&mut k, &format!("blk.{layer}.attn_k_norm.weight"));
        }
        for position in 0..rows.len() {
            self.rotate(layer, position, &mut q[position]);
            self.rotate(layer, position, &mut k[position]);
        }
        let group = shape.heads / shape.kv_heads;
        let first_key = |position: usize| match self.local(layer) {
            true => (position + 1).saturating_sub(shape.window),
            false => 0,
        };
        let out: Rows = (0..rows.len())
            .map(|position| {
                let mut row = Vec::with_capacity(shape.heads * head_dim);
                for head in 0..shape.heads {
                    let keys = first_key(position)..position + 1;
                    let query = &q[position][head * head_dim..][..head_dim];
                    let at = head / group * head_dim;
                    row.extend(attend(query, &k[keys.clone()], &v[keys], at));
                }
                row
            })
            .collect();
        self.product(&out, &format!("blk.{layer}.attn_output.weight"))
    }

    fn projections(&self, layer: usize, rows: &Rows) -> (Rows, Rows, Rows) {
        let fused = format!("blk.{layer}.attn_qkv.weight");
        if self.tensors.contains_key(&fused) {
            let q_width = self.shape.heads * self.shape.head_dim;
            let kv_width = self.shape.kv_heads * self.shape.head_dim;
            let all = self.product(rows, &fused);
            let part = |from: usize, width: usize| {
                all.iter()
                    .map(|row| row[from..from + width].to_vec())
                    .collect()
            };
            return (
                part(0, q_width),
                part(q_width, kv_width),
                part(q_width + kv_width, kv_width),
            );
        }
        let one = |which: &str| {
            let mut out = self.product(rows, &format!("blk.{layer}.attn_{which}.weight"));
            let bias = format!("blk.{layer}.attn_{which}.bias");
            if self.tensors.contains_key(&bias) {
                let bias = self.dequantised(&bias);
                for row in &mut out {
                    row.iter_mut().zip(&bias).for_each(|(x, b)| *x += b);
                }
            }
            out
        };
        (one("q"), one("k"), one("v"))
    }

    fn norm_heads(&self, rows: &mut Rows, weight: &str) {
        let weight = self.dequantised(weight);
        for row in rows {
            for head in row.chunks_mut(self.shape.head_dim) {
                let normed = rms_norm(head, &weight, self.shape.rms_eps);
                head.copy_from_slice(&normed);
            }
        }
    }

    /// Rotate each head of a row by its position (Su et al., "RoFormer", 2021).
    fn rotate(&self, layer: usize, position: usize, row: &mut [f32]) {
        let shape = &self.shape;
        let local = self.local(layer);
        let base = if local {
            f64::from(GEMMA3_LOCAL_BASE)
        } else {
            shape.rope_base
        };
        let linear = if local { 1.0 } else { shape.rope_linear };
        let factors = self.rope_factors();
        let pairs = shape.rope_dims / 2;
        for head in row.chunks_mut(shape.head_dim) {
            for pair in 0..pairs {
                let frequency = base.powf(-2.0 * pair as f64 / shape.rope_dims as f64);
                let factor = factors
                    .as_ref()
                    .map_or(1.0, |factors| f64::from(factors[pair]));
                let angle = position as f64 / linear * frequency / factor;
                let (sin, cos) = (
                    angle.sin() * shape.rope_attention,
                    angle.cos() * shape.rope_attention,
                );
                // Llama's files hold rotated pairs side by side; the others keep the halves apart.
                let (first, second) = match shape.architecture == "llama" {
                    true => (2 * pair, 2 * pair + 1),
                    false => (pair, pair + pairs),
                };
                let (x, y) = (f64::from(head[first]), f64::from(head[second]));
                head[first] = (x * cos - y * sin) as f32;
                head[second] = (x * sin + y * cos) as f32;
            }
        }
    }

    /// The factors that frequencies are divided by. Of Phi's two sets the long one is for contexts longer than the one
    /// it was first trained on.
    fn rope_factors(&self) -> Option<Vec<f32>> {
        let long = self.shape.context > self.shape.rope_original;
        let names = [
            "rope_freqs.weight",
            if long {
                "rope_factors_long.weight"
            } else {
                "rope_factors_short.weight"
            },
        ];
        let name = names
            .into_iter()
            .find(|name| self.tensors.contains_key(*name))?;
        Some(self.dequantised(name))
    }

    fn local(&self, layer: usize) -> bool {
        self.gemma() && !(layer + 1).is_multiple_of(GEMMA3_PATTERN)
    }

    fn gemma(&self) -> bool {
        self.shape.architecture == "gemma3"
    }

    fn normed(&self, rows: &Rows, weight: &str) -> Rows {
        let weight = self.dequantised(weight);
        rows.iter()
            .map(|row| rms_norm(row, &weight, self.shape.rms_eps))
            .collect()
    }

    fn dequantised(&self, name: &str) -> Vec<f32> {
        let tensor = self
            .tensors
            .get(name)
            .unwrap_or_else(|| panic!("the file has no {name}"));
        let tensor = tensor
            .dequantize(&Device::Cpu)
            .and_then(|tensor| tensor.flatten_all()?.to_vec1());
        tensor.expect("a CPU tensor dequantises")
    }

    /// Rows times the transposed matrix.
    fn product(&self, rows: &Rows, name: &str) -> Rows {
        let matrix = self.dequantised(name);
        let dense = [GgmlDType::F32, GgmlDType::F16, GgmlDType::BF16];
        let rounded;
        let rows = if self.rounds_activations && !dense.contains(&self.tensors[name].dtype()) {
            rounded = rows.iter().map(|row| rounded_to_8_bits(row)).collect();
            &rounded
        } else {
            rows
        };
        let inputs = rows[0].len();
        let outputs = matrix.len() / inputs;
        let per_thread = outputs.div_ceil(THREADS);
        let mut out = vec![vec![0.0; outputs]; rows.len()];
        let parts: Vec<Rows> = std::thread::scope(|scope| {
            let threads: Vec<_> = matrix
                .chunks(per_thread * inputs)
                .map(|part| {
                    scope.spawn(move || {
                        rows.iter()
                            .map(|row| {
                                part.chunks_exact(inputs)
                                    .map(|weights| dot(weights, row) as f32)
                                    .collect()
                            })
                            .collect::<Rows>()
                    })
                })
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().expect("no product panics"))
                .collect()
        });
        for (index, part) in parts.iter().enumerate() {
            for (row, some) in out.iter_mut().zip(part) {
                row[index * per_thread..][..some.len()].copy_from_slice(some);
            }
        }
        out
    }
}

impl Shape {
    fn read(content: &gguf_file::Content) -> Shape {
        let architecture = match content.metadata.get("general.architecture") {
            Some(gguf_file::Value::String(name)) => name.clone(),
            other => panic!("no architecture: {other:?}"),
        };
        let find = |key: &str| content.metadata.get(&format!("{architecture}.{key}"));
        let whole =
            |key: &str| find(key).map(|value| value.to_u32().expect("a whole number") as usize);
        let real =
            |key: &str| find(key).map(|value| f64::from(value.to_f32().expect("a real number")));
        let need = |key: &str| whole(key).unwrap_or_else(|| panic!("the file has no {key}"));
        let (hidden, heads) = (need("embedding_length"), need("attention.head_count"));
        let head_dim = whole("attention.key_length").unwrap_or(hidden / heads);
        let context = need("context_length");
        let rope_original = whole("rope.scaling.original_context_length").unwrap_or(context);
        let linear = matches!(find("rope.scaling.type"), Some(gguf_file::Value::String(kind)) if kind == "linear");
        Shape {
            layers: need("block_count"),
            hidden,
            heads,
            kv_heads: need("attention.head_count_kv"),
            head_dim,
            ffn: need("feed_forward_length"),
            context: rope_original,
            rms_eps: real("attention.layer_norm_rms_epsilon").expect("the norm's epsilon"),
            rope_base: real("rope.freq_base").unwrap_or(10_000.0),
            rope_dims: whole("rope.dimension_count").unwrap_or(head_dim),
            rope_original,
            rope_linear: if linear {
                real("rope.scaling.factor").expect("a factor")
            } else {
                1.0
            },
            rope_attention: real("rope.scaling.attn_factor").unwrap_or(1.0),
            window: whole("attention.sliding_window").unwrap_or(usize::MAX),
            architecture,
        }
    }
}

/// Softmax attention of one query over the keys and values at this offset of each row.
fn attend(query: &[f32], keys: &[Vec<f32>], values: &[Vec<f32>], at: usize) -> Vec<f32> {
    let head_dim = query.len();
    let scale = 1.0 / (head_dim as f64).sqrt();
    let scores: Vec<f64> = keys
        .iter()
        .map(|key| dot(query, &key[at..at + head_dim]) * scale)
        .collect();
    let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = scores.iter().map(|score| (score - max).exp()).collect();
    let sum: f64 = weights.iter().sum();
    let mut out = vec![0f64; head_dim];
    for (weight, value) in weights.iter().zip(values) {
        out.iter_mut()
            .zip(&value[at..])
            .for_each(|(o, v)| *o += weight / sum * f64::from(*v));
    }
    out.into_iter().map(|x| x as f32).collect()
}

/// x / rms(x) * weight (Zhang, Sennrich: "Root Mean Square Layer Normalization", 2019).
fn rms_norm(row: &[f32], weight: &[f32], eps: f64) -> Vec<f32> {
    let mean = row
        .iter()
        .map(|x| f64::from(*x) * f64::from(*x))
        .sum::<f64>()
        / row.len() as f64;
    let scale = 1.0 / (mean + eps).sqrt();
    row.iter()
        .zip(weight)
        .map(|(x, w)| (f64::from(*x) * scale * f64::from(*w)) as f32)
        .collect()
}

/// Products of 32 in f32, their sums in f64: exact enough, and a compiler can make it fast.
fn dot(a: &[f32], b: &[f32]) -> f64 {
    let block = |a: &[f32], b: &[f32]| {
        let mut lanes = [0f32; 8];
        for (a, b) in a.chunks(8).zip(b.chunks(8)) {
            for lane in 0..a.len() {
                lanes[lane] += a[lane] * b[lane];
            }
        }
        lanes.iter().map(|lane| f64::from(*lane)).sum::<f64>()
    };
    a.chunks(32)
        .zip(b.chunks(32))
        .map(|(a, b)| block(a, b))
        .sum()
}

/// Each block of 32 to whole multiples of a 127th of its greatest magnitude.
fn rounded_to_8_bits(row: &[f32]) -> Vec<f32> {
    let block = |block: &[f32]| -> Vec<f32> {
        let greatest = block.iter().fold(0f32, |most, x| most.max(x.abs()));
        if greatest == 0.0 {
            return block.to_vec();
        }
        let scale = greatest / 127.0;
        block
            .iter()
            .map(|x| (x * (127.0 / greatest)).round_ties_even() * scale)
            .collect()
    };
    row.chunks(32).flat_map(block).collect()
}

fn add(rows: &mut Rows, more: &Rows) {
    for (row, more) in rows.iter_mut().zip(more) {
        row.iter_mut().zip(more).for_each(|(x, y)| *x += y);
    }
}
