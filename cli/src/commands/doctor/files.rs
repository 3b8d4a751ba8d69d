//! The data directory, files with secrets, and models.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rbee_worker::model_files::DEFAULT_ALIAS;

use super::finding::Finding;
use super::plain;
use crate::byte_size;
use crate::commands::Context;
use crate::config::{Config, SECRETS};
use crate::models_home;
use crate::paths::DataDir;
use crate::server_token;

/// Less free disk than this is told of: a small model, and a day of results.
const ROOM_BYTES: u64 = 2 << 30;

/// The data directory and all files with secrets that are known of.
pub fn look(context: &Context) -> Vec<Finding> {
    let data = match context.data() {
        Ok(data) => data,
        Err(failure) => {
            let remedy = "name a directory that you may write to with --data-dir or RBEE_DATA_DIR";
            return vec![Finding::fail("data", plain(&failure), remedy)];
        }
    };
    vec![directory(&data), secrets(&data)]
}

fn directory(data: &DataDir) -> Finding {
    let (what, root) = ("data", data.root());
    let shown = root.display();
    // A file that is made and gone: modes and owners do not tell of read-only file systems.
    if let Err(error) = tempfile::tempfile_in(root) {
        return Finding::fail(
            what,
            format!("{shown} cannot be written: {error}"),
            "give it to the user that rbee runs as, or name another one with --data-dir",
        );
    }
    let mode = std::fs::metadata(root).map_or(0, |found| found.permissions().mode());
    if mode & 0o077 != 0 {
        return Finding::warn(
            what,
            format!("{shown} can be entered by others: prompts and results lie there"),
            format!("chmod 700 {shown}"),
        );
    }
    let free = rustix::fs::statvfs(root).map_or(u64::MAX, |disk| disk.f_bavail * disk.f_frsize);
    let room = format!("{shown}, {} free", byte_size::show(free));
    match free < ROOM_BYTES {
        true => Finding::warn(
            what,
            room,
            "make room: `rbee purge` shows what would go, `rbee models remove` deletes models",
        ),
        false => Finding::ok(what, room),
    }
}

fn secrets(data: &DataDir) -> Finding {
    let what = "secrets";
    let own = [
        server_token::token_path(data),
        server_token::webhook_path(data),
    ];
    // A configuration that cannot be read is told of elsewhere.
    let file = Config::load().ok().and_then(|config| config.file);
    let named: Vec<PathBuf> = (file.iter())
        .flat_map(|file| SECRETS.iter().filter_map(|(key, ..)| file.secret_file(key)))
        .collect();
    if let Some(missing) = named.iter().find(|path| !path.exists()) {
        let missing = missing.display();
        return Finding::fail(
            what,
            format!("the configuration names {missing}, which is not there"),
            "write it, or take the line out: `rbee config edit`",
        );
    }
    let there: Vec<&PathBuf> = (own.iter().chain(&named))
        .filter(|path| path.exists())
        .collect();
    for path in &there {
        if let Some((found, remedy)) = exposed(path) {
            return Finding::fail(what, found, remedy);
        }
    }
    match there.len() {
        0 => Finding::ok(
            what,
            "no file yet: `rbee serve` makes its token at the first start",
        ),
        1 => Finding::ok(what, "1 file, for its owner only"),
        count => Finding::ok(what, format!("{count} files, for their owner only")),
    }
}

/// What is wrong with a secret's file.
fn exposed(path: &Path) -> Option<(String, String)> {
    let shown = path.display();
    let found = std::fs::metadata(path).ok()?;
    if found.mode() & 0o077 != 0 {
        return Some((
            format!(
                "{shown} can be read by others (mode {:o})",
                found.mode() & 0o777
            ),
            format!("chmod 600 {shown}"),
        ));
    }
    let error = std::fs::File::open(path).err()?;
    Some((
        format!("{shown} cannot be read: {error}"),
        "give it to the user that rbee runs as".to_owned(),
    ))
}

/// Models on this machine.
pub fn models(context: &Context) -> Vec<Finding> {
    let what = "models";
    let listed = (context.data()).and_then(|data| {
        let store = models_home::open(&data)?;
        store.list().map_err(models_home::failure)
    });
    vec![match listed {
        Err(failure) => Finding::fail(what, plain(&failure), "`rbee models list` says more"),
        Ok(models) => {
            let broken = models.iter().find(|model| !model.complete);
            let usual = models.iter().any(|model| model.reference == DEFAULT_ALIAS);
            let bytes = models.iter().map(|model| model.bytes).sum();
            let found = format!("{} here, {}", models.len(), byte_size::show(bytes));
            match (broken, usual) {
                (Some(model), _) => {
                    let name = &model.reference;
                    let found = format!("files of {name} are missing");
                    Finding::warn(what, found, format!("rbee models pull {name}"))
                }
                (None, false) => Finding::warn(
                    what,
                    format!(
                        "{found}; {DEFAULT_ALIAS}, the usual one, is fetched when it is first used"
                    ),
                    format!("rbee models pull {DEFAULT_ALIAS}"),
                ),
                (None, true) => Finding::ok(what, found),
            }
        }
    }]
}
