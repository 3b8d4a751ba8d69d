//! Rules about what source files may not hold.
//!
//! The patterns are put together from parts, so that this file does not break its own rules.

use super::tree::{TextFile, Tree};

/// The one file of the tests that may wait for time to pass: it polls with a deadline.
const POLLING: &str = "tests/src/wait.rs";

/// Files that others wrote.
const GENERATED: [&str; 1] = ["Cargo.lock"];

pub fn sleeping_tests(tree: &Tree) -> Vec<String> {
    let patterns = [
        concat!("thread::", "sleep"),
        concat!("time::", "sleep"),
        concat!("\"sle", "ep\""),
    ];
    rust(tree)
        .filter(|file| file.path != POLLING)
        .flat_map(|file| {
            file.test_lines()
                .filter(|(_, line)| patterns.iter().any(|pattern| line.contains(pattern)))
                .map(|(number, _)| format!("{}:{number} sleeps", file.path))
                .collect::<Vec<_>>()
        })
        .collect()
}

pub fn ignored_tests(tree: &Tree) -> Vec<String> {
    holding(rust(tree), &[concat!("#[", "ignore")])
}

pub fn allowed_lints(tree: &Tree) -> Vec<String> {
    holding(
        rust(tree),
        &[concat!("#[", "allow("), concat!("#![", "allow(")],
    )
}

pub fn unfinished_code(tree: &Tree) -> Vec<String> {
    holding(
        rust(tree),
        &[
            concat!("todo", "!("),
            concat!("unimplemented", "!("),
            concat!("dbg", "!("),
        ],
    )
}

pub fn registry_hosts(tree: &Tree) -> Vec<String> {
    holding(
        written(tree),
        &[
            concat!("pypi", ".org"),
            concat!("pythonhosted", ".org"),
            concat!("crates", ".io"),
            concat!("proxy.golang", ".org"),
            concat!("npmjs", ".org"),
        ],
    )
}

pub fn machine_paths(tree: &Tree) -> Vec<String> {
    holding(
        written(tree),
        &[
            concat!("/work", "/"),
            concat!("/ro", "ot/"),
            concat!("/tmp/", "models"),
        ],
    )
}

/// Rust files of more lines than this, longest first.
pub fn long_files(tree: &Tree, limit: usize) -> Vec<(String, usize)> {
    let mut long: Vec<_> = rust(tree)
        .map(|file| (file.path.clone(), file.lines().count()))
        .filter(|(_, lines)| *lines > limit)
        .collect();
    long.sort_by_key(|(path, lines)| (std::cmp::Reverse(*lines), path.clone()));
    long
}

fn rust(tree: &Tree) -> impl Iterator<Item = &TextFile> {
    tree.files().filter(|file| file.is_rust())
}

fn written(tree: &Tree) -> impl Iterator<Item = &TextFile> {
    tree.files()
        .filter(|file| !GENERATED.contains(&file.path.as_str()))
}

fn holding<'a>(files: impl Iterator<Item = &'a TextFile>, patterns: &[&str]) -> Vec<String> {
    let mut breaches = Vec::new();
    for file in files {
        for (number, line) in file.lines() {
            for pattern in patterns.iter().filter(|pattern| line.contains(*pattern)) {
                breaches.push(format!("{}:{number} holds `{pattern}`", file.path));
            }
        }
    }
    breaches
}
