//! `rbee man`: the pages of the manual.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use crate::commands::Context;
use crate::exit_code::ExitCode;
use crate::failure::{Failure, Outcome, stdout_failure};
use crate::install;

/// Print a page of the manual, or write all of them into a directory
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Examples:
  rbee man | man -l -                   the page of rbee
  rbee man models pull | man -l -       the page of a command
  rbee man --out ~/.local/share/man/man1

`rbee install` puts the pages where `man rbee` finds them.")]
pub struct ManArgs {
    /// The command whose page is printed [default: rbee itself]
    #[arg(value_name = "COMMAND", conflicts_with = "out")]
    pub command: Vec<String>,

    /// Write every page into this directory
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// Prints or writes.
pub fn run(context: &Context, args: &ManArgs) -> Outcome {
    let pages = install::pages()?;
    if let Some(folder) = &args.out {
        for (name, page) in &pages {
            install::write_file(&folder.join(name), page, 0o644)?;
        }
        let shown = folder.display();
        context
            .talk
            .note(&format!("{} pages are in {shown}", pages.len()));
        return Ok(ExitCode::Success);
    }
    let words = std::iter::once("rbee").chain(args.command.iter().map(String::as_str));
    let wanted = words.collect::<Vec<_>>().join("-") + ".1";
    let page = pages.iter().find(|(name, _)| *name == wanted);
    let Some((_, page)) = page else {
        let command = args.command.join(" ");
        return Err(Failure::usage(format!(
            "there is no command `{command}`: `rbee help` lists them"
        )));
    };
    let mut out = std::io::stdout().lock();
    (out.write_all(page).and_then(|()| out.flush())).map_err(stdout_failure)?;
    Ok(ExitCode::Success)
}
