//! What may be set: derived from the command line, so that a new flag is a setting by itself.
//!
//! Flags of `serve`, `worker`, `run` and `submit` lie in a section of their command's name. Flags that several commands share
//! under one heading lie in one section for all of them; those that say how prompts become requests, in `batch`. What
//! belongs to one call, such as the name of an output file, is no setting.

use std::any::TypeId;
use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Arg, ArgAction, Command};

use super::nearest::nearest;

/// Headings of shared flags, and the section of each; the empty one is the top of the file.
const SHARED: [(&str, &str); 8] = [
    ("Global options", ""),
    ("Store and queue", ""),
    ("Engine", "engine"),
    ("Living with others", "living"),
    ("Answers", "answers"),
    ("Schedules", "schedules"),
    ("Remote machines", "remote"),
    ("Traces", "traces"),
];
/// Commands with a section of their own.
const OWN: [&str; 4] = ["serve", "worker", "run", "submit"];
/// Commands whose common flags make the section `batch`.
const OF_BATCH: (&str, &str) = ("run", "submit");
const BATCH: &str = "batch";

/// What belongs to one call.
const NO_SETTING: [&str; 16] = [
    "errors",
    "fresh",
    "help",
    "idempotency-key",
    "json",
    "limit",
    "new",
    "no-measure",
    "node",
    "output",
    "pilot",
    "quiet",
    "set",
    "version",
    "watch",
    "yes",
];
/// The same of one command only.
const NO_SETTING_OF: [(&str, &str); 1] = [("submit", "name")];

/// Flags that are called otherwise in the file, where a list stands for a flag that is given again and again.
const RENAMED: [(&str, &str); 3] = [
    ("schedule-root", "roots"),
    ("schedule-command", "commands"),
    ("ssh-option", "ssh_options"),
];

/// Secrets: the setting that names a file, the variable that goes before it, and what it is.
pub const SECRETS: [(&str, &str, &str); 4] = [
    (
        "token_file",
        "RBEE_API_TOKEN",
        "the token of server, clients and nodes",
    ),
    (
        "database_url_file",
        "RBEE_DATABASE_URL",
        "the URL of PostgreSQL with its password",
    ),
    (
        "redis_url_file",
        "RBEE_REDIS_URL",
        "the URL of Redis with its password",
    ),
    (
        "webhook_secret_file",
        "RBEE_WEBHOOK_SECRET",
        "what webhooks are signed with",
    ),
];

/// One thing that may be set.
pub struct Setting {
    /// As it stands in the file, with its section: `engine.memory`.
    pub name: String,
    /// The flag.
    pub arg: Arg,
    /// The commands that have it; none: all of them.
    pub commands: Vec<String>,
}

impl Setting {
    /// Whether a command has the flag.
    pub fn is_of(&self, command: &str) -> bool {
        self.commands.is_empty() || self.commands.iter().any(|name| name == command)
    }

    /// The variable that goes before the file.
    pub fn variable(&self) -> Option<String> {
        Some(self.arg.get_env()?.to_string_lossy().into_owned())
    }

    /// A flag without a value: `true` gives it.
    pub fn is_switch(&self) -> bool {
        matches!(self.arg.get_action(), ArgAction::SetTrue)
    }

    /// It may be given again and again.
    pub fn is_list(&self) -> bool {
        matches!(self.arg.get_action(), ArgAction::Append)
    }

    /// Its values are `NAME=VALUE`, a table in the file.
    pub fn takes_pairs(&self) -> bool {
        let names = self.arg.get_value_names().unwrap_or_default();
        names.iter().any(|name| name.contains('='))
    }

    pub fn is_path(&self) -> bool {
        self.arg.get_value_parser().type_id() == TypeId::of::<PathBuf>()
    }

    /// Its value may hold a password, and is not shown whole.
    pub fn may_hold_secret(&self) -> bool {
        self.arg.is_hide_env_values_set()
    }

    /// What holds if nothing is said, as the program or its help says.
    pub fn default(&self) -> Option<String> {
        let own = self.arg.get_default_values();
        if !own.is_empty() {
            let words: Vec<_> = own.iter().map(|word| word.to_string_lossy()).collect();
            return Some(words.join(", "));
        }
        let help = self.arg.get_help()?.to_string();
        let (_, said) = help.split_once("[default: ")?;
        Some(said.trim_end().trim_end_matches(']').to_owned())
    }
}

/// All that may be set.
pub struct Schema {
    settings: BTreeMap<String, Setting>,
}

impl Schema {
    /// What the flags of a command line make.
    pub fn of(command: &Command) -> Schema {
        let mut schema = Schema {
            settings: BTreeMap::new(),
        };
        for arg in command.get_arguments() {
            schema.add("", arg, section("", arg));
        }
        let common = |arg: &Arg| {
            let has = |name: &str| {
                let flags = command.find_subcommand(name);
                flags.is_some_and(|found| found.get_opts().any(|one| one.get_id() == arg.get_id()))
            };
            has(OF_BATCH.0) && has(OF_BATCH.1)
        };
        let makes_batches = |name: &str| name == OF_BATCH.0 || name == OF_BATCH.1;
        for subcommand in command.get_subcommands() {
            let name = subcommand.get_name();
            for arg in subcommand.get_arguments() {
                let section = match section(name, arg) {
                    Some(own) if own == name && makes_batches(name) && common(arg) => Some(BATCH),
                    other => other,
                };
                schema.add(name, arg, section);
            }
        }
        schema
    }

    fn add(&mut self, command: &str, arg: &Arg, section: Option<&str>) {
        let (Some(section), Some(long)) = (section, arg.get_long()) else {
            return;
        };
        if NO_SETTING.contains(&long) || NO_SETTING_OF.contains(&(command, long)) {
            return;
        }
        let renamed = RENAMED.iter().find(|(flag, _)| *flag == long);
        let key = renamed.map_or(long.replace('-', "_"), |(_, key)| (*key).to_owned());
        let name = match section {
            "" => key,
            section => format!("{section}.{key}"),
        };
        let setting = (self.settings).entry(name.clone()).or_insert(Setting {
            name,
            arg: arg.clone(),
            commands: Vec::new(),
        });
        if !command.is_empty() {
            setting.commands.push(command.to_owned());
        }
    }

    /// A setting by its name in the file.
    pub fn get(&self, name: &str) -> Option<&Setting> {
        self.settings.get(name)
    }

    /// All settings but the files of secrets, by name.
    pub fn settings(&self) -> impl Iterator<Item = &Setting> {
        self.settings.values()
    }

    /// Whether this names a file with a secret.
    pub fn is_secret_file(name: &str) -> bool {
        SECRETS.iter().any(|(key, ..)| *key == name)
    }

    /// Whether some setting lies in this section.
    pub fn has_section(&self, name: &str) -> bool {
        let inside = format!("{name}.");
        self.settings.keys().any(|key| key.starts_with(&inside))
    }

    /// The known name that an unknown one may stand for.
    pub fn nearest(&self, unknown: &str) -> Option<&str> {
        let secrets = SECRETS.iter().map(|(key, ..)| *key);
        nearest(
            unknown,
            self.settings.keys().map(String::as_str).chain(secrets),
        )
    }
}

/// The section of a command's flag; `None`: it is no setting.
fn section<'a>(command: &'a str, arg: &Arg) -> Option<&'a str> {
    let heading = arg.get_help_heading();
    let shared = SHARED.iter().find(|(shared, _)| Some(*shared) == heading);
    match shared {
        Some((_, section)) => Some(section),
        None => OWN.contains(&command).then_some(command),
    }
}
