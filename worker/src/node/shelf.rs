//! Where a node's models come from: the seam between the node and whoever fetches and loads files.

use crate::engine::{Engine, EngineEvent};
use crate::model_files::Blob;
use async_trait::async_trait;
use rbee_queue::node::DiskModel;
use rbee_queue::queue::LoadWish;
use rbee_queue::{JobError, ModelSha};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::sync::mpsc;

/// A model in memory with its engine.
pub struct Hosted {
    /// The engine.
    pub engine: Engine,
    /// The digest that says which nodes compute the same bytes with it.
    pub numerics: String,
    /// Whether it keeps the rules that the digest stands for.
    pub reproducible: bool,
    /// What it takes with its cache, in bytes.
    pub bytes: u64,
}

/// How much of a fetch is done; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Share(Arc<AtomicU32>);

impl Share {
    /// Sets it, from 0 to 1.
    pub fn set(&self, share: f64) {
        let bits = (share.clamp(0.0, 1.0) as f32).to_bits();
        self.0.store(bits, Ordering::Relaxed);
    }

    /// From 0 to 1.
    pub fn get(&self) -> f64 {
        f64::from(f32::from_bits(self.0.load(Ordering::Relaxed)))
    }
}

/// Fetches and loads models.
#[async_trait]
pub trait ModelShelf: Send + Sync {
    /// Brings a model's files to this machine, verified. Returns at once where they are here.
    ///
    /// # Errors
    /// An error code and a sentence: `model_not_found`, `download_failed`.
    async fn fetch(&self, wish: &LoadWish, share: &Share) -> Result<(), JobError>;

    /// Loads a model that was fetched and starts an engine that tells its events to the sender. `memory` is what it
    /// may take, in bytes; `None` leaves that to the shelf. It is called on a thread that may block.
    ///
    /// # Errors
    /// `out_of_memory` where it does not fit, else `model_load_failed`.
    fn load(
        &self,
        wish: &LoadWish,
        memory: Option<u64>,
        events: mpsc::Sender<EngineEvent>,
    ) -> Result<Hosted, JobError>;

    /// The models whose files are on this machine. It is called on a thread that may block.
    fn on_disk(&self) -> Vec<DiskModel> {
        Vec::new()
    }

    /// What other machines get under a sha256: a model's file, or the list of its files. It is called on a thread that
    /// may block.
    fn blob(&self, sha256: &ModelSha) -> Option<Blob> {
        let _ = sha256;
        None
    }
}
