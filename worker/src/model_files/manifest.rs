//! The manifest of a stored model: what a reference resolved to, as a small JSON file under `refs/`.
//!
//! A model of several files is identified by the sha256 of the text with one line `<sha256>  <name>\n` a file, sorted
//! by name: what `sha256sum` prints over the same files, so that it can be checked by hand.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::safe_name::is_safe_component;

/// The manifest's form; a file with another number is from another rbee and is read as absent.
pub const MANIFEST_VERSION: u32 = 1;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub version: u32,
    pub reference: String,
    pub kind: ModelKind,
    /// Hex; the model's identity.
    pub sha256: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Which source gave it, for people.
    pub source: String,
    /// In load order.
    pub files: Vec<FileRecord>,
}

/// What the files are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelKind {
    Gguf,
    Safetensors,
}

/// One file of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRecord {
    /// Plain file name, without directories.
    pub name: String,
    /// Hex.
    pub sha256: String,
    pub bytes: u64,
}

impl Manifest {
    /// Whether it is of this form, and names only what may stand in a path: its texts become file names.
    pub fn is_sound(&self) -> bool {
        self.version == MANIFEST_VERSION
            && !self.files.is_empty()
            && parse_digest(&self.sha256) == Some(identity(&self.files))
            && self
                .files
                .iter()
                .all(|file| parse_digest(&file.sha256).is_some() && is_safe_component(&file.name))
    }

    pub fn bytes(&self) -> u64 {
        self.files
            .iter()
            .map(|file| file.bytes)
            .fold(0, u64::saturating_add)
    }
}

/// The identity of a model made of these files.
pub fn identity(files: &[FileRecord]) -> [u8; 32] {
    if let [only] = files
        && let Some(digest) = parse_digest(&only.sha256)
        && only.name.ends_with(".gguf")
    {
        return digest;
    }
    Sha256::digest(manifest_text(files)).into()
}

/// The text whose sha256 is the identity of a model of several files.
pub fn manifest_text(files: &[FileRecord]) -> String {
    let mut sorted: Vec<&FileRecord> = files.iter().collect();
    sorted.sort_by(|a, b| a.name.cmp(&b.name));
    let lines = sorted
        .iter()
        .map(|file| format!("{}  {}\n", file.sha256, file.name));
    lines.collect()
}

/// A digest from its 64 hex digits.
pub fn parse_digest(text: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    // Lower case only, so that a digest is one file name.
    let lower = text
        .bytes()
        .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    (lower && hex::decode_to_slice(text, &mut digest).is_ok()).then_some(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identity_of_several_files_is_what_sha256sum_gives() {
        let file = |name: &str, digit: char| FileRecord {
            name: name.into(),
            sha256: digit.to_string().repeat(64),
            bytes: 1,
        };
        let files = [file("model.safetensors", 'b'), file("config.json", 'a')];
        let text = format!(
            "{}  config.json\n{}  model.safetensors\n",
            "a".repeat(64),
            "b".repeat(64)
        );
        assert_eq!(identity(&files), <[u8; 32]>::from(Sha256::digest(text)));
        assert_eq!(identity(&[file("m.gguf", 'c')]), [0xcc; 32]);
    }
}
