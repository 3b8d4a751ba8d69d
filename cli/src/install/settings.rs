//! Settings that another machine sends along: the configuration and secrets of a node that `rbee deploy` makes.

use std::collections::BTreeMap;
use std::io::Read;

use clap::CommandFactory;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::layout::Layout;
use super::write::write_file;
use crate::args::Cli;
use crate::config::{ConfigFile, Schema, TEMPLATE};
use crate::failure::Failure;

/// More is none that a deploy sends.
const BYTES_MAX: u64 = 1 << 20;
/// Of what may hold secrets, or leads to them.
const PRIVATE: u32 = 0o600;
/// Of the machine's configuration, which all users read.
const PUBLIC: u32 = 0o644;
/// The first line of a configuration that nobody has changed since; the rest's digest follows.
const OWN: &str =
    "# Written by `rbee deploy`, and written again by the next one unless it is changed here. ";

/// What is sent along.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Settings {
    /// The configuration's text.
    pub config: String,
    /// Files beside it, by name, that only their owner reads.
    pub secrets: BTreeMap<String, String>,
}

/// What became of a configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Written {
    /// It was made, or made anew.
    Made,
    /// It was there, the same.
    Same,
    /// It was there, changed by somebody: it is as it was.
    Kept,
}

impl Settings {
    /// Reads what is sent along on stdin. Never an argument: those are seen by every user of the machine.
    pub fn from_stdin() -> Result<Settings, Failure> {
        let mut text = String::new();
        std::io::stdin()
            .lock()
            .take(BYTES_MAX)
            .read_to_string(&mut text)?;
        let settings: Settings = serde_json::from_str(&text)
            .map_err(|error| Failure::usage(format!("the settings on stdin: {error}")))?;
        if let Some(name) = settings.secrets.keys().find(|name| !is_plain(name)) {
            return Err(Failure::usage(format!("{name:?} is no name of a secret")));
        }
        Ok(settings)
    }

    /// Writes secrets and configuration. The second is whether anything is another than it was.
    pub fn write(&self, layout: &Layout) -> Result<(Written, bool), Failure> {
        let path = layout.on_disk(&layout.config);
        let schema = Schema::of(&Cli::command());
        if let Err(troubles) = ConfigFile::parse(&path, &self.config, &schema) {
            return Err(Failure::usage(format!(
                "the settings cannot be used, line {}",
                troubles[0]
            )));
        }
        let mut changed = false;
        for (name, secret) in &self.secrets {
            let file = layout.on_disk(&layout.secrets().join(name));
            changed |= write_file(&file, format!("{secret}\n").as_bytes(), PRIVATE)?;
        }
        let there = std::fs::read_to_string(&path).ok();
        if there.is_some_and(|text| !is_own(&text) && text != TEMPLATE) {
            return Ok((Written::Kept, changed));
        }
        let digest = digest(&self.config);
        let text = format!("{OWN}{digest}\n{}", self.config);
        changed |= write_file(&path, text.as_bytes(), PRIVATE)?;
        let written = match changed {
            true => Written::Made,
            false => Written::Same,
        };
        Ok((written, changed))
    }
}

/// The template, where there is no configuration yet.
pub fn write_template(layout: &Layout) -> Result<Written, Failure> {
    let path = layout.on_disk(&layout.config);
    let mode = match layout.scope {
        super::Scope::User => PRIVATE,
        super::Scope::System => PUBLIC,
    };
    match std::fs::read_to_string(&path) {
        Ok(text) if text == TEMPLATE => Ok(Written::Same),
        // Whatever is there is somebody's.
        _ if path.exists() => Ok(Written::Kept),
        _ => {
            write_file(&path, TEMPLATE.as_bytes(), mode)?;
            Ok(Written::Made)
        }
    }
}

/// Whether a configuration is as it was written: the template, or a deploy's.
pub fn is_untouched(text: &str) -> bool {
    text == TEMPLATE || is_own(text)
}

fn is_own(text: &str) -> bool {
    let Some((first, rest)) = text.split_once('\n') else {
        return false;
    };
    first
        .strip_prefix(OWN)
        .is_some_and(|said| said == digest(rest))
}

fn digest(text: &str) -> String {
    hex::encode(Sha256::digest(text.as_bytes()))
}

fn is_plain(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::install::Scope;

    fn settings(config: &str, token: &str) -> Settings {
        Settings {
            config: config.to_owned(),
            secrets: BTreeMap::from([("token".to_owned(), token.to_owned())]),
        }
    }

    #[test]
    fn settings_are_written_again_until_somebody_changes_them() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(Scope::System, None, Some(root.path())).unwrap();
        let path = layout.on_disk(&layout.config);
        let of = |config: &str, token: &str| settings(config, token).write(&layout).unwrap().0;
        assert_eq!(of("server = \"http://a\"\n", "one"), Written::Made);
        assert_eq!(of("server = \"http://a\"\n", "one"), Written::Same);
        assert_eq!(of("server = \"http://a\"\n", "two"), Written::Made);
        assert_eq!(of("server = \"http://b\"\n", "two"), Written::Made);
        let text = std::fs::read_to_string(&path).unwrap() + "log = \"info\"\n";
        std::fs::write(&path, &text).unwrap();
        assert_eq!(of("server = \"http://c\"\n", "two"), Written::Kept);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        assert!(settings("serve = 1\n", "x").write(&layout).is_err());
    }
}
