//! `rbee completions`: the script that teaches a shell rbee's commands.

use std::io::Write;

use clap::Args;
use clap_complete::Shell;

use crate::exit_code::ExitCode;
use crate::failure::{Outcome, stdout_failure};
use crate::install;

/// Print the completion script for a shell
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  rbee completions bash > ~/.local/share/bash-completion/completions/rbee
  rbee completions zsh > ~/.zfunc/_rbee
  rbee completions fish > ~/.config/fish/completions/rbee.fish")]
pub struct CompletionsArgs {
    /// The shell that will read the script
    #[arg(value_enum)]
    pub shell: Shell,
}

/// Prints the script on stdout.
pub fn run(args: &CompletionsArgs) -> Outcome {
    std::io::stdout()
        .lock()
        .write_all(&install::completions(args.shell))
        .map_err(stdout_failure)?;
    Ok(ExitCode::Success)
}
