//! Where rbee keeps its files: the data directory and what lies in it.
//!
//! Owns the layout's top level only: what is inside `models/` belongs to the model store, what is inside the
//! database to the store.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use etcetera::BaseStrategy;

/// The data directory: results and models of this user.
#[derive(Debug, Clone)]
pub struct DataDir {
    root: PathBuf,
}

impl DataDir {
    /// `given` (`--data-dir`, `RBEE_DATA_DIR`), else `$XDG_DATA_HOME/rbee`, else `~/.local/share/rbee`. Made if it is
    /// not there, readable by its owner only.
    pub fn open(given: Option<&Path>) -> Result<DataDir> {
        let root = match given {
            Some(path) => path.to_owned(),
            None => etcetera::choose_base_strategy()
                .map_err(|error| anyhow!("{error}: set HOME, or name a directory with --data-dir"))?
                .data_dir()
                .join("rbee"),
        };
        make_private(&root)?;
        Ok(DataDir { root })
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The embedded store's file.
    pub fn database(&self) -> PathBuf {
        self.root.join("rbee.db")
    }

    /// Downloaded models.
    pub fn models(&self) -> PathBuf {
        self.root.join("models")
    }

    /// What `rbee plan` said of inputs.
    pub fn plans(&self) -> Result<PathBuf> {
        let plans = self.root.join("plans");
        make_private(&plans)?;
        Ok(plans)
    }

    /// Input that came through stdin, while its run is alive.
    pub fn spool(&self) -> Result<PathBuf> {
        let spool = self.root.join("spool");
        make_private(&spool)?;
        Ok(spool)
    }
}

fn make_private(path: &Path) -> Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| {
            format!(
                "cannot make {}: name a directory that you may write to with --data-dir",
                path.display()
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_given_directory_is_made_private_and_used_as_it_is() {
        use std::os::unix::fs::PermissionsExt;
        let parent = tempfile::tempdir().unwrap();
        let given = parent.path().join("a/b");
        let data = DataDir::open(Some(&given)).unwrap();
        assert_eq!(data.database(), given.join("rbee.db"));
        assert_eq!(
            std::fs::metadata(&given).unwrap().permissions().mode() & 0o777,
            0o700
        );
    }
}
