//! Filling: what the file sets becomes the default of the flags that the command has.

use clap::{Arg, Command};

use super::Config;
use super::schema::SECRETS;
use crate::failure::Failure;
use crate::secrets;

/// Commands that look at the configuration themselves, and must work when it is broken.
const BY_THEMSELVES: [&str; 5] = ["completions", "config", "doctor", "install", "man"];

/// Whether a configuration that cannot be used stops this command.
pub fn must_be_sound(command: &str) -> bool {
    !BY_THEMSELVES.contains(&command)
}

impl Config {
    /// The command line with the file's values as defaults of what `chosen` takes.
    pub fn fill(&self, mut line: Command, chosen: &str) -> Result<Command, Failure> {
        for setting in self
            .schema
            .settings()
            .filter(|setting| setting.is_of(chosen))
        {
            let Some(words) = self.words_for(&setting.name)? else {
                continue;
            };
            let id = setting.arg.get_id().clone();
            // An empty variable is one that is not set: it must not hide what the file says.
            let is_empty = (setting.variable())
                .and_then(std::env::var_os)
                .is_some_and(|text| text.is_empty());
            let with = |arg: Arg| {
                let arg = arg.default_values(words).hide_default_value(true);
                match is_empty {
                    true => arg.env(None::<&'static str>),
                    false => arg,
                }
            };
            line = match setting.commands.is_empty() {
                true => line.mut_arg(id, with),
                false => line.mut_subcommand(chosen, |command| command.mut_arg(id, with)),
            };
        }
        Ok(line)
    }

    /// The file's words for a setting, or its secret. They live as long as the program, since clap keeps no other ones.
    fn words_for(&self, name: &str) -> Result<Option<Vec<&'static str>>, Failure> {
        let Some(file) = &self.file else {
            return Ok(None);
        };
        let kept = |word: &String| -> &'static str { Box::leak(word.clone().into_boxed_str()) };
        if let Some(value) = file.get(name) {
            return Ok(Some(value.words.iter().map(kept).collect()));
        }
        let secret = SECRETS
            .iter()
            .find(|(key, ..)| key.strip_suffix("_file") == Some(name));
        let Some((_, variable, _)) = secret.filter(|(key, ..)| file.get(key).is_some()) else {
            return Ok(None);
        };
        let secret = secrets::read(variable)?;
        Ok(secret.map(|secret| vec![kept(&secret)]))
    }
}
