//! The programs that tests start: Redis, Postgres, OpenSSH. What is missing is installed where that is allowed.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail, ensure};

use crate::cargo::run;
use crate::say;

/// A program, or a file by its whole path, with Debian's package of it.
type Program = (&'static str, &'static str);

/// What tests of the whole start.
const PROGRAMS: [Program; 10] = [
    ("redis-server", "redis-server"),
    ("redis-cli", "redis-tools"),
    ("postgres", "postgresql"),
    ("initdb", "postgresql"),
    ("psql", "postgresql-client"),
    ("ip", "iproute2"),
    ("faketime", "faketime"),
    ("chromium", "chromium"),
    ("sshd", "openssh-server"),
    ("ssh", "openssh-client"),
];

/// Sees to it that every server program is there.
///
/// # Errors
/// As [`ensure_installed`].
pub fn ensure_all() -> Result<()> {
    ensure_installed(&PROGRAMS, "the tests")
}

/// Sees to it that the programs are there, which `who` needs.
///
/// # Errors
/// When one is missing and cannot be installed: the error names the command that would do it.
pub fn ensure_installed(programs: &[Program], who: &str) -> Result<()> {
    let missing = missing(programs);
    if missing.is_empty() {
        return Ok(());
    }
    let mut packages: Vec<&str> = missing.iter().map(|(_, package)| *package).collect();
    packages.sort_unstable();
    packages.dedup();
    let command = format!("apt-get install -y {}", packages.join(" "));
    let root = Command::new("id").arg("-u").output()?.stdout == b"0\n";
    if !root || find("apt-get").is_none() {
        let names: Vec<&str> = missing.iter().map(|(name, _)| *name).collect();
        bail!(
            "{who} need {}: install it with `{command}` as root, or with this system's package manager, and put it on PATH",
            names.join(", ")
        );
    }
    say(&format!(
        "{who} need programs that are not installed: {command}"
    ))?;
    run(Command::new("apt-get").arg("update"))?;
    let mut install = Command::new("apt-get");
    install
        .args(["install", "-y", "--no-install-recommends"])
        .args(&packages)
        .env("DEBIAN_FRONTEND", "noninteractive");
    run(&mut install)?;
    ensure!(
        self::missing(programs).is_empty(),
        "`{command}` ended well, and the programs are still not there"
    );
    Ok(())
}

fn missing(programs: &[Program]) -> Vec<Program> {
    let absent = |(name, _): &Program| find(name).is_none();
    programs.iter().copied().filter(absent).collect()
}

/// On PATH, where servers lie that users do not call, or where Debian keeps the programs of each Postgres version.
fn find(name: &str) -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql");
    let debian = versions
        .into_iter()
        .flatten()
        .flatten()
        .map(|version| version.path().join("bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let servers = ["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from);
    debian
        .chain(servers)
        .chain(std::env::split_paths(&path))
        .map(|folder| folder.join(name))
        .find(|file: &PathBuf| Path::is_file(file))
}
