//! What things are expected to cost: speeds, loads, sizes. Measured where anybody has measured,
//! else what is written here.

use super::NodeSnapshot;
use super::names::{ByModel, Names};
use rbee_queue::ModelSha;

/// Jobs a second of one slot, where nothing was measured: an answer of some seconds.
const JOBS_PER_S_OF_SLOT: f64 = 0.25;
/// What a model file has, where no disk says it.
const FILE_BYTES: f64 = 4e9;
/// Bytes a second from disk into memory, where no node has measured it.
pub const LOAD_BYTES_PER_S: f64 = 500e6;
/// Bytes a second from elsewhere onto a node's disk.
pub const FETCH_BYTES_PER_S: f64 = 50e6;
/// A model that is in memory nowhere is expected to take so much more than its file there, ...
const CACHE_SHARE: f64 = 0.25;
/// ... and this for buffers.
const BUFFER_BYTES: u64 = 128 << 20;
/// A node helps with a model only when the work would last, with its help, so many times as long as
/// the load: then it computes for others at least as long as it loads.
pub const LOAD_PAYS: f64 = 2.0;

/// Sizes and speeds of the models that are wanted, over all nodes.
pub(super) struct Costs {
    /// By model: what it takes in memory; `None` where nobody knows.
    bytes: Vec<Option<u64>>,
    /// By model: the size of its file; 0 where nobody knows.
    file: Vec<u64>,
    /// By model: what the mean node does in a second; 0 where nobody knows.
    mean: Vec<f64>,
    /// By node: how fast it is beside the mean node.
    factor: Vec<f64>,
    /// The mean over all measured models; 0 where nobody knows.
    typical: f64,
    load_bytes_per_s: f64,
    /// By node and model: the file is there.
    on_disk: Vec<bool>,
}

fn measured(value: f64) -> Option<f64> {
    (value.is_finite() && value > 0.0).then_some(value)
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (mut sum, mut count) = (0.0, 0.0);
    for value in values {
        sum += value;
        count += 1.0;
    }
    (count > 0.0).then(|| sum / count)
}

impl Costs {
    pub fn new(nodes: &[NodeSnapshot], models: &Names) -> Costs {
        let mut all: ByModel<(f64, f64)> = ByModel::default();
        let mut memory = vec![0; models.len()];
        let mut file = vec![0; models.len()];
        let mut on_disk = vec![false; models.len() * nodes.len()];
        for (at, node) in nodes.iter().enumerate() {
            for there in &node.resident {
                if let Some(speed) = measured(there.jobs_per_s) {
                    let (sum, count) = all.entry(there.model).or_default();
                    (*sum, *count) = (*sum + speed, *count + 1.0);
                }
                if let Some(model) = models.get(&there.model) {
                    memory[*model] = there.bytes.max(memory[*model]);
                }
            }
            for there in &node.on_disk {
                if let Some(model) = models.get(&there.model) {
                    file[*model] = there.bytes.max(file[*model]);
                    on_disk[at * models.len() + model] = true;
                }
            }
        }
        let mean_of = |model: &ModelSha| all.get(model).map(|(sum, count)| sum / count);
        let factor = nodes.iter().map(|node| {
            let measured = node.resident.iter().filter_map(|there| {
                let speed = measured(there.jobs_per_s)?;
                Some(speed / mean_of(&there.model)?)
            });
            mean(measured).unwrap_or(1.0)
        });
        let mut by_model = vec![0.0; models.len()];
        for (model, place) in models {
            by_model[*place] = mean_of(model).unwrap_or(0.0);
        }
        // In the models' order, not in the map's: a sum of floats depends on it.
        let measured_means = by_model.iter().copied().filter(|mean| *mean > 0.0);
        let bytes = memory.iter().zip(&file).map(|(memory, file)| {
            let guess = *file + (*file as f64 * CACHE_SHARE) as u64 + BUFFER_BYTES;
            match (*memory, *file) {
                (0, 0) => None,
                (0, _) => Some(guess),
                (memory, _) => Some(memory),
            }
        });
        Costs {
            bytes: bytes.collect(),
            factor: factor.collect(),
            typical: mean(measured_means).unwrap_or(0.0),
            load_bytes_per_s: mean(nodes.iter().filter_map(|n| measured(n.load_bytes_per_s)))
                .unwrap_or(LOAD_BYTES_PER_S),
            file,
            on_disk,
            mean: by_model,
        }
    }

    /// What a model takes in memory. `None`: nobody knows.
    pub fn bytes(&self, model: usize) -> Option<u64> {
        self.bytes[model]
    }

    /// True where not even the model's file fits into the node's memory.
    pub fn is_too_large(&self, model: usize, node: &NodeSnapshot) -> bool {
        node.memory_bytes > 0 && self.file[model] > node.memory_bytes
    }

    /// Jobs a second that a node is expected to do if it does nothing but this model.
    pub fn speed(&self, model: usize, at: usize, node: &NodeSnapshot, own: f64) -> f64 {
        let guess = || {
            let mean = measured(self.mean[model]).or(measured(self.typical));
            match mean {
                Some(mean) => mean * self.factor[at],
                None => node.slots.max(1) as f64 * JOBS_PER_S_OF_SLOT,
            }
        };
        measured(own).unwrap_or_else(guess)
    }

    /// Seconds until a node would have a model in memory.
    pub fn load_s(&self, model: usize, at: usize, node: &NodeSnapshot) -> f64 {
        let on_disk = self.on_disk[at * self.file.len() + model];
        let bytes = match (self.file[model], self.bytes[model]) {
            (0, None) => FILE_BYTES,
            (0, Some(bytes)) => bytes as f64,
            (file, _) => file as f64,
        };
        let speed = measured(node.load_bytes_per_s).unwrap_or(self.load_bytes_per_s);
        let fetch_s = if on_disk {
            0.0
        } else {
            bytes / FETCH_BYTES_PER_S
        };
        fetch_s + bytes / speed
    }
}
