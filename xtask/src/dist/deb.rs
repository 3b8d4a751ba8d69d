//! A Debian package (deb(5)): an `ar` archive of a version, what is said about the package, and its files.

use std::path::Path;

use anyhow::{Context, Result};

use super::archive::{Entry, tar_gz, walk};
use super::{Release, debian_architecture};

/// The configuration is the administrator's: a new version of the package asks before it changes it.
const CONFIGURATION: &str = "etc/rbee/config.toml";
/// What Debian runs after the files are there: its packages have no other way to have a user made.
const AFTER_INSTALLING: &str = "#!/bin/sh\nset -e\n\
    if command -v systemd-sysusers >/dev/null; then systemd-sysusers rbee.conf; fi\n\
    if [ -d /run/systemd/system ]; then systemctl daemon-reload; fi\n\
    if [ -d /run/systemd/system ] && [ -n \"$2\" ]; then systemctl try-restart rbee-serve.service rbee-worker.service; fi\n";
/// What it runs before the files go: what runs of them ends first.
const BEFORE_REMOVING: &str = "#!/bin/sh\nset -e\n\
    if [ \"$1\" = remove ] && [ -d /run/systemd/system ]; then\n\
    \x20 systemctl disable --now rbee-serve.service rbee-worker.service\nfi\n";
/// How a symbol's version begins that the C library must have.
const GLIBC: &[u8] = b"GLIBC_2.";

/// `rbee_0.1.0_amd64.deb`
pub fn file_name(release: &Release) -> Result<String> {
    let architecture = debian_architecture(&release.target)?;
    Ok(format!("rbee_{}_{architecture}.deb", release.version))
}

/// The package of an image of its files.
pub fn package(release: &Release, image: &Path) -> Result<Vec<u8>> {
    let mut files = walk(image)?;
    let bytes: usize = files
        .iter()
        .filter_map(|entry| entry.bytes.as_ref())
        .map(Vec::len)
        .sum();
    // Debian looks for it there.
    let licences = std::fs::read(crate::cargo::root().join("LICENSE-MIT"))
        .context("cannot read LICENSE-MIT")?;
    for folder in ["usr/share/doc", "usr/share/doc/rbee"] {
        files.push(Entry::folder(folder));
    }
    files.push(Entry::file("usr/share/doc/rbee/copyright", licences, 0o644));
    let files: Vec<Entry> = files.into_iter().map(|entry| entry.below(".")).collect();
    let control = vec![
        Entry::file("./control", control(release, bytes)?.into_bytes(), 0o644),
        Entry::file(
            "./conffiles",
            format!("/{CONFIGURATION}\n").into_bytes(),
            0o644,
        ),
        Entry::file("./postinst", AFTER_INSTALLING.as_bytes().to_vec(), 0o755),
        Entry::file("./prerm", BEFORE_REMOVING.as_bytes().to_vec(), 0o755),
    ];
    let members = [
        ("debian-binary", b"2.0\n".to_vec()),
        ("control.tar.gz", tar_gz(control, release.time)?),
        ("data.tar.gz", tar_gz(files, release.time)?),
    ];
    Ok(ar(&members, release.time))
}

fn control(release: &Release, bytes: usize) -> Result<String> {
    let depends = match least_glibc(&release.program) {
        0 => String::new(),
        minor => format!("Depends: libc6 (>= 2.{minor}), libgcc-s1\n"),
    };
    Ok(format!(
        "Package: rbee\nVersion: {}\nArchitecture: {}\nMaintainer: the rbee developers <rbee@localhost>\n\
         Installed-Size: {}\n{depends}Recommends: ca-certificates\nSuggests: postgresql, redis-server\nSection: utils\n\
         Priority: optional\nDescription: batch inference on your own machines\n A file of prompts in, one results file \
         out, the same bytes every time.\n",
        release.version,
        debian_architecture(&release.target)?,
        bytes.div_ceil(1024),
    ))
}

/// The newest version 2 of the C library that the program names; 0: none.
fn least_glibc(program: &[u8]) -> u32 {
    let mut least = 0;
    let mut rest = program;
    while let Some(at) = rest.windows(GLIBC.len()).position(|part| part == GLIBC) {
        rest = &rest[at + GLIBC.len()..];
        let digits = rest.iter().take(3).take_while(|byte| byte.is_ascii_digit());
        least = least.max(digits.fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0')));
    }
    least
}

/// The common format of `ar`: a line for each member, and an even number of bytes.
fn ar(members: &[(&str, Vec<u8>)], time: u64) -> Vec<u8> {
    let mut archive = b"!<arch>\n".to_vec();
    for (name, bytes) in members {
        let line = format!(
            "{name:<16}{time:<12}{:<6}{:<6}{:<8}{:<10}`\n",
            0,
            0,
            "100644",
            bytes.len()
        );
        archive.extend(line.as_bytes());
        archive.extend(bytes);
        if bytes.len() % 2 == 1 {
            archive.push(b'\n');
        }
    }
    archive
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_begin_at_even_places_behind_lines_of_sixty() {
        let archive = ar(&[("one", b"abc".to_vec()), ("two", b"de".to_vec())], 7);
        assert_eq!(archive.len(), 8 + 60 + 4 + 60 + 2);
        assert!(
            archive[72..]
                .starts_with(b"two             7           0     0     100644  2         `\nde")
        );
    }

    #[test]
    fn newest_version_of_the_library_counts() {
        assert_eq!(least_glibc(b"GLIBC_2.17\0GLIBC_2.34\0GLIBC_2.4\0"), 34);
        assert_eq!(least_glibc(b"nothing"), 0);
    }
}
