//! The house rules that a program can check: what sources may not hold, and that documents name what exists.
//!
//! Each rule is a function from the tree to the breaches it found. They run in `cargo xtask ci` and, one test a rule, in
//! `cargo test`.

mod documents;
mod source;
mod tree;

use anyhow::{Result, bail};

use tree::Tree;

/// Files longer than this are named in the report. It is no limit: some nouns are large.
const LONG_FILE_LINES: usize = 400;

/// A rule: its name, and how to find the breaches, each a sentence that names the file.
type Rule = (&'static str, fn(&Tree) -> Vec<String>);

const RULES: [Rule; 8] = [
    (
        "documents name files that exist",
        documents::name_what_exists,
    ),
    ("the house has its documents", documents::are_there),
    ("tests do not sleep", source::sleeping_tests),
    ("no test is ignored", source::ignored_tests),
    ("lints are expected, not allowed", source::allowed_lints),
    ("no unfinished code", source::unfinished_code),
    ("no registry's host name", source::registry_hosts),
    ("no path of one machine", source::machine_paths),
];

/// Check every rule; report long files.
pub fn check() -> Result<()> {
    let tree = Tree::read(&crate::cargo::root())?;
    for (path, lines) in source::long_files(&tree, LONG_FILE_LINES) {
        crate::say(&format!("long file: {path}, {lines} lines"))?;
    }
    let mut breaches = Vec::new();
    for (name, rule) in RULES {
        breaches.extend(
            rule(&tree)
                .into_iter()
                .map(|breach| format!("  {name}: {breach}")),
        );
    }
    if breaches.is_empty() {
        return crate::say("the house rules hold");
    }
    bail!("house rules are broken:\n{}", breaches.join("\n"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn house_rules_hold_in_this_repository() {
        let tree = Tree::read(&crate::cargo::root()).unwrap();
        assert!(tree.files().count() > 20, "the tree was not read");
        for (name, rule) in RULES {
            assert_eq!(rule(&tree), Vec::<String>::new(), "rule: {name}");
        }
    }
}
