//! Where the real models lie that `cargo xtask models` fetches. No test passes without them.

use std::path::PathBuf;

/// `SmolLM2-135M-Instruct` in Q4_1: architecture llama.
pub fn smollm2() -> PathBuf {
    find("smollm2-135m.gguf")
}

/// `Gemma 3 270M` in Q4_K_M.
pub fn gemma3() -> PathBuf {
    find("gemma3-270m.gguf")
}

/// `all-MiniLM-L6-v2`, a BERT that gives embeddings, as sentence-transformers keeps it.
pub fn minilm() -> PathBuf {
    let config = find("all-minilm-l6-v2/config.json");
    config.parent().expect("a file lies in a folder").to_owned()
}

/// The folder that `cargo xtask models` fills: `RBEE_TEST_MODELS`, else one in the user's cache.
pub fn dir() -> PathBuf {
    let set = |name: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let cache = || set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")));
    set("RBEE_TEST_MODELS")
        .or_else(|| Some(cache()?.join("rbee-test-models")))
        .expect("RBEE_TEST_MODELS, XDG_CACHE_HOME or HOME is set")
}

fn find(file: &str) -> PathBuf {
    let path = dir().join(file);
    assert!(
        path.is_file(),
        "the test model {} is not there: run `cargo xtask models`, or set RBEE_TEST_MODELS to a folder that has it",
        path.display()
    );
    path
}
