//! What is installed beside the program: the configuration, units, completions, pages of the manual.

use std::path::PathBuf;

use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;

use super::layout::{Layout, Manager, Scope};
use super::plist;
use super::unit::Unit;
use crate::args::{Cli, command_line};
use crate::failure::Failure;
use crate::service::log_file;

/// How the line begins that names a page, behind the one before it.
const TITLE: &[u8] = b"\n.TH ";

/// A file that is made anew with each installation.
pub struct InstalledFile {
    /// Without the layout's root.
    pub path: PathBuf,
    pub bytes: Vec<u8>,
}

/// Everything but the program and the configuration.
pub fn files(layout: &Layout) -> Result<Vec<InstalledFile>, Failure> {
    let mut files: Vec<InstalledFile> = Vec::new();
    let mut add = |path: PathBuf, bytes: Vec<u8>| files.push(InstalledFile { path, bytes });
    for unit in Unit::ALL {
        let text = match layout.manager {
            Manager::Systemd => unit.text(layout.scope, &layout.binary),
            Manager::Launchd => plist::text(unit, &layout.binary, &log_file(unit)?),
        };
        add(layout.unit(unit), text.into_bytes());
    }
    if let (Scope::System, Some(users)) = (layout.scope, layout.users()) {
        let text = include_str!("../../../deploy/systemd/rbee.sysusers");
        add(users.to_owned(), text.as_bytes().to_vec());
    }
    for (shell, path) in [
        (Shell::Bash, &layout.bash),
        (Shell::Zsh, &layout.zsh),
        (Shell::Fish, &layout.fish),
    ] {
        add(path.clone(), completions(shell));
    }
    for (name, page) in pages()? {
        add(layout.page(&name), page);
    }
    Ok(files)
}

/// The script that teaches a shell rbee's commands.
pub fn completions(shell: Shell) -> Vec<u8> {
    // Written to memory: clap_complete panics when a write fails, as it does behind a closed pipe.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "rbee", &mut script);
    script
}

/// A page whose lines are not stretched and whose words are not cut: examples are copied from it.
fn ragged(page: Vec<u8>) -> Vec<u8> {
    let title = page.windows(TITLE.len()).position(|part| part == TITLE);
    let begin = title.map_or(0, |at| at + 1);
    let end = page[begin..].iter().position(|byte| *byte == b'\n');
    let at = end.map_or(0, |end| begin + end + 1);
    [&page[..at], b".nh\n.ad l\n", &page[at..]].concat()
}

/// Every page of the manual, by its file's name: `rbee.1`, `rbee-run.1`, `rbee-models-pull.1`.
pub fn pages() -> Result<Vec<(String, Vec<u8>)>, Failure> {
    let mut command = command_line().disable_help_subcommand(true);
    // Gives every command its whole name.
    command.build();
    let mut pages = Vec::new();
    collect(&command, &mut pages)?;
    Ok(pages)
}

fn collect(command: &clap::Command, pages: &mut Vec<(String, Vec<u8>)>) -> Result<(), Failure> {
    // Commands have the program's version, not one of their own.
    let man = Man::new(command.clone()).source(concat!("rbee ", env!("CARGO_PKG_VERSION")));
    let mut page = Vec::new();
    man.render(&mut page)?;
    pages.push((man.get_filename(), ragged(page)));
    for inner in command
        .get_subcommands()
        .filter(|inner| !inner.is_hide_set())
    {
        collect(inner, pages)?;
    }
    Ok(())
}
