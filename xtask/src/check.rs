//! `cargo xtask test` and `cargo xtask ci`: what is run, in which order, with which settings.
//!
//! Everything is built in the release profile with the workspace's whole feature set, so that no crate is compiled twice.

use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::cargo::{cargo, release_dir, run};
use crate::{aarch64, house, leftovers, models, nvcc, python, services};

/// The filter that also asks for full size: the fault tests run small otherwise.
const FAULTS: &str = "faults";
/// What releases lack and tests need: failpoints, and traces to a collector.
const TESTED: &str = "rbee/failpoints,rbee/otlp";

/// Remove what killed runs left, fetch the models, install the servers, build the binary, run the tests whose name contains `filter`.
pub fn test(filter: Option<&str>) -> Result<()> {
    leftovers::remove()?;
    services::ensure_all()?;
    let models = models::fetch_all()?;
    let python = python::ensure()?;
    build_with_failpoints()?;
    run(&mut cargo(&[
        "build",
        "--release",
        "--workspace",
        "--all-targets",
    ]))?;
    let binary = release_dir().join("rbee");
    ensure!(
        binary.exists(),
        "the build left no {}; is the package `rbee` still called so?",
        binary.display()
    );
    let mut tests = cargo(&["test", "--release", "--workspace"]);
    tests
        .env("RBEE_TEST_MODELS", models)
        .env("RBEE_TEST_PYTHON", python)
        .env("RBEE_BIN", binary);
    if let Some(filter) = filter {
        tests.arg("--").arg(filter);
    }
    if filter == Some(FAULTS) {
        tests.env("RBEE_TEST_FULL", "1");
    }
    run(&mut tests)
}

/// Builds `rbee` with failpoints and traces and puts it beside the one that is tested, under another name. The features belong to
/// the last crate only and the selection is the workspace's, so that no other crate is compiled twice.
fn build_with_failpoints() -> Result<()> {
    run(&mut cargo(&[
        "build",
        "--release",
        "--workspace",
        "--all-targets",
        "--features",
        TESTED,
    ]))?;
    let built = release_dir().join("rbee");
    // Not a copy over it: a test may still run the old one.
    let kept = release_dir().join("rbee-with-failpoints");
    let _ = std::fs::remove_file(&kept);
    std::fs::copy(&built, &kept)
        .with_context(|| format!("{} cannot be kept", built.display()))
        .map(|_| ())
}

/// What must hold before a change lands. The tests come last: their closing lines are what a reader looks for.
pub fn ci() -> Result<()> {
    run(&mut cargo(&["fmt", "--all", "--check"]))?;
    house::check()?;
    run(&mut clippy(TESTED))?;
    let mut cuda = clippy("rbee/cuda");
    nvcc::stand_in(&mut cuda)?;
    run(&mut cuda)?;
    aarch64::check()?;
    test(None)
}

fn clippy(features: &str) -> Command {
    cargo(&[
        "clippy",
        "--release",
        "--workspace",
        "--all-targets",
        "--features",
        features,
        "--",
        "-D",
        "warnings",
    ])
}
