//! Names of files that come from elsewhere: only plain ones are let near the disk.

/// Longest name of one path component that common file systems take.
const COMPONENT_BYTES_MAX: usize = 255;
/// Longest path inside a repository.
const PATH_BYTES_MAX: usize = 1_024;

/// Whether `name` can be used as a single file name in a directory of ours.
pub fn is_safe_component(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= COMPONENT_BYTES_MAX
        && name != "."
        && name != ".."
        && !name
            .chars()
            .any(|c| c == '/' || c == '\\' || c == ':' || c.is_control())
}

/// Whether `path` is a relative path of plain components with `/` between them.
pub fn is_safe_path(path: &str) -> bool {
    path.len() <= PATH_BYTES_MAX && path.split('/').all(is_safe_component)
}

/// The last component of a safe path.
pub fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_lead_elsewhere_are_unsafe() {
        for name in [
            "",
            ".",
            "..",
            "../x",
            "a/../b",
            "/etc/passwd",
            "a//b",
            "a/",
            "/",
            "a\\b",
            "..\\x",
            "c:x",
            "a\0b",
            "a\nb",
            "a/./b",
        ] {
            assert!(!is_safe_path(name), "{name:?} passed");
        }
        assert!(!is_safe_path(&"x".repeat(256)));
        assert!(!is_safe_path(&"x/".repeat(600)));
        for name in [
            "model.gguf",
            "Q4_K_M/model-00001-of-00002.gguf",
            "a..b",
            ".hidden",
            "ünïcode 名.json",
        ] {
            assert!(is_safe_path(name), "{name:?} was refused");
        }
        assert_eq!(base_name("a/b/c.gguf"), "c.gguf");
    }
}
