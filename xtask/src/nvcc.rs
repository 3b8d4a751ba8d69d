//! A stand-in for NVIDIA's compiler, so that the `cuda` feature can be type-checked on machines that have none.
//!
//! Build scripts want kernels compiled before the crates around them are checked. Under the name `nvcc` this program
//! answers them with empty files; what is checked that way can not be linked, and is not.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::cargo::release_dir;

/// What it is called.
const NAME: &str = "nvcc";
/// A release whose interface the crates know, told the way `nvcc --version` does: they look at the fourth line.
const VERSION: &str =
    "stand-in for the NVIDIA compiler\n\n\nCuda compilation tools, release 13.0, V13.0.0";
/// A generation of GPUs with all types that the kernels may use.
const GENERATION: &str = "80";

/// Whether this process is to be that compiler.
pub fn is_asked_for() -> bool {
    let name = env::args_os().next().map(PathBuf::from);
    name.is_some_and(|name| name.file_stem().is_some_and(|stem| stem == NAME))
}

/// Does what the arguments ask for, but for compiling.
pub fn answer() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let after = |flag: &str| {
        let at = arguments.iter().position(|argument| argument == flag)?;
        arguments.get(at + 1)
    };
    if arguments.iter().any(|argument| argument == "--version") {
        println!("{VERSION}");
    } else if arguments
        .iter()
        .any(|argument| argument == "--list-gpu-code")
    {
        println!("sm_{GENERATION}");
    } else if let Some(file) = after("-o") {
        fs::write(file, "")?;
    } else if let (Some(folder), Some(source)) = (after("--output-directory"), arguments.last()) {
        let name = Path::new(source).with_extension("ptx");
        let name = name.file_name().context("a source has a name")?;
        fs::write(Path::new(folder).join(name), "")?;
    }
    Ok(())
}

/// Lets a command find the stand-in, and no GPU's generation to ask for.
pub fn stand_in(command: &mut Command) -> Result<()> {
    let folder = release_dir().join("stand-in");
    fs::create_dir_all(&folder)?;
    let path = folder.join(NAME);
    // Not a copy over it: it may be running.
    let _ = fs::remove_file(&path);
    let this = env::current_exe().context("this program has a path")?;
    fs::copy(this, &path).with_context(|| format!("{} cannot be made", path.display()))?;
    let mut search = vec![folder];
    search.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));
    command
        .env("PATH", env::join_paths(search)?)
        .env("NVCC", path)
        .env("CUDA_COMPUTE_CAP", GENERATION);
    Ok(())
}
