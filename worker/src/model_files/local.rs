//! Models at a path of the user's own: used where they lie, identified by their digests.

use std::path::{Path, PathBuf};

use tokio::sync::mpsc;

use crate::gguf::split_parts;
use crate::safetensors::{INDEX_FILE, read_index, weight_files};

use super::choose::{Choice, POOLING_FILE, POOLING_NAME, choose};
use super::error::ModelError;
use super::hash_cache::{self, Hashing};
use super::manifest::{FileRecord, identity};
use super::{ModelFiles, PullProgress, ResolvedModel};

/// Directory listings longer than this are not searched for a model.
const ENTRIES_MAX: usize = 100_000;
/// Progress events under way from the digesting thread; it waits when nobody takes them.
const EVENTS_MAX: usize = 64;

/// Finds and digests the model at `path`.
pub async fn resolve(
    hashes: &Path,
    path: &Path,
    progress: &dyn PullProgress,
) -> Result<ResolvedModel, ModelError> {
    let files = find(path)?;
    let (hashes, paths) = (hashes.to_path_buf(), files.paths());
    let (events, mut heard) = mpsc::channel(EVENTS_MAX);
    let digesting = tokio::task::spawn_blocking(move || digest_all(&hashes, &paths, &events));
    let (mut total, mut done) = (0, 0);
    while let Some(event) = heard.recv().await {
        match event {
            Hashing::Begins { bytes } => {
                total += bytes;
                progress.total(total);
                progress.advance(done);
            }
            Hashing::Read { bytes } => {
                done += bytes;
                progress.advance(bytes);
            }
        }
    }
    let records = digesting
        .await
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?;
    let bytes = records.iter().map(|record| record.bytes).sum();
    let sha256 = identity(&records);
    let requested = super::ModelRef::Path(path.to_path_buf()).to_string();
    Ok(ResolvedModel {
        requested,
        sha256,
        files: files.into_files(),
        revision: None,
        bytes,
    })
}

/// The files of the model at `path`, with name and digest of each, read as far as their digests are not remembered.
/// Blocks while it reads.
pub fn files(hashes: &Path, path: &Path) -> Result<Vec<(PathBuf, FileRecord)>, ModelError> {
    let paths = find(path)?.paths();
    // Nobody hears how it goes: the model was resolved before.
    let (events, _) = mpsc::channel(EVENTS_MAX);
    let records = digest_all(hashes, &paths, &events)?;
    Ok(paths.into_iter().zip(records).collect())
}

fn digest_all(
    hashes: &Path,
    paths: &[PathBuf],
    events: &mpsc::Sender<Hashing>,
) -> Result<Vec<FileRecord>, ModelError> {
    let mut records = Vec::with_capacity(paths.len());
    for path in paths {
        let (sha256, bytes) = hash_cache::digest(hashes, path, &mut |event| {
            // Nobody listens any more when the caller gave up; the digest is still worth remembering.
            let _ = events.blocking_send(event);
        })?;
        let name = match path.ends_with(POOLING_FILE) {
            true => POOLING_NAME.to_owned(),
            false => path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
        };
        records.push(FileRecord {
            name,
            sha256: hex::encode(sha256),
            bytes,
        });
    }
    // One GGUF file is identified by its own digest, whatever its name.
    if let [only] = records.as_mut_slice() {
        only.name = "model.gguf".to_owned();
    }
    Ok(records)
}

/// The files of a local model.
#[derive(Debug)]
enum Found {
    Gguf(Vec<PathBuf>),
    Safetensors { dir: PathBuf, names: Vec<String> },
}

impl Found {
    fn paths(&self) -> Vec<PathBuf> {
        match self {
            Found::Gguf(paths) => paths.clone(),
            Found::Safetensors { dir, names } => names.iter().map(|name| dir.join(name)).collect(),
        }
    }

    fn into_files(self) -> ModelFiles {
        match self {
            Found::Gguf(paths) => ModelFiles::Gguf(paths),
            Found::Safetensors { dir, .. } => ModelFiles::Safetensors { dir },
        }
    }
}

fn find(path: &Path) -> Result<Found, ModelError> {
    let canonical = path.canonicalize().map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => ModelError::NoSuchFile {
            path: path.to_path_buf(),
            hint: hub_hint(path),
        },
        _ => ModelError::io("cannot read", path, e),
    })?;
    let unusable = |reason: String| ModelError::NotAModel {
        path: path.to_path_buf(),
        reason,
    };
    if canonical.is_dir() {
        return find_in_directory(path, canonical);
    }
    if !canonical.is_file() {
        return Err(unusable("it is neither a file nor a directory".to_owned()));
    }
    if canonical
        .extension()
        .is_some_and(|extension| extension == "safetensors")
    {
        let reason =
            "a safetensors file needs its config.json and tokenizer.json; give the directory"
                .to_owned();
        return Err(unusable(reason));
    }
    let parts = match split_parts(path) {
        // By their own names and not by what they link to: the names say their order.
        parts if parts.len() > 1 => {
            let directory = path
                .parent()
                .filter(|parent| !parent.as_os_str().is_empty())
                .unwrap_or(Path::new("."));
            let directory = directory
                .canonicalize()
                .map_err(|e| ModelError::io("cannot read", directory, e))?;
            parts
                .iter()
                .filter_map(|part| part.file_name())
                .map(|name| directory.join(name))
                .collect()
        }
        _ => vec![canonical],
    };
    if let Some(missing) = parts.iter().find(|part| !part.is_file()) {
        return Err(unusable(format!(
            "{} is missing, another part of it",
            missing.display()
        )));
    }
    for part in &parts {
        check_magic(part)?;
    }
    Ok(Found::Gguf(parts))
}

/// Tells early, and before a long digest, that a file is something else.
fn check_magic(path: &Path) -> Result<(), ModelError> {
    use std::io::Read as _;
    let mut magic = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(4).read_to_end(&mut magic))
        .map_err(|e| ModelError::io("cannot read", path, e))?;
    if magic != b"GGUF" {
        let reason = "it is not a GGUF file (it does not begin with the letters GGUF)".to_owned();
        return Err(ModelError::NotAModel {
            path: path.to_path_buf(),
            reason,
        });
    }
    Ok(())
}

fn find_in_directory(path: &Path, dir: PathBuf) -> Result<Found, ModelError> {
    let unusable = |reason: String| ModelError::NotAModel {
        path: path.to_path_buf(),
        reason,
    };
    let listing = std::fs::read_dir(&dir).map_err(|e| ModelError::io("cannot list", &dir, e))?;
    let mut names = Vec::new();
    for entry in listing.take(ENTRIES_MAX) {
        let entry = entry.map_err(|e| ModelError::io("cannot list", &dir, e))?;
        if let Ok(name) = entry.file_name().into_string() {
            names.push(name);
        }
    }
    if dir.join(POOLING_FILE).is_file() {
        names.push(POOLING_FILE.to_owned());
    }
    names.sort_unstable();
    let plain: Vec<&str> = names.iter().map(String::as_str).collect();
    match choose(&path.display().to_string(), &plain)? {
        Choice::Gguf(files) => {
            let paths: Vec<PathBuf> = files.iter().map(|name| dir.join(name)).collect();
            paths.iter().try_for_each(|path| check_magic(path))?;
            Ok(Found::Gguf(paths))
        }
        Choice::Safetensors {
            mut side_files,
            has_index,
        } => {
            let index = has_index
                .then(|| read_index(&dir.join(INDEX_FILE)))
                .transpose();
            let index = index.map_err(|e| unusable(e.to_string()))?;
            side_files
                .extend(weight_files(&plain, index.as_ref()).map_err(|e| unusable(e.to_string()))?);
            Ok(Found::Safetensors {
                dir,
                names: side_files,
            })
        }
    }
}

/// `org/name` without `hf:` is the most likely reason for a path that is not there.
fn hub_hint(path: &Path) -> String {
    let text = path.display().to_string();
    match super::ModelRef::parse(&format!("hf:{text}")) {
        Ok(_) if text.contains('/') && !text.starts_with('.') => {
            format!(". For a model of the hub write hf:{text}")
        }
        _ => String::new(),
    }
}

#[cfg(test)]
#[path = "local_tests.rs"]
mod tests;
