//! The repository's own text files, as git lists them.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

/// One text file.
pub struct TextFile {
    /// From the root, with `/`.
    pub path: String,
    pub text: String,
}

impl TextFile {
    pub fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// The lines that are test code: all of a file in a tests folder or called `…_tests.rs`, else what follows the first
    /// `#[cfg(test)]` that opens a module. With their numbers, from 1.
    pub fn test_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let whole = self.path.starts_with("tests/")
            || self.path.contains("/tests/")
            || self.path.ends_with("_tests.rs")
            || self.path.ends_with("/tests.rs");
        let first = if whole {
            0
        } else {
            let lines: Vec<&str> = self.text.lines().collect();
            lines
                .windows(2)
                .position(|pair| pair[0].trim() == "#[cfg(test)]" && pair[1].trim().ends_with('{'))
                .unwrap_or(lines.len())
        };
        self.lines().skip(first)
    }

    /// Lines with their numbers, from 1.
    pub fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text
            .lines()
            .enumerate()
            .map(|(at, line)| (at + 1, line))
    }
}

/// All text files that git tracks or would track.
pub struct Tree {
    files: Vec<TextFile>,
    paths: Vec<String>,
}

impl Tree {
    pub fn read(root: &Path) -> Result<Tree> {
        let paths = match listed_by_git(root) {
            Some(paths) => paths,
            None => walked(root)?,
        };
        let mut tree = Tree {
            files: Vec::new(),
            paths: Vec::new(),
        };
        for path in paths {
            let on_disk = root.join(&path);
            if !on_disk.is_file() {
                continue;
            }
            if let Ok(text) = std::fs::read_to_string(&on_disk) {
                tree.files.push(TextFile {
                    path: path.clone(),
                    text,
                });
            }
            tree.paths.push(path);
        }
        Ok(tree)
    }

    /// Every file whose bytes are UTF-8.
    pub fn files(&self) -> impl Iterator<Item = &TextFile> {
        self.files.iter()
    }

    pub fn file(&self, path: &str) -> Option<&TextFile> {
        self.files.iter().find(|file| file.path == path)
    }

    /// Whether a file lies there, or a folder with files below it.
    pub fn has(&self, path: &str) -> bool {
        let folder = format!("{}/", path.trim_end_matches('/'));
        self.paths
            .iter()
            .any(|known| known == path || known.starts_with(&folder))
    }
}

/// What git tracks or would track; `None` where there is no git or no repository, as in an unpacked archive.
fn listed_by_git(root: &Path) -> Option<Vec<String>> {
    let listed = Command::new("git")
        // The tree may belong to another user than the one that checks it.
        .args(["-c", "safe.directory=*", "ls-files", "-z"])
        .args(["--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .ok()?;
    let names = String::from_utf8(listed.stdout).ok()?;
    let paths: Vec<String> = names
        .split('\0')
        .filter(|path| !path.is_empty())
        .map(str::to_string)
        .collect();
    (listed.status.success() && !paths.is_empty()).then_some(paths)
}

/// Every file below the root but for build outputs and hidden folders.
fn walked(root: &Path) -> Result<Vec<String>> {
    let mut paths = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder)
            .with_context(|| format!("cannot list {}", folder.display()))?;
        for entry in entries {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name == "target" || name.starts_with('.') {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(inside) = path.strip_prefix(root) {
                paths.push(inside.to_string_lossy().into_owned());
            }
        }
    }
    Ok(paths)
}
