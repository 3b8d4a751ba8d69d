//! Where a server's schedules may read and write: folders that its settings name, and what lies below them.
//!
//! Owns every check of a path that came from a client. Symbolic links count as what they lead to, and nothing hidden is
//! touched: keys and settings lie in files and folders whose names begin with a dot.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

/// Files that one pattern may name.
const MAX_FILES: usize = 10_000;

/// The folders, with all links in their paths resolved.
#[derive(Clone, Debug, Default)]
pub struct Roots(Vec<PathBuf>);

/// Why a path is not read or written.
#[derive(Debug, thiserror::Error)]
pub enum RootsError {
    /// There are no folders.
    #[error(
        "schedules of this server read and write no files: start it with --schedule-root FOLDER to allow it"
    )]
    NoRoots,
    /// Not from the root of the file system on, or with `..` in it.
    #[error("{path} is no absolute path without `..`")]
    NotAbsolute {
        /// As it was given.
        path: String,
    },
    /// Outside all folders.
    #[error(
        "{path} lies outside the folders that schedules may use ({roots}): --schedule-root names more"
    )]
    Outside {
        /// Where it leads.
        path: String,
        /// The folders.
        roots: String,
    },
    /// Hidden below a folder.
    #[error(
        "{path} is hidden: schedules do not touch files and folders whose names begin with a dot"
    )]
    Hidden {
        /// Where it leads.
        path: String,
    },
    /// Nothing is there.
    #[error("there is no file {path}")]
    NotThere {
        /// As it was given.
        path: String,
    },
    /// Nothing is there to write into.
    #[error("there is no folder {path}: make it first")]
    NoFolder {
        /// The folder.
        path: String,
    },
    /// A folder, a pipe or a device.
    #[error("{path} is no regular file")]
    NotAFile {
        /// Where it leads.
        path: String,
    },
    /// No sensible pattern.
    #[error("the pattern {pattern} cannot be used: {reason}")]
    Pattern {
        /// As it was given.
        pattern: String,
        /// Why.
        reason: String,
    },
    /// The system said no.
    #[error("{path} cannot be used: {source}")]
    Io {
        /// Which path.
        path: String,
        /// What it said.
        source: io::Error,
    },
}

impl RootsError {
    /// It may go another time without anybody's doing: not what is forbidden or absent.
    pub fn is_temporary(&self) -> bool {
        matches!(self, RootsError::Io { .. })
    }
}

impl Roots {
    /// These folders, which must be there.
    pub fn new(folders: &[PathBuf]) -> io::Result<Roots> {
        let canonical = folders.iter().map(std::fs::canonicalize);
        Ok(Roots(canonical.collect::<io::Result<_>>()?))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The files that a pattern names now, by name. A path without `*`, `?` and `[` names one, which must be there, and so
    /// does any path at which there is a file.
    pub fn matches(&self, pattern: &str) -> Result<Vec<PathBuf>, RootsError> {
        self.absolute(Path::new(pattern))?;
        if !is_pattern(pattern) {
            return Ok(vec![self.readable(Path::new(pattern))?]);
        }
        let folder = fixed_folder(pattern);
        let canonical = canonical(&folder, || RootsError::NoFolder {
            path: folder.display().to_string(),
        })?;
        self.inside(&canonical)?;
        let refused = |reason: String| RootsError::Pattern {
            pattern: pattern.to_owned(),
            reason,
        };
        let options = glob::MatchOptions {
            require_literal_leading_dot: true,
            require_literal_separator: true,
            ..glob::MatchOptions::new()
        };
        let found =
            glob::glob_with(pattern, options).map_err(|error| refused(error.to_string()))?;
        let mut files = Vec::new();
        for path in found {
            let path = path.map_err(|error| RootsError::Io {
                path: error.path().display().to_string(),
                source: error.into(),
            })?;
            if path.is_dir() {
                continue;
            }
            if files.len() == MAX_FILES {
                return Err(refused(format!("it names more than {MAX_FILES} files")));
            }
            files.push(self.readable(&path)?);
        }
        Ok(files)
    }

    /// Opens a file that [`matches`](Self::matches) gave, if it still is what it was.
    pub fn open(&self, path: &Path) -> Result<File, RootsError> {
        let failed = |source| RootsError::Io {
            path: path.display().to_string(),
            source,
        };
        // Looked at first: opening a pipe would wait for its writer.
        self.readable(path)?;
        let file = File::open(path).map_err(failed)?;
        let opened = file.metadata().map_err(failed)?;
        let named = std::fs::symlink_metadata(path).map_err(failed)?;
        match opened.is_file() && (opened.dev(), opened.ino()) == (named.dev(), named.ino()) {
            true => Ok(file),
            false => Err(RootsError::NotAFile {
                path: path.display().to_string(),
            }),
        }
    }

    /// Where results may be written: the same path with the links of its folder resolved. The folder must be there.
    pub fn writable(&self, path: &Path) -> Result<PathBuf, RootsError> {
        self.absolute(path)?;
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(RootsError::NotAFile {
                path: path.display().to_string(),
            });
        };
        let folder = canonical(folder, || RootsError::NoFolder {
            path: folder.display().to_string(),
        })?;
        let path = folder.join(name);
        self.inside(&path)?;
        match std::fs::symlink_metadata(&path) {
            Ok(found) if !found.is_file() => Err(RootsError::NotAFile {
                path: path.display().to_string(),
            }),
            _ => Ok(path),
        }
    }

    fn readable(&self, path: &Path) -> Result<PathBuf, RootsError> {
        let shown = || path.display().to_string();
        // What lies outside is not told about, not even whether it is there.
        let path = match canonical(path, || RootsError::NotThere { path: shown() }) {
            Ok(path) => path,
            Err(error) => {
                let folder = path.parent().and_then(|folder| folder.canonicalize().ok());
                self.inside(&folder.unwrap_or_default())?;
                return Err(error);
            }
        };
        self.inside(&path)?;
        match path.is_file() {
            true => Ok(path),
            false => Err(RootsError::NotAFile {
                path: path.display().to_string(),
            }),
        }
    }

    fn absolute(&self, path: &Path) -> Result<(), RootsError> {
        if self.0.is_empty() {
            return Err(RootsError::NoRoots);
        }
        let parent = path.components().any(|part| part == Component::ParentDir);
        match path.is_absolute() && !parent {
            true => Ok(()),
            false => Err(RootsError::NotAbsolute {
                path: path.display().to_string(),
            }),
        }
    }

    /// Whether a path without links in it may be used.
    fn inside(&self, path: &Path) -> Result<(), RootsError> {
        let below = (self.0.iter()).find_map(|root| path.strip_prefix(root).ok());
        let Some(below) = below else {
            let roots: Vec<String> = (self.0.iter())
                .map(|root| root.display().to_string())
                .collect();
            return Err(RootsError::Outside {
                path: path.display().to_string(),
                roots: roots.join(", "),
            });
        };
        let hidden = below
            .components()
            .any(|part| part.as_os_str().as_encoded_bytes().starts_with(b"."));
        match hidden {
            true => Err(RootsError::Hidden {
                path: path.display().to_string(),
            }),
            false => Ok(()),
        }
    }
}

/// Whether a path stands for files by its signs.
pub fn is_pattern(path: &str) -> bool {
    path.contains(['*', '?', '[']) && !Path::new(path).exists()
}

/// Whether a pattern would name a path, if there were a file.
pub fn would_name(pattern: &str, path: &Path) -> bool {
    if !is_pattern(pattern) {
        return Path::new(pattern) == path;
    }
    // The folder may be written with links in it.
    let folder = fixed_folder(pattern);
    let canonical = std::fs::canonicalize(&folder).unwrap_or_else(|_| folder.clone());
    let resolved = path
        .strip_prefix(&canonical)
        .map(|below| folder.join(below));
    let path = resolved.as_deref().unwrap_or(path);
    glob::Pattern::new(pattern).is_ok_and(|pattern| pattern.matches_path(path))
}

/// The folder before the first sign of a pattern.
fn fixed_folder(pattern: &str) -> PathBuf {
    let end = pattern.find(['*', '?', '[']).unwrap_or(pattern.len());
    let folder = pattern[..end]
        .rsplit_once('/')
        .map_or("/", |(folder, _)| folder);
    match folder.is_empty() {
        true => PathBuf::from("/"),
        false => PathBuf::from(folder),
    }
}

fn canonical(path: &Path, not_there: impl Fn() -> RootsError) -> Result<PathBuf, RootsError> {
    std::fs::canonicalize(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => not_there(),
        _ => RootsError::Io {
            path: path.display().to_string(),
            source,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    struct Place {
        dir: tempfile::TempDir,
        roots: Roots,
    }

    /// A folder that may be used, and one beside it that may not.
    fn place() -> Place {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["in", "in/.secret", "out"] {
            std::fs::create_dir(dir.path().join(folder)).unwrap();
        }
        for file in [
            "in/a.jsonl",
            "in/b.jsonl",
            "in/.c.jsonl",
            "in/.secret/d.jsonl",
            "out/e.jsonl",
        ] {
            std::fs::write(dir.path().join(file), "{}\n").unwrap();
        }
        let roots = Roots::new(&[dir.path().join("in")]).unwrap();
        Place { dir, roots }
    }

    impl Place {
        fn path(&self, name: &str) -> String {
            self.dir.path().join(name).display().to_string()
        }

        fn refusal(&self, name: &str) -> String {
            let error = self.roots.matches(&self.path(name)).unwrap_err();
            error.to_string()
        }
    }

    #[test]
    fn patterns_name_files_in_order_and_nothing_hidden() {
        let place = place();
        let names = |pattern: &str| -> Vec<String> {
            let found = place.roots.matches(&place.path(pattern)).unwrap();
            let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
            found.iter().map(name).collect()
        };
        assert_eq!(names("in/*.jsonl"), ["a.jsonl", "b.jsonl"]);
        assert_eq!(names("in/a.jsonl"), ["a.jsonl"]);
        assert_eq!(names("in/x*"), Vec::<String>::new());
        std::fs::write(place.path("in/[x].jsonl"), "").unwrap();
        assert_eq!(names("in/[x].jsonl"), ["[x].jsonl"]);
    }

    #[test]
    fn nothing_outside_or_hidden_is_read() {
        let place = place();
        symlink(place.path("out/e.jsonl"), place.path("in/link.jsonl")).unwrap();
        symlink(place.path("out"), place.path("in/folder")).unwrap();
        for name in [
            "out/e.jsonl",
            "out/*.jsonl",
            "in/link.jsonl",
            "in/folder/e.jsonl",
            "out/none",
            "in/l*",
        ] {
            assert!(
                place.refusal(name).contains("outside"),
                "{name}: {}",
                place.refusal(name)
            );
        }
        assert!(place.refusal("in/../out/e.jsonl").contains("`..`"));
        assert!(place.refusal("in/.c.jsonl").contains("hidden"));
        assert!(place.refusal("in/.secret/*.jsonl").contains("hidden"));
        assert!(place.refusal("in/none.jsonl").contains("no file"));
        assert!(place.refusal("in").contains("no regular file"));
        assert!(matches!(
            place.roots.matches("a.jsonl"),
            Err(RootsError::NotAbsolute { .. })
        ));
        assert!(matches!(
            Roots::default().matches("/x"),
            Err(RootsError::NoRoots)
        ));
    }

    #[test]
    fn results_are_written_below_the_folders_only() {
        let place = place();
        let writable = |name: &str| place.roots.writable(Path::new(&place.path(name)));
        assert!(writable("in/new.jsonl").unwrap().ends_with("in/new.jsonl"));
        assert!(matches!(
            writable("out/new.jsonl"),
            Err(RootsError::Outside { .. })
        ));
        assert!(matches!(
            writable("in/.bashrc"),
            Err(RootsError::Hidden { .. })
        ));
        assert!(matches!(
            writable("in/none/x"),
            Err(RootsError::NoFolder { .. })
        ));
        symlink(place.path("out/e.jsonl"), place.path("in/link.jsonl")).unwrap();
        assert!(matches!(
            writable("in/link.jsonl"),
            Err(RootsError::NotAFile { .. })
        ));
    }
}
