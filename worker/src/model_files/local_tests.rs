//! Tests of models at paths of the user's own.

use std::path::Path;

use sha2::{Digest as _, Sha256};

use crate::gguf::write::GgufWriter;
use crate::gguf::{BlockType, Gguf};
use crate::model_files::{ModelError, ModelFiles, ModelRef, ResolvedModel, SilentProgress};

fn resolve(dir: &Path, path: &Path) -> Result<ResolvedModel, ModelError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(super::resolve(dir, path, &SilentProgress))
}

fn small_model() -> GgufWriter {
    let mut writer = GgufWriter::new("llama");
    writer.tensor("a", BlockType::F32, &[2], vec![1; 8]);
    writer.tensor("b", BlockType::F32, &[2], vec![2; 8]);
    writer
}

#[test]
fn gguf_file_is_identified_by_its_digest_whatever_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = small_model().to_bytes();
    for name in ["m.gguf", "renamed.bin"] {
        let path = dir.path().join(name);
        std::fs::write(&path, &bytes).unwrap();
        let model = resolve(dir.path(), &path).unwrap();
        assert_eq!(model.sha256, <[u8; 32]>::from(Sha256::digest(&bytes)));
        assert_eq!(model.bytes, bytes.len() as u64);
        assert_eq!(model.requested, path.display().to_string());
    }
    let link = dir.path().join("link.gguf");
    std::os::unix::fs::symlink(dir.path().join("m.gguf"), &link).unwrap();
    let linked = resolve(dir.path(), &link).unwrap();
    assert_eq!(linked.sha256, <[u8; 32]>::from(Sha256::digest(&bytes)));
}

#[test]
fn any_part_of_a_split_model_resolves_to_the_whole() {
    let (dir, blobs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let parts = small_model().to_split(2);
    let name = |number: usize| dir.path().join(format!("m-{number:05}-of-00002.gguf"));
    std::fs::write(name(1), &parts[0]).unwrap();
    let error = resolve(dir.path(), &name(1)).unwrap_err().to_string();
    assert!(error.contains("m-00002-of-00002.gguf"), "{error}");
    // The second part is a link to a file of another name, as in a cache.
    std::fs::write(blobs.path().join("blob"), &parts[1]).unwrap();
    std::os::unix::fs::symlink(blobs.path().join("blob"), name(2)).unwrap();
    let models = [1, 2].map(|number| resolve(dir.path(), &name(number)).unwrap());
    assert_eq!(models[0].sha256, models[1].sha256);
    let ModelFiles::Gguf(paths) = &models[1].files else {
        panic!("{models:?}")
    };
    assert_eq!(Gguf::open_parts(paths).unwrap().tensors().count(), 2);
}

#[test]
fn directory_with_safetensors_is_identified_by_the_files_that_count() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    write("config.json", "{}");
    write("model.safetensors", "weights");
    let error = resolve(dir.path(), dir.path()).unwrap_err().to_string();
    assert!(error.contains("tokenizer.json"), "{error}");
    write("tokenizer.json", "{}");
    let hashes = tempfile::tempdir().unwrap();
    let first = resolve(hashes.path(), dir.path()).unwrap();
    write("README.md", "does not count");
    assert_eq!(resolve(hashes.path(), dir.path()).unwrap(), first);
    write("config.json", r#"{"changed":true}"#);
    assert_ne!(
        resolve(hashes.path(), dir.path()).unwrap().sha256,
        first.sha256
    );
    let file = dir.path().join("model.safetensors");
    let error = resolve(hashes.path(), &file).unwrap_err().to_string();
    assert!(error.contains("give the directory"), "{error}");
}

#[test]
fn what_is_no_model_is_refused_with_a_hint() {
    let dir = tempfile::tempdir().unwrap();
    let says = |path: &Path, words: &str| {
        let error = resolve(dir.path(), path).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    };
    says(Path::new("org/name"), "hf:org/name");
    says(&dir.path().join("absent.gguf"), "is not there");
    says(dir.path(), "neither a GGUF file nor a safetensors file");
    let text = dir.path().join("text.gguf");
    std::fs::write(&text, "hello").unwrap();
    says(&text, "not a GGUF file");
    std::fs::write(&text, "").unwrap();
    says(&text, "not a GGUF file");
    says(Path::new("/dev/zero"), "neither a file nor a directory");
    let alias = ModelRef::parse("absent.gguf").unwrap();
    assert!(matches!(alias, ModelRef::Path(_)));
}
