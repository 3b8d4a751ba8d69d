//! The configuration file: which one it is, what may stand in it, and how it fills what a command line leaves open.
//!
//! There is one mechanism: every setting is a flag of some command, and the file's value becomes that flag's default. So
//! a flag goes before the environment, the environment before the file and the file before the program's own default, and
//! no command knows of the file. Secrets are the exception: the file names other files that hold them (`secrets`).

mod file;
mod fill;
mod nearest;
mod place;
mod schema;
#[cfg(test)]
mod tests;
mod words;

use clap::CommandFactory;

use crate::args::Cli;
use crate::failure::Failure;

pub use file::{ConfigFile, FileValue, text_of};
pub use fill::must_be_sound;
pub use place::{CONFIG_VARIABLE, file_to_edit, find, system_path, user_path};
pub use schema::{SECRETS, Schema, Setting};

/// Every setting with its explanation, all commented out: what `rbee install` and `rbee config edit` begin with.
pub const TEMPLATE: &str = include_str!("../../../deploy/config.toml.example");

/// What may be set, and what the file of this user and machine sets.
pub struct Config {
    pub schema: Schema,
    pub file: Option<ConfigFile>,
}

impl Config {
    /// Reads the file that counts; without one, nothing is set.
    ///
    /// # Errors
    /// The file cannot be read, or something in it cannot be used: each trouble with its line.
    pub fn load() -> Result<Config, Failure> {
        let schema = Schema::of(&Cli::command());
        let file = match find()? {
            Some(path) => Some(ConfigFile::read(&path, &schema)?),
            None => None,
        };
        Ok(Config { schema, file })
    }
}
