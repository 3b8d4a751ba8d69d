//! Loading generated and real models through the worker, as `rbee` does.

use std::path::{Path, PathBuf};

use rbee_worker::model::device::ComputeDevice;
use rbee_worker::model::memory::KvType;
use rbee_worker::model::{LoadOptions, LoadedModel, load};
use rbee_worker::model_files::{ModelFiles, ResolvedModel};
use sha2::{Digest, Sha256};

use crate::checkpoint::Checkpoint;
use crate::driver::Driver;
use crate::spec::ModelSpec;
use crate::to_gguf::{BlockTypes, to_gguf};

/// Settings for small models: few blocks, one thread.
pub fn options() -> LoadOptions {
    LoadOptions {
        device: ComputeDevice::Cpu,
        over_tensors: false,
        threads: 1,
        slots: 8,
        memory: None,
        beside_others: false,
        kv: KvType::F16,
        context: None,
        kernel: None,
    }
}

/// A GGUF file as the worker wants it named.
pub fn gguf(path: &Path) -> ResolvedModel {
    resolved(path, ModelFiles::Gguf(vec![path.to_path_buf()]))
}

/// All parts of a split GGUF file.
pub fn split_gguf(paths: Vec<PathBuf>) -> ResolvedModel {
    resolved(&paths[0].clone(), ModelFiles::Gguf(paths))
}

/// A folder of safetensors.
pub fn safetensors(dir: &Path) -> ResolvedModel {
    resolved(
        dir,
        ModelFiles::Safetensors {
            dir: dir.to_path_buf(),
        },
    )
}

fn resolved(path: &Path, files: ModelFiles) -> ResolvedModel {
    let name = path.display().to_string();
    ResolvedModel {
        sha256: Sha256::digest(name.as_bytes()).into(),
        requested: name,
        files,
        revision: None,
        bytes: std::fs::metadata(path).map_or(0, |file| file.len()),
    }
}

/// Load a file.
pub fn open(model: &ResolvedModel, options: &LoadOptions) -> LoadedModel {
    load(model, options)
        .unwrap_or_else(|error| panic!("{} does not load: {error}", model.requested))
}

/// A generated model on disk. The folder goes when this goes.
pub struct OnDisk {
    pub checkpoint: Checkpoint,
    pub path: PathBuf,
    dir: tempfile::TempDir,
}

impl OnDisk {
    pub fn new(spec: &ModelSpec, types: BlockTypes) -> OnDisk {
        let checkpoint = Checkpoint::random(spec);
        let dir = rbee_test_services::folder::temporary();
        let path = dir.path().join(format!("{}.gguf", spec.name));
        to_gguf(&checkpoint, types)
            .write(&path)
            .expect("the folder can be written");
        OnDisk {
            checkpoint,
            path,
            dir,
        }
    }

    /// The folder, for more files.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The model behind a driver.
    pub fn driver(&self, options: &LoadOptions) -> Driver {
        Driver::new(open(&gguf(&self.path), options).model)
    }
}
