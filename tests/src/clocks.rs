//! Processes whose clock is wrong, by libfaketime.

use std::path::PathBuf;

/// Where Debian keeps it: a folder for each architecture.
const LIBRARIES: &str = "/usr/lib";
const LIBRARY: &str = "faketime/libfaketime.so.1";

/// What a process finds in its environment whose clock is off by so many seconds. Its steady clock is right.
///
/// # Panics
/// Where libfaketime is not installed: `cargo xtask test` installs it.
pub fn off_by(seconds: i64) -> [(String, String); 3] {
    [
        ("LD_PRELOAD", library().display().to_string()),
        ("FAKETIME", format!("{seconds:+}")),
        ("DONT_FAKE_MONOTONIC", "1".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
}

fn library() -> PathBuf {
    let folders = std::fs::read_dir(LIBRARIES).into_iter().flatten().flatten();
    let mut found = folders.map(|folder| folder.path().join(LIBRARY));
    found
        .find(|file| file.is_file())
        .expect("libfaketime is installed: `cargo xtask test` does that")
}
