//! Python clients of the HTTP API: scripts run by the interpreter whose packages `cargo xtask test` installed.

use std::path::{Path, PathBuf};

use crate::cluster::TOKEN;
use crate::process::{Ended, Home, Rbee};

/// The interpreter: `RBEE_TEST_PYTHON`.
///
/// # Panics
/// When it is not named: no test passes without the packages.
fn interpreter() -> PathBuf {
    let named = std::env::var_os("RBEE_TEST_PYTHON").filter(|value| !value.is_empty());
    let named = named.expect(
        "RBEE_TEST_PYTHON names a Python with the packages of the tests: `cargo xtask test` sets it",
    );
    PathBuf::from(named)
}

/// A script of `tests/rbee/`, as a client of the server at `url`.
pub fn script(home: &Home, name: &str, url: &str, arguments: &[&str]) -> Rbee {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("rbee");
    let script = folder.join(name);
    let words = [script.to_str().expect("the repository's path is UTF-8")];
    home.command(&interpreter(), words.iter().chain(arguments))
        .env("OPENAI_BASE_URL", format!("{url}/v1"))
        .env("OPENAI_API_KEY", TOKEN)
        .env("PYTHONDONTWRITEBYTECODE", "1")
}

/// Runs a script that must end well; what it printed is in the failure.
pub fn passes(home: &Home, name: &str, url: &str, arguments: &[&str]) -> Ended {
    script(home, name, url, arguments).exits(0)
}

/// Runs a module of a package.
pub fn module(home: &Home, name: &str, arguments: &[&str]) -> Rbee {
    home.command(&interpreter(), ["-m", name].iter().chain(arguments))
}
