//! `rbee config`: the settings of this user and machine, and where each comes from.

mod edit;
mod show;

use std::path::PathBuf;

use clap::{Args, CommandFactory, Subcommand};

use crate::args::Cli;
use crate::commands::Context;
use crate::config::{self, CONFIG_VARIABLE, ConfigFile, Schema};
use crate::exit_code::ExitCode;
use crate::failure::{Failure, Outcome};
use crate::table;

/// Show, check and change the settings
///
/// Settings lie in a TOML file: the one that RBEE_CONFIG names, else ~/.config/rbee/config.toml (XDG_CONFIG_HOME), else
/// /etc/rbee/config.toml; the first one that is there counts alone. A flag goes before an environment variable, and that
/// before the file.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Examples:
  rbee config show                 every setting, its value, and where that comes from
  rbee config show engine          those of one section
  rbee config edit                 with $VISUAL or $EDITOR; a file with a mistake does not replace the old one
  rbee config check                the file that counts
  rbee config check config.toml")]
pub struct ConfigArgs {
    #[command(subcommand)]
    pub verb: Verb,
}

/// What to do with the settings.
#[derive(Debug, Clone, Subcommand)]
pub enum Verb {
    /// Every setting, its value, and where that comes from
    Show {
        /// Only settings whose names begin like this
        #[arg(value_name = "NAME")]
        name: Option<String>,

        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Print the path of the file that counts
    Path,
    /// Change the file in an editor; it is replaced only by one that can be used
    Edit,
    /// Say what is wrong with a file
    Check {
        /// The file [default: the one that counts]
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
    },
}

/// Does what the verb says.
pub fn run(context: &Context, args: &ConfigArgs) -> Outcome {
    match &args.verb {
        Verb::Show { name, json } => show::run(context, name.as_deref(), *json),
        Verb::Path => path(context),
        Verb::Edit => edit::run(context),
        Verb::Check { file: Some(file) } => check(context, file),
        Verb::Check { file: None } => match config::find()? {
            Some(file) => check(context, &file),
            None => path(context),
        },
    }
}

fn path(context: &Context) -> Outcome {
    match config::find()? {
        Some(path) => table::print([path.display().to_string()])?,
        None => {
            let user = config::user_path()?;
            context.talk.note(&format!(
                "there is no file: `rbee config edit` makes {}; {} and {CONFIG_VARIABLE} are other places",
                user.display(),
                config::system_path().display()
            ));
        }
    }
    Ok(ExitCode::Success)
}

fn check(context: &Context, file: &std::path::Path) -> Outcome {
    let text = match file.is_dir() || !file.exists() {
        true => {
            return Err(Failure::usage(format!(
                "there is no file {}",
                file.display()
            )));
        }
        false => config::text_of(file)?,
    };
    match ConfigFile::parse(file, &text, &Schema::of(&Cli::command())) {
        Ok(found) => {
            check_secrets(&found)?;
            context
                .talk
                .note(&format!("{} can be used", file.display()));
            Ok(ExitCode::Success)
        }
        Err(troubles) => {
            for trouble in troubles {
                context.talk.line(&format!("{}:{trouble}", file.display()));
            }
            Ok(ExitCode::Usage)
        }
    }
}

/// Files of secrets that this user could not use.
fn check_secrets(file: &ConfigFile) -> Result<(), Failure> {
    for (key, _, _) in config::SECRETS {
        let Some(path) = file.secret_file(key) else {
            continue;
        };
        if crate::server_token::read_secret(&path)?.is_none() {
            return Err(Failure::usage(format!(
                "{key} names {}, which is not there or empty",
                path.display()
            )));
        }
    }
    Ok(())
}
