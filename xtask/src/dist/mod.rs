//! `cargo xtask dist`: what a release consists of. An archive with the program, a Debian package, the list of everything
//! that was built in, and checksums of all three.
//!
//! The package's files are those that `rbee install` itself writes. Equal sources give equal archives: times are the last
//! commit's, owners are root, names are in order.

mod archive;
mod deb;
mod sbom;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use sha2::{Digest, Sha256};

use crate::cargo::{cargo, release_dir, root, run};
use crate::say;
use archive::{Entry, tar_gz};

/// What lies in the archive beside the program.
const DOCUMENTS: [&str; 4] = ["README.md", "CHANGELOG.md", "LICENSE-MIT", "LICENSE-APACHE"];
/// Examples and units, for whoever does not use `rbee install`.
const EXAMPLES: &str = "deploy";

/// The flags of `cargo xtask dist`.
#[derive(Debug, Args)]
pub struct Dist {
    /// Build for this target [default: this machine's with musl, if that is installed, else this machine's own]. For this
    /// machine's own the tests' build is taken, where it is there
    #[arg(long, value_name = "TRIPLE")]
    target: Option<String>,

    /// Take this program, built for the target, instead of building one
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,

    /// Where everything goes
    #[arg(long, value_name = "DIR", default_value = "target/dist")]
    out: PathBuf,
}

/// What is packaged.
pub struct Release {
    pub version: String,
    pub target: String,
    pub program: Vec<u8>,
    /// Seconds since 1970: of every file in every archive.
    pub time: u64,
}

/// Builds and packages.
pub fn run_dist(dist: &Dist) -> Result<()> {
    let target = match &dist.target {
        Some(target) => target.clone(),
        None => usual_target()?,
    };
    let out = root().join(&dist.out);
    fs::create_dir_all(&out)?;
    let built = match &dist.binary {
        Some(binary) => binary.clone(),
        None => build(&target)?,
    };
    let binary = stripped(&built, &out)?;
    let release = Release {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        program: fs::read(&binary).with_context(|| format!("cannot read {}", binary.display()))?,
        time: time()?,
        target,
    };
    let stem = format!("rbee-{}-{}", release.version, release.target);
    let image = out.join("image");
    let _ = fs::remove_dir_all(&image);
    // The files of the package are the program's own knowledge.
    run(Command::new(&binary)
        .args([
            "install", "--system", "--prefix", "/usr", "--quiet", "--root",
        ])
        .arg(&image))?;
    let mut made = Vec::new();
    let mut add = |name: String, bytes: &[u8]| -> Result<()> {
        fs::write(out.join(&name), bytes).with_context(|| format!("cannot write {name}"))?;
        made.push((name, hex::encode(Sha256::digest(bytes))));
        Ok(())
    };
    add(format!("{stem}.tar.gz"), &archive_of(&release, &stem)?)?;
    add(deb::file_name(&release)?, &deb::package(&release, &image)?)?;
    add(format!("{stem}.cdx.json"), sbom::of(&release)?.as_bytes())?;
    fs::remove_dir_all(&image)?;
    fs::remove_file(&binary)?;
    let sums: String = made
        .iter()
        .map(|(name, sum)| format!("{sum}  {name}\n"))
        .collect();
    fs::write(out.join("SHA256SUMS"), &sums)?;
    for (name, _) in &made {
        say(&format!("made {}", out.join(name).display()))?;
    }
    Ok(())
}

/// musl makes a program that every Linux of its processor runs; without it the program wants a C library as new as here.
fn usual_target() -> Result<String> {
    let host = host()?;
    let musl = host.replace("-gnu", "-musl");
    let has = |command: &mut Command, wanted: &str| {
        let said = command.output().map(|said| said.stdout).unwrap_or_default();
        String::from_utf8_lossy(&said)
            .lines()
            .any(|line| line.contains(wanted))
    };
    let std = has(
        Command::new("rustup").args(["target", "list", "--installed"]),
        &musl,
    );
    let compiler = has(Command::new("musl-gcc").arg("-v").arg("--version"), "");
    if std && compiler {
        return Ok(musl);
    }
    say(&format!(
        "without the target {musl} and musl-gcc the program is linked to this machine's C library: \
         `rustup target add {musl}` and the package musl-tools make a static one"
    ))?;
    Ok(host)
}

/// The target of this machine.
fn host() -> Result<String> {
    let said = Command::new("rustc")
        .arg("-vV")
        .output()
        .context("cannot start rustc")?;
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    let host = said.lines().find_map(|line| line.strip_prefix("host: "));
    let host = host.context("rustc does not say its host")?;
    Ok(host.to_owned())
}

fn build(target: &str) -> Result<PathBuf> {
    // As the tests build it: the same crates with the same features.
    let mut build = cargo(&[
        "build",
        "--release",
        "--locked",
        "--workspace",
        "--all-targets",
    ]);
    let folder = match target == host()? {
        true => release_dir(),
        false => {
            build.args(["--target", target]);
            let above = release_dir();
            let above = above.parent().context("it lies in the target folder")?;
            above.join(target).join("release")
        }
    };
    if target.ends_with("-musl") {
        build.env("CC", "musl-gcc");
    }
    run(&mut build)?;
    let binary = folder.join("rbee");
    ensure!(binary.is_file(), "the build left no {}", binary.display());
    Ok(binary)
}

/// The program without what only a debugger reads, which is most of it.
fn stripped(binary: &Path, out: &Path) -> Result<PathBuf> {
    let stripped = out.join("rbee");
    run(Command::new("strip")
        .args(["--strip-debug", "-o"])
        .arg(&stripped)
        .arg(binary))
    .context("strip comes with the linker (binutils)")?;
    Ok(stripped)
}

/// Of the last commit, or what SOURCE_DATE_EPOCH says, as reproducible builds have it.
fn time() -> Result<u64> {
    if let Ok(said) = std::env::var("SOURCE_DATE_EPOCH") {
        return said
            .parse()
            .context("SOURCE_DATE_EPOCH is no number of seconds");
    }
    let asked = Command::new("git")
        .args(["log", "-1", "--format=%ct"])
        .current_dir(root())
        .output();
    let said = asked.map(|asked| asked.stdout).unwrap_or_default();
    let said = String::from_utf8_lossy(&said);
    (said.trim().parse()).context("git does not know the last commit's time: set SOURCE_DATE_EPOCH")
}

fn archive_of(release: &Release, stem: &str) -> Result<Vec<u8>> {
    let mut entries = vec![Entry::file(
        &format!("{stem}/rbee"),
        release.program.clone(),
        0o755,
    )];
    for name in DOCUMENTS {
        let bytes = fs::read(root().join(name)).with_context(|| format!("cannot read {name}"))?;
        entries.push(Entry::file(&format!("{stem}/{name}"), bytes, 0o644));
    }
    let examples = archive::walk(&root().join(EXAMPLES))?;
    entries.extend(
        examples
            .into_iter()
            .map(|entry| entry.below(&format!("{stem}/{EXAMPLES}"))),
    );
    tar_gz(entries, release.time)
}

/// The processor as Debian calls it.
fn debian_architecture(target: &str) -> Result<&'static str> {
    match target.split('-').next() {
        Some("x86_64") => Ok("amd64"),
        Some("aarch64") => Ok("arm64"),
        Some("riscv64gc") => Ok("riscv64"),
        _ => bail!("Debian's name of the processor of {target} is not known"),
    }
}

/// A path below a folder, with `/`.
fn relative(path: &Path, folder: &Path) -> Result<String> {
    let below = path.strip_prefix(folder).context("it lies in the folder")?;
    Ok(below.to_str().context("names are UTF-8")?.to_owned())
}
