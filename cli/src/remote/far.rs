//! What a machine says of itself before rbee is there.

use anyhow::{Result, anyhow};
use sha2::{Digest, Sha256};

use super::RemoteArgs;
use super::ssh::{Host, Input};

/// Stands before each line that is meant: login scripts may print too.
const MARK: &str = "rbee-look ";
/// Where `rbee install --user` puts the program, below the home directory.
const USUAL_PLACE: &str = ".local/bin/rbee";

/// A machine that was looked at.
#[derive(Debug, Clone, Default)]
pub struct Far {
    /// `Linux`
    pub system: String,
    /// `x86_64`
    pub machine: String,
    /// `glibc 2.36`, or nothing.
    pub libc: String,
    pub has_musl: bool,
    /// The machine's own name.
    pub name: String,
    pub home: String,
    /// rbee on PATH.
    pub on_path: String,
    /// Whether one lies where rbee was said to be, or where deploy puts it.
    pub elsewhere: String,
    /// The sha256 of the program where deploy puts it.
    pub installed_sha256: String,
}

impl Far {
    /// Looks around on a machine.
    pub async fn look(host: &Host, args: &RemoteArgs) -> Result<Far> {
        let script = script(args.binary_path.as_deref());
        let answer = host.run(&["sh", "-c", &script], Input::Nothing).await?;
        let said = answer.success("looking around")?;
        let mut far = Far::default();
        for line in said.lines().filter_map(|line| line.strip_prefix(MARK)) {
            let Some((key, value)) = line.split_once('=') else {
                continue;
            };
            match key {
                "has_musl" => far.has_musl = !value.is_empty(),
                "system" => far.system = value.to_owned(),
                "machine" => far.machine = value.to_owned(),
                "libc" => far.libc = value.to_owned(),
                "name" => far.name = value.to_owned(),
                "home" => far.home = value.to_owned(),
                "on_path" => far.on_path = value.to_owned(),
                "elsewhere" => far.elsewhere = value.to_owned(),
                "installed_sha256" => far.installed_sha256 = value.to_owned(),
                _ => {}
            }
        }
        match far.system.is_empty() || !far.home.starts_with('/') {
            true => Err(anyhow!("{} did not say what it is", host.name())),
            false => Ok(far),
        }
    }

    /// The minor version of its glibc 2.
    pub fn glibc_minor(&self) -> Option<u32> {
        let version = self.libc.strip_prefix("glibc 2.")?;
        version.split('.').next()?.parse().ok()
    }

    /// rbee there: on PATH, where it was said to be, or where deploy puts it.
    pub fn program(&self) -> Result<&str> {
        [&self.on_path, &self.elsewhere]
            .into_iter()
            .find(|path| path.starts_with('/'))
            .map(String::as_str)
            .ok_or_else(|| anyhow!("there is no rbee there, neither on PATH nor at [remote].binary_path: `rbee deploy` brings it"))
    }

    /// Where deploy puts the program.
    pub fn usual_place(&self) -> String {
        format!("{}/{USUAL_PLACE}", self.home)
    }
}

/// The few lines that look around, in what every shell understands.
fn script(binary_path: Option<&str>) -> String {
    let places = match binary_path {
        Some(path) => super::quote(path),
        None => format!("\"$HOME/{USUAL_PLACE}\""),
    };
    let lines = [
        ("system", "$(uname -s)".to_owned()),
        ("machine", "$(uname -m)".to_owned()),
        ("name", "$(uname -n)".to_owned()),
        ("libc", "$(getconf GNU_LIBC_VERSION 2>/dev/null)".to_owned()),
        (
            "has_musl",
            "$(ls /lib/ld-musl-* 2>/dev/null | head -n 1)".to_owned(),
        ),
        ("home", "$HOME".to_owned()),
        ("on_path", "$(command -v rbee 2>/dev/null)".to_owned()),
        ("elsewhere", format!("$(test -x {places} && echo {places})")),
        (
            "installed_sha256",
            format!("$(sha256sum \"$HOME/{USUAL_PLACE}\" 2>/dev/null | cut -d ' ' -f 1)"),
        ),
    ];
    let lines = lines.map(|(key, value)| format!("echo \"{MARK}{key}={value}\""));
    lines.join("; ")
}

/// A digest as `sha256sum` prints it.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}
