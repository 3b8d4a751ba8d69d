//! `rbee config edit`: the file in an editor, replaced only by one that can be used.

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use clap::CommandFactory;

use crate::args::Cli;
use crate::commands::Context;
use crate::config::{self, ConfigFile, Schema, TEMPLATE};
use crate::exit_code::ExitCode;
use crate::failure::{Failure, Outcome};

/// Variables that name the editor, the first one first.
const EDITOR_VARIABLES: [&str; 2] = ["VISUAL", "EDITOR"];
/// What every system has.
const USUAL_EDITOR: &str = "vi";
/// Of a file that is new. One that was there keeps its own.
const NEW_MODE: u32 = 0o600;

/// Edits a copy beside the file, and puts it in the file's place if nothing is wrong with it.
pub fn run(context: &Context) -> Outcome {
    // A link is followed: what it points to is changed.
    let named = config::file_to_edit()?;
    let path = std::fs::canonicalize(&named).unwrap_or(named);
    let before = match path.exists() {
        true => config::text_of(&path)?,
        false => TEMPLATE.to_owned(),
    };
    let mode =
        std::fs::metadata(&path).map_or(NEW_MODE, |found| found.permissions().mode() & 0o777);
    let draft = draft(&path, &before, mode)?;
    let edited = edit(&draft).and_then(|()| config::text_of(&draft));
    let after = edited.inspect_err(|_| drop(std::fs::remove_file(&draft)))?;
    if after == before && path.exists() {
        let _ = std::fs::remove_file(&draft);
        context.talk.note("nothing was changed");
        return Ok(ExitCode::Success);
    }
    // Judged as the file that it is going to be: relative paths begin there.
    if let Err(troubles) = ConfigFile::parse(&path, &after, &Schema::of(&Cli::command())) {
        for trouble in troubles {
            context.talk.line(&format!("{}:{trouble}", draft.display()));
        }
        return Err(Failure::usage(format!(
            "{} is as it was; your changes are in {}",
            path.display(),
            draft.display()
        )));
    }
    std::fs::rename(&draft, &path).with_context(|| format!("cannot replace {}", path.display()))?;
    context.talk.note(&format!(
        "{} is in force for whatever is started from now on",
        path.display()
    ));
    Ok(ExitCode::Success)
}

/// A copy that can become the file by a rename.
fn draft(path: &Path, text: &str, mode: u32) -> Result<PathBuf, Failure> {
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let name = format!("config.edit-{}.toml", std::process::id());
    let draft = folder.join(name);
    std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(&draft)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("cannot write {}", draft.display()))?;
    Ok(draft)
}

fn edit(draft: &Path) -> Result<(), Failure> {
    let named = EDITOR_VARIABLES
        .iter()
        .filter_map(std::env::var_os)
        .find(|editor| !editor.is_empty());
    let editor = named.unwrap_or_else(|| OsString::from(USUAL_EDITOR));
    // Editors are named with their arguments: `code --wait`.
    let shown = editor.to_string_lossy().into_owned();
    let mut words = shown.split_whitespace();
    let program = words.next().unwrap_or(USUAL_EDITOR);
    let status = Command::new(program)
        .args(words)
        .arg(draft)
        .status()
        .with_context(|| format!("cannot start the editor {shown}: set EDITOR to another one"))?;
    match status.success() {
        true => Ok(()),
        false => Err(anyhow::anyhow!("{shown} ended with {status}: nothing was changed").into()),
    }
}
