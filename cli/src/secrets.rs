//! Secrets of this process: from the environment, else from a file that the configuration names and only its owner reads.
//!
//! They are looked up when they are needed, so that a command that needs none is not stopped by a file that it may not read.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::OnceLock;

use crate::config::{ConfigFile, SECRETS};
use crate::failure::Failure;
use crate::server_token;

/// Files by the variables that go before them. Like the environment, the same for the whole life of the process.
static FILES: OnceLock<BTreeMap<&'static str, PathBuf>> = OnceLock::new();

/// Takes over which files the configuration names.
pub fn know_files(config: &ConfigFile) {
    let named = SECRETS
        .into_iter()
        .filter_map(|(key, variable, _)| Some((variable, config.secret_file(key)?)));
    FILES.get_or_init(|| named.collect());
}

/// Where a secret comes from.
pub enum Source {
    Variable,
    File(&'static PathBuf),
}

/// Where a secret comes from, if there is one.
pub fn source(variable: &str) -> Option<Source> {
    let set = std::env::var_os(variable).is_some_and(|text| !text.is_empty());
    match set {
        true => Some(Source::Variable),
        false => FILES.get()?.get(variable).map(Source::File),
    }
}

/// A secret by its variable. An empty variable is one that is not set.
pub fn read(variable: &str) -> Result<Option<String>, Failure> {
    match std::env::var(variable) {
        Ok(secret) if !secret.is_empty() => return Ok(Some(secret)),
        Err(std::env::VarError::NotUnicode(_)) => {
            return Err(Failure::usage(format!("{variable} is not valid UTF-8")));
        }
        Ok(_) | Err(std::env::VarError::NotPresent) => {}
    }
    let Some(Source::File(path)) = source(variable) else {
        return Ok(None);
    };
    let missing = || {
        Failure::usage(format!(
            "{} is not there or empty: the configuration names it in place of {variable}",
            path.display()
        ))
    };
    server_token::read_secret(path)?
        .ok_or_else(missing)
        .map(Some)
}
