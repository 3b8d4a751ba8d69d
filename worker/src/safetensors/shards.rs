//! Which files hold a model's weights: `model.safetensors`, or the files that `model.safetensors.index.json` names.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::Path;

use serde::Deserialize;

use super::error::{self, Problem, SafetensorsError};

/// The name of the index.
pub const INDEX_FILE: &str = "model.safetensors.index.json";
const SINGLE_FILE: &str = "model.safetensors";
/// The largest real indices are a few megabytes.
const INDEX_BYTES_MAX: u64 = 64 << 20;
/// Real models have up to a few hundred.
const SHARDS_MAX: usize = 1_024;
/// How many names a refusal lists.
const LISTED_NAMES_MAX: usize = 10;

/// The index of a sharded model: which file has which tensor.
#[derive(Debug, Clone, Deserialize)]
pub struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Index {
    pub fn tensor_names(&self) -> impl Iterator<Item = &str> {
        self.weight_map.keys().map(String::as_str)
    }
}

/// Whether a name is that of a weight file in the model's own directory.
pub fn is_weight_file(name: &str) -> bool {
    name.ends_with(".safetensors") && is_plain(name)
}

fn is_plain(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with('.')
        && !name
            .chars()
            .any(|c| c == '/' || c == '\\' || c == ':' || c.is_control())
}

/// Parses an index.
///
/// # Errors
/// It is too long or not the JSON of an index.
pub fn parse_index(text: &[u8]) -> Result<Index, Problem> {
    if text.len() as u64 > INDEX_BYTES_MAX {
        return Err(Problem::TooLong {
            limit: INDEX_BYTES_MAX,
        });
    }
    serde_json::from_slice(text).map_err(|e| Problem::Json {
        what: "the index of a model",
        reason: e.to_string(),
    })
}

/// Reads and parses an index.
///
/// # Errors
/// As [`parse_index`], or it cannot be read.
pub fn read_index(path: &Path) -> Result<Index, SafetensorsError> {
    let text = read_limited(path, INDEX_BYTES_MAX)?;
    parse_index(&text).map_err(|problem| error::at(path, problem))
}

/// The weight files among these names, in order.
///
/// # Errors
/// There are none, several without an index, or the index names unsafe or missing ones.
pub fn weight_files(names: &[&str], index: Option<&Index>) -> Result<Vec<String>, Problem> {
    if let Some(index) = index {
        let shards: BTreeSet<&str> = index.weight_map.values().map(String::as_str).collect();
        if shards.is_empty() {
            return Err(Problem::NoWeights);
        }
        if shards.len() > SHARDS_MAX {
            return Err(Problem::TooManyTensors {
                found: shards.len(),
                limit: SHARDS_MAX,
            });
        }
        for shard in &shards {
            if !is_weight_file(shard) {
                return Err(Problem::UnsafeName {
                    name: (*shard).to_owned(),
                });
            }
            if !names.contains(shard) {
                return Err(Problem::MissingShard {
                    name: (*shard).to_owned(),
                });
            }
        }
        return Ok(shards.into_iter().map(str::to_owned).collect());
    }
    let weights: Vec<&str> = names
        .iter()
        .copied()
        .filter(|name| is_weight_file(name))
        .collect();
    match weights.as_slice() {
        [] => Err(Problem::NoWeights),
        [only] => Ok(vec![(*only).to_owned()]),
        several if several.contains(&SINGLE_FILE) => Ok(vec![SINGLE_FILE.to_owned()]),
        several => {
            let names = several
                .iter()
                .take(LISTED_NAMES_MAX)
                .copied()
                .collect::<Vec<_>>()
                .join(", ");
            Err(Problem::ManyWeights { names })
        }
    }
}

/// Reads a small file, and no more of it than `limit` bytes.
pub(super) fn read_limited(path: &Path, limit: u64) -> Result<Vec<u8>, SafetensorsError> {
    let failed = |e: std::io::Error| error::at(path, Problem::Io(e));
    // A pipe would make the reading wait for ever.
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        return Err(error::at(path, crate::gguf::Problem::NotAFile.into()));
    }
    let mut text = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(limit + 1).read_to_end(&mut text))
        .map_err(failed)?;
    if text.len() as u64 > limit {
        return Err(error::at(path, Problem::TooLong { limit }));
    }
    Ok(text)
}
