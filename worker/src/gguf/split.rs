//! Split models: `name-00001-of-00003.gguf` and its siblings, with `split.no`, `split.count` and
//! `split.tensors.count` in the metadata, as llama.cpp's gguf-split writes them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::Value;
use super::error::Problem;
use super::header::Header;

/// More parts than this are refused by name; real models have a few dozen.
const PARTS_MAX: usize = 1_024;

/// A split file's name, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SplitName {
    /// What stands before `-00001-of-…`.
    pub stem: String,
    /// From 1.
    pub number: usize,
    pub count: usize,
}

impl SplitName {
    /// Takes apart a file name; `None` when it is not of the split form.
    pub fn parse(file_name: &str) -> Option<SplitName> {
        let rest = file_name.strip_suffix(".gguf")?;
        let (rest, count) = rest.rsplit_once("-of-")?;
        let (stem, number) = rest.rsplit_once('-')?;
        let five_digits =
            |text: &str| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
        if !five_digits(number) || !five_digits(count) {
            return None;
        }
        let (number, count) = (number.parse().ok()?, count.parse().ok()?);
        (number >= 1 && number <= count && count <= PARTS_MAX).then(|| SplitName {
            stem: stem.to_owned(),
            number,
            count,
        })
    }

    /// The file name of part `number` (from 1) of the same model.
    pub fn sibling(&self, number: usize) -> String {
        format!("{}-{number:05}-of-{:05}.gguf", self.stem, self.count)
    }
}

/// The paths of all parts of the model that `path` belongs to, in order; `path` alone when it is not split.
pub fn split_parts(path: &Path) -> Vec<PathBuf> {
    match path
        .file_name()
        .and_then(|name| name.to_str())
        .and_then(SplitName::parse)
    {
        Some(name) => (1..=name.count)
            .map(|number| path.with_file_name(name.sibling(number)))
            .collect(),
        None => vec![path.to_path_buf()],
    }
}

pub(super) fn declared_count(header: &Header) -> Option<u64> {
    header.metadata.get("split.count").and_then(Value::as_u64)
}

pub(super) fn declared_tensors(metadata: &BTreeMap<String, Value>) -> Option<u64> {
    let count = metadata.get("split.count").and_then(Value::as_u64)?;
    metadata
        .get("split.tensors.count")
        .and_then(Value::as_u64)
        .filter(|_| count > 1)
}

/// Checks that a file says of itself that it is part `number` (from 0) of `count`.
pub(super) fn check_part(header: &Header, number: usize, count: usize) -> Result<(), Problem> {
    let declared_count = declared_count(header).unwrap_or(1);
    let declared = header
        .metadata
        .get("split.no")
        .and_then(Value::as_u64)
        .unwrap_or(0);
    if declared_count != count as u64 || declared != number as u64 {
        let declared = declared.saturating_add(1);
        return Err(Problem::SplitOrder {
            declared,
            declared_count,
            number: number + 1,
            count,
        });
    }
    Ok(())
}
