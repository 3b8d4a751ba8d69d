//! Temporary folders of tests, whose names say whose they are: `cargo xtask test` removes those of killed runs.

use tempfile::TempDir;

/// The beginning of each name; the process id follows.
const PREFIX: &str = "rbee-test-";

/// A new folder. It goes with this.
pub fn temporary() -> TempDir {
    tempfile::Builder::new()
        .prefix(&format!("{PREFIX}{}-", std::process::id()))
        .tempdir()
        .expect("a temporary folder can be made")
}
