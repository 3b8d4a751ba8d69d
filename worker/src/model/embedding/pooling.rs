//! One vector of many: what the folder's sentence-transformers files say is done with the rows of a text's tokens.

use std::path::Path;

use serde_json::{Map, Value};

use super::bert::sum;

/// The largest of these files that is read; real ones have a few hundred bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// The names of the modes in the file, and what rbee knows of them.
const MODES: [(&str, Mode); 5] = [
    ("pooling_mode_cls_token", Mode::First),
    ("pooling_mode_mean_tokens", Mode::Mean),
    ("pooling_mode_max_tokens", Mode::Max),
    ("pooling_mode_mean_sqrt_len_tokens", Mode::MeanSqrt),
    ("pooling_mode_lasttoken", Mode::Last),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    First,
    Mean,
    Max,
    /// The sum over the square root of the number of tokens.
    MeanSqrt,
    Last,
}

/// How a text's rows become its vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pooling {
    pub mode: Mode,
    /// The vector has length 1.
    pub unit: bool,
}

impl Pooling {
    /// Reads it of a model's folder. A folder that says nothing means the mean, as sentence-transformers has it.
    ///
    /// # Errors
    /// A clause about the files.
    pub fn read(dir: &Path, hidden: usize) -> Result<Pooling, String> {
        let unit = match json(dir, "modules.json")? {
            None => false,
            Some(modules) => has_unit_length(&modules)?,
        };
        let kept = json(dir, "pooling_config.json")?;
        let config = match kept {
            None => json(dir, "1_Pooling/config.json")?,
            kept => kept,
        };
        let mode = match config {
            None => Mode::Mean,
            Some(Value::Object(config)) => read_mode(&config, hidden)?,
            Some(_) => return Err("the file of its pooling is no JSON object".to_owned()),
        };
        Ok(Pooling { mode, unit })
    }

    /// The vector of a text with these rows.
    pub fn pool(&self, rows: &[f32], hidden: usize) -> Vec<f32> {
        let count = rows.len() / hidden;
        let mut vector = match self.mode {
            Mode::Last => rows[(count - 1) * hidden..].to_vec(),
            _ => rows[..hidden].to_vec(),
        };
        for row in rows.chunks_exact(hidden).skip(1) {
            for (x, y) in vector.iter_mut().zip(row) {
                match self.mode {
                    Mode::First | Mode::Last => {}
                    Mode::Max => *x = x.max(*y),
                    Mode::Mean | Mode::MeanSqrt => *x += y,
                }
            }
        }
        let over = match self.mode {
            Mode::Mean => count as f32,
            Mode::MeanSqrt => (count as f32).sqrt(),
            Mode::First | Mode::Last | Mode::Max => 1.0,
        };
        let length = |vector: &[f32]| sum(vector, |x| x * x).sqrt().max(1e-12);
        vector.iter_mut().for_each(|x| *x /= over);
        if self.unit {
            let length = length(&vector);
            vector.iter_mut().for_each(|x| *x /= length);
        }
        vector
    }
}

fn json(dir: &Path, name: &str) -> Result<Option<Value>, String> {
    let path = dir.join(name);
    let bytes = match std::fs::metadata(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Ok(found) if found.len() > MAX_FILE_BYTES => {
            return Err(format!("its {name} has {} bytes", found.len()));
        }
        Ok(_) => std::fs::read(&path),
        Err(error) => Err(error),
    };
    let bytes = bytes.map_err(|error| format!("its {name} cannot be read: {error}"))?;
    let read = serde_json::from_slice(&bytes);
    read.map(Some)
        .map_err(|error| format!("its {name} is not valid JSON: {error}"))
}

/// Whether the last module makes vectors of length 1. Transformer and pooling come before it, and nothing else.
fn has_unit_length(modules: &Value) -> Result<bool, String> {
    let modules = modules.as_array().ok_or("its modules.json is no list")?;
    let mut unit = false;
    for module in modules {
        let kind = module
            .get("type")
            .and_then(Value::as_str)
            .unwrap_or("nothing");
        match kind.rsplit('.').next().unwrap_or(kind) {
            "Transformer" | "Pooling" => {}
            "Normalize" => unit = true,
            other => {
                return Err(format!(
                    "its modules.json has a module `{other}`, which rbee does not know"
                ));
            }
        }
    }
    Ok(unit)
}

fn read_mode(config: &Map<String, Value>, hidden: usize) -> Result<Mode, String> {
    let width = config
        .get("word_embedding_dimension")
        .and_then(Value::as_u64);
    if width.is_some_and(|width| width != hidden as u64) {
        return Err(format!(
            "its pooling is made for another width than {hidden}"
        ));
    }
    let on = |name: &str| config.get(name) == Some(&Value::Bool(true));
    let known: Vec<Mode> = MODES
        .iter()
        .filter(|(name, _)| on(name))
        .map(|(_, mode)| *mode)
        .collect();
    let all = config
        .iter()
        .filter(|(name, value)| name.starts_with("pooling_mode_") && **value == Value::Bool(true));
    match known.as_slice() {
        [only] if all.count() == 1 => Ok(*only),
        _ => Err("its pooling has not exactly one mode that rbee knows".to_owned()),
    }
}
