//! The file with a run's results: where it goes, and how it gets there absent or complete.

use crate::roots::{Roots, RootsError};
use crate::schedule::Zone;
use rbee_queue::jsonl::Rendering;
use rbee_queue::{BatchId, Batches, StoreError};
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// What an output's path may hold, for people.
pub const PLACEHOLDERS: &str = "{date}, {time}, {tick}, {name} and {id}";

/// What results files are readable by, like those that `rbee export` writes.
const FILE_MODE: u32 = 0o644;

/// How the name of a file ends that is being written.
const PARTIAL: &str = ".partial";

/// What stands for the placeholders of an output's path.
#[derive(Clone, Copy, Debug)]
pub struct RunPlace<'a> {
    /// The tick.
    pub tick_us: i64,
    /// In which `{date}` and `{time}` are told.
    pub zone: Zone,
    /// The schedule's name.
    pub name: &'a str,
    /// The schedule's id.
    pub id: &'a str,
}

/// The path of a run's results: `{date}` and `{time}` are those of its tick in the schedule's zone, `{tick}` both in UTC.
///
/// # Errors
/// The placeholder that is not known.
pub fn expand(template: &str, place: RunPlace<'_>) -> Result<String, String> {
    let utc = Zone::UTC;
    let mut path = String::new();
    let mut rest = template;
    while let Some((before, behind)) = rest.split_once('{') {
        let Some((word, after)) = behind.split_once('}') else {
            break;
        };
        path.push_str(before);
        match word {
            "date" => path.push_str(&place.zone.date(place.tick_us)),
            "time" => path.push_str(&place.zone.time(place.tick_us)),
            "tick" => {
                let (date, time) = (utc.date(place.tick_us), utc.time(place.tick_us));
                path.push_str(&format!("{}T{time}Z", date.replace('-', "")));
            }
            "name" => path.push_str(place.name),
            "id" => path.push_str(place.id),
            word => {
                return Err(format!(
                    "{{{word}}} is unknown: an output may hold {PLACEHOLDERS}"
                ));
            }
        }
        rest = after;
    }
    path.push_str(rest);
    Ok(path)
}

/// Why a run's results were not written.
#[derive(Debug, thiserror::Error)]
pub(super) enum OutputError {
    /// They may not be written there.
    #[error(transparent)]
    Roots(#[from] RootsError),
    /// The path has an unknown placeholder.
    #[error("{0}")]
    Template(String),
    /// It would destroy the prompts.
    #[error("{path} holds the prompts: the results must go to another file", path = .0.display())]
    Prompts(PathBuf),
    /// The system said no.
    #[error("{path} cannot be written: {source}", path = .path.display())]
    Io { path: PathBuf, source: io::Error },
    /// The results cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A job has no result: the batch is not what it was.
    #[error("the batch was taken up again and is not complete")]
    Incomplete,
}

impl OutputError {
    /// It may go a little later.
    pub fn is_temporary(&self) -> bool {
        match self {
            OutputError::Roots(error) => error.is_temporary(),
            OutputError::Template(_) | OutputError::Prompts(_) | OutputError::Incomplete => false,
            OutputError::Io { .. } => true,
            OutputError::Store(error) => error.is_temporary(),
        }
    }
}

/// Writes all results of a batch: under a temporary name, synced, renamed. `prompts` are files that it must not replace.
pub(super) async fn write(
    batches: &Batches,
    batch: &BatchId,
    path: &Path,
    roots: &Roots,
    prompts: &[PathBuf],
) -> Result<PathBuf, OutputError> {
    let path = roots.writable(path)?;
    if prompts.contains(&path) {
        return Err(OutputError::Prompts(path));
    }
    let failed = |source| OutputError::Io {
        path: path.clone(),
        source,
    };
    let folder = path.parent().unwrap_or(Path::new("/")).to_owned();
    // What a dead leader left of this file goes; another one that still writes it fails at its end.
    let prefix = format!(".rbee-{batch}-");
    remove_partial(&folder, &prefix).map_err(failed)?;
    let mut file = tempfile::Builder::new()
        .prefix(&prefix)
        .suffix(PARTIAL)
        .permissions(std::fs::Permissions::from_mode(FILE_MODE))
        .tempfile_in(&folder)
        .map_err(failed)?;
    let mut export = batches.export(batch, Rendering::default()).await?;
    while let Some(page) = export.next_page().await? {
        let mut text = String::new();
        for line in page {
            let rendered = line.rendered.ok_or(OutputError::Incomplete)?;
            text.push_str(&rendered.line);
            text.push('\n');
        }
        file = blocking(move || file.write_all(text.as_bytes()).map(|()| file))
            .await
            .map_err(failed)?;
    }
    let target = path.clone();
    blocking(move || {
        file.as_file().sync_all()?;
        file.persist(&target).map_err(|error| error.error)?;
        File::open(folder)?.sync_all()
    })
    .await
    .map_err(failed)?;
    Ok(path)
}

fn remove_partial(folder: &Path, prefix: &str) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(prefix) && name.ends_with(PARTIAL) {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_of_one_file_is_removed_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let names = [
            ".rbee-batch_1-x.partial",
            ".rbee-batch_2-x.partial",
            "batch_1.jsonl",
        ];
        for name in names {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        remove_partial(dir.path(), ".rbee-batch_1-").unwrap();
        let left = names.map(|name| dir.path().join(name).exists());
        assert_eq!(left, [false, true, true]);
    }

    #[test]
    fn placeholders_stand_for_the_tick() {
        let place = RunPlace {
            tick_us: 1_774_746_000_000_000,
            zone: Zone::named("Europe/Berlin").unwrap(),
            name: "nightly",
            id: "sched_0",
        };
        let expanded = |template| expand(template, place);
        assert_eq!(
            expanded("/a/r-{date}.jsonl").unwrap(),
            "/a/r-2026-03-29.jsonl"
        );
        assert_eq!(
            expanded("/{name}-{time}/{id}-{tick}").unwrap(),
            "/nightly-030000/sched_0-20260329T010000Z"
        );
        assert_eq!(expanded("/plain").unwrap(), "/plain");
        assert_eq!(expanded("/{date").unwrap(), "/{date");
        assert!(expanded("/{day}").unwrap_err().contains("{date}"));
    }
}
