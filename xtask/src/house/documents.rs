//! Rules about the documents: which there are, and that the files they name exist.

use super::tree::Tree;

/// What the repository's reader looks for.
const DOCUMENTS: [&str; 6] = [
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "LICENSE-MIT",
    "LICENSE-APACHE",
];

/// Documents whose file names must be true.
const MAPS: [&str; 3] = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"];

/// Endings by which a word between backticks is taken for a file of the repository.
const FILE_ENDINGS: [&str; 6] = [".rs", ".toml", ".sql", ".md", ".lua", "/"];

pub fn are_there(tree: &Tree) -> Vec<String> {
    DOCUMENTS
        .iter()
        .filter(|name| !tree.has(name))
        .map(|name| format!("{name} is missing"))
        .collect()
}

/// Every path between backticks with a `/` in it, or with a source file's ending, is one from the root.
pub fn name_what_exists(tree: &Tree) -> Vec<String> {
    let mut breaches = Vec::new();
    for file in MAPS.iter().filter_map(|name| tree.file(name)) {
        for (number, line) in file.lines() {
            for word in line
                .split('`')
                .skip(1)
                .step_by(2)
                .filter(|word| is_path(word))
            {
                if !tree.has(word) {
                    breaches.push(format!(
                        "{}:{number} names `{word}`, which is not there",
                        file.path
                    ));
                }
            }
        }
    }
    breaches
}

fn is_path(word: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
    word.contains('/')
        && !word.starts_with(['/', '.', '~', '-'])
        && word.chars().all(plain)
        && FILE_ENDINGS.iter().any(|ending| word.ends_with(ending))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_with_folders_and_source_endings_are_paths() {
        for path in ["worker/src/lib.rs", "queue/", "queue/src/store/"] {
            assert!(is_path(path), "{path}");
        }
        for other in [
            "cargo run",
            "/v1/files",
            "lib.rs",
            "--slots",
            "hf:org/repo",
            "~/x.toml",
        ] {
            assert!(!is_path(other), "{other}");
        }
    }
}
