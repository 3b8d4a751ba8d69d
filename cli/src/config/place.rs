//! Which file is the configuration: `RBEE_CONFIG`, else the user's, else the machine's. The first one that is there counts
//! alone.

use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};
use etcetera::BaseStrategy;

use crate::failure::Failure;

/// Names the file; it must be there then.
pub const CONFIG_VARIABLE: &str = "RBEE_CONFIG";
/// The machine's file.
const SYSTEM: &str = "/etc/rbee/config.toml";

/// The file that counts, if there is one.
pub fn find() -> Result<Option<PathBuf>, Failure> {
    if let Some(named) = named() {
        // A device or a pipe will do as well: /dev/null is no configuration.
        if !named.exists() || named.is_dir() {
            return Err(Failure::usage(format!(
                "{CONFIG_VARIABLE} names {}, and there is no such file",
                named.display()
            )));
        }
        return Ok(Some(named));
    }
    // Whoever has no home has no file there either.
    let places = user_path().ok().into_iter().chain([system_path()]);
    Ok(places.into_iter().find(|path| path.exists()))
}

/// The file that `rbee config edit` changes: the one that counts, else a new one of the user's.
pub fn file_to_edit() -> Result<PathBuf, Failure> {
    if let Some(named) = named() {
        return Ok(named);
    }
    match find()? {
        Some(path) => Ok(path),
        None => Ok(user_path()?),
    }
}

/// The user's file, whether it is there or not.
pub fn user_path() -> Result<PathBuf> {
    let strategy = etcetera::choose_base_strategy()
        .map_err(|error| anyhow!("{error}: set HOME, or name a file by {CONFIG_VARIABLE}"))?;
    Ok(strategy.config_dir().join("rbee").join("config.toml"))
}

/// The machine's file, whether it is there or not.
pub fn system_path() -> PathBuf {
    Path::new(SYSTEM).to_owned()
}

fn named() -> Option<PathBuf> {
    let named = std::env::var_os(CONFIG_VARIABLE)?;
    (!named.is_empty()).then(|| PathBuf::from(named))
}
