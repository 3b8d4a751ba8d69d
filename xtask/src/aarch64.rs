//! The kernels for 64-bit ARM: checked and tested on another processor, under emulation.
//!
//! Only their own crate is built for it, so that it takes a minute and not the whole workspace.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::cargo::{cargo, root, run};
use crate::{say, services};

const TARGET: &str = "aarch64-unknown-linux-gnu";

/// What the names of cargo's settings for the target begin with.
const SETTINGS: &str = "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU";

/// The linker, the emulator and the C library, with Debian's package of each.
const PROGRAMS: [(&str, &str); 3] = [
    (LINKER, "gcc-aarch64-linux-gnu"),
    (EMULATOR, "qemu-user"),
    (
        "/usr/aarch64-linux-gnu/lib/libc.so.6",
        "libc6-dev-arm64-cross",
    ),
];
const LINKER: &str = "aarch64-linux-gnu-gcc";
const EMULATOR: &str = "qemu-aarch64";

/// Everything that the emulator knows, so that no kernel is left out; and where the C library lies.
const EMULATION: &str = "qemu-aarch64 -cpu max -L /usr/aarch64-linux-gnu";

/// Clippy and the tests of the kernels, compiled for the other processor.
///
/// # Errors
/// When something that this needs is missing and cannot be installed, or a test fails.
pub fn check() -> Result<()> {
    if cfg!(target_arch = "aarch64") {
        return say(
            "the kernels for 64-bit ARM are tested with the others: this is such a processor",
        );
    }
    services::ensure_installed(&PROGRAMS, "the tests of the kernels for 64-bit ARM")?;
    ensure_target()?;
    run(kernels("clippy", &["--all-targets"]).args(["--", "-D", "warnings"]))?;
    run(kernels("test", &["--lib"])
        .env(format!("{SETTINGS}_LINKER"), LINKER)
        .env(format!("{SETTINGS}_RUNNER"), EMULATION))
}

fn kernels(what: &str, options: &[&str]) -> Command {
    let mut command = cargo(&[what, "--release", "--package", "rbee-kernels"]);
    command.args(["--target", TARGET]).args(options);
    command
}

/// Sees to it that the standard library for the target is there.
fn ensure_target() -> Result<()> {
    if has_target()? {
        return Ok(());
    }
    let command = format!("rustup target add {TARGET}");
    say(&format!(
        "the standard library for {TARGET} is missing: {command}"
    ))?;
    let mut add = Command::new("rustup");
    add.args(["target", "add", TARGET]).current_dir(root());
    if let Err(problem) = run(&mut add) {
        bail!(
            "the kernels for 64-bit ARM cannot be tested without Rust's standard library for {TARGET}, and `{command}` does \
             not get it: {problem:#}"
        );
    }
    ensure!(
        has_target()?,
        "`{command}` ended well, and the standard library for {TARGET} is still not there"
    );
    Ok(())
}

fn has_target() -> Result<bool> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let asked = Command::new(rustc)
        .args(["--print", "target-libdir", "--target", TARGET])
        .current_dir(root())
        .output()
        .context("could not start rustc")?;
    let folder = String::from_utf8(asked.stdout).context("a folder's name that is no UTF-8")?;
    Ok(asked.status.success() && Path::new(folder.trim()).is_dir())
}
