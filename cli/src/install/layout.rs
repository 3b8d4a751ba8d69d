//! Where everything lies, for one user or for the whole machine.

use std::path::{Component, Path, PathBuf};

use anyhow::{Result, anyhow, bail};
use etcetera::BaseStrategy;

use super::plist::label;
use super::unit::Unit;

/// For whom something is installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    User,
    System,
}

/// Who runs services.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manager {
    Systemd,
    /// Of macOS.
    Launchd,
}

impl Manager {
    /// The one of this system.
    pub fn here() -> Manager {
        match std::env::consts::OS {
            "macos" => Manager::Launchd,
            _ => Manager::Systemd,
        }
    }
}

/// Where launchd finds a user's services, below the home directory.
const AGENTS: &str = "Library/LaunchAgents";
/// Where packages of the system keep their files; their units lie there too.
const OF_PACKAGES: &str = "/usr";
/// Where the system's administrator keeps what is installed beside packages.
const OF_ADMINISTRATOR: &str = "/usr/local";

/// The places of one installation.
#[derive(Debug, Clone)]
pub struct Layout {
    pub scope: Scope,
    pub manager: Manager,
    /// As the installed program will see it, without `root`.
    pub binary: PathBuf,
    pub config: PathBuf,
    units: PathBuf,
    users: Option<PathBuf>,
    pub bash: PathBuf,
    pub zsh: PathBuf,
    pub fish: PathBuf,
    man: PathBuf,
    /// What stands before every path while files are written: an image or a package that is being made.
    root: Option<PathBuf>,
}

impl Layout {
    /// The usual places, or those below another prefix than `~/.local` or `/usr/local`.
    pub fn new(scope: Scope, prefix: Option<&Path>, root: Option<&Path>) -> Result<Layout> {
        let layout = match scope {
            Scope::User => Layout::of_user(prefix, Manager::here())?,
            Scope::System if Manager::here() == Manager::Launchd => {
                bail!("--system wants systemd: on macOS install with --user")
            }
            Scope::System => Layout::of_system(prefix.unwrap_or(Path::new(OF_ADMINISTRATOR))),
        };
        Ok(Layout {
            root: root.map(Path::to_owned),
            ..layout
        })
    }

    fn of_user(prefix: Option<&Path>, manager: Manager) -> Result<Layout> {
        let homes = etcetera::choose_base_strategy()
            .map_err(|error| anyhow!("{error}: set HOME to install for a user"))?;
        let (config, data) = (homes.config_dir(), homes.data_dir());
        let prefix = match prefix {
            Some(prefix) => std::path::absolute(prefix)?,
            None => homes.home_dir().join(".local"),
        };
        Ok(Layout {
            scope: Scope::User,
            manager,
            binary: prefix.join("bin/rbee"),
            config: config.join("rbee/config.toml"),
            units: match manager {
                Manager::Systemd => config.join("systemd/user"),
                Manager::Launchd => homes.home_dir().join(AGENTS),
            },
            users: None,
            bash: data.join("bash-completion/completions/rbee"),
            zsh: data.join("zsh/site-functions/_rbee"),
            fish: data.join("fish/vendor_completions.d/rbee.fish"),
            man: data.join("man/man1"),
            root: None,
        })
    }

    fn of_system(prefix: &Path) -> Layout {
        let share = prefix.join("share");
        let is_package = prefix == Path::new(OF_PACKAGES);
        let etc = Path::new("/etc");
        let (units, users) = match is_package {
            true => (
                prefix.join("lib/systemd/system"),
                prefix.join("lib/sysusers.d"),
            ),
            false => (etc.join("systemd/system"), etc.join("sysusers.d")),
        };
        Layout {
            scope: Scope::System,
            manager: Manager::Systemd,
            binary: prefix.join("bin/rbee"),
            config: etc.join("rbee/config.toml"),
            units,
            users: Some(users.join("rbee.conf")),
            bash: share.join("bash-completion/completions/rbee"),
            zsh: share.join("zsh/site-functions/_rbee"),
            fish: share.join("fish/vendor_completions.d/rbee.fish"),
            man: share.join("man/man1"),
            root: None,
        }
    }

    /// Where a unit lies.
    pub fn unit(&self, unit: Unit) -> PathBuf {
        self.units.join(match self.manager {
            Manager::Systemd => unit.file_name(),
            Manager::Launchd => format!("{}.plist", label(unit)),
        })
    }

    /// Where the system is told of the user that services run as.
    pub fn users(&self) -> Option<&Path> {
        self.users.as_deref()
    }

    /// Where a page of the manual lies.
    pub fn page(&self, name: &str) -> PathBuf {
        self.man.join(name)
    }

    /// The folder of secrets, beside the configuration.
    pub fn secrets(&self) -> PathBuf {
        self.config.with_file_name("secrets")
    }

    /// Whether this goes into an image, where nothing runs.
    pub fn is_image(&self) -> bool {
        self.root.is_some()
    }

    /// Where a path is written.
    pub fn on_disk(&self, path: &Path) -> PathBuf {
        let Some(root) = &self.root else {
            return path.to_owned();
        };
        let below = path
            .components()
            .filter(|part| matches!(part, Component::Normal(_)));
        root.join(below.collect::<PathBuf>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_have_their_units_beside_their_files() {
        let root = Path::new("/tmp/image");
        let layout = Layout::new(Scope::System, Some(Path::new("/usr")), Some(root)).unwrap();
        let unit = layout.unit(Unit::Serve);
        assert_eq!(
            unit,
            Path::new("/usr/lib/systemd/system/rbee-serve.service")
        );
        assert_eq!(
            layout.on_disk(&unit),
            root.join("usr/lib/systemd/system/rbee-serve.service")
        );
        let layout = Layout::new(Scope::System, None, None).unwrap();
        assert_eq!(layout.binary, Path::new("/usr/local/bin/rbee"));
        assert_eq!(
            layout.unit(Unit::Worker).parent(),
            Some(Path::new("/etc/systemd/system"))
        );
        assert_eq!(layout.on_disk(&layout.config), layout.config);
    }

    #[test]
    fn launchd_finds_the_services_of_a_user() {
        let layout = Layout::of_user(None, Manager::Launchd).unwrap();
        let list = layout.unit(Unit::Worker);
        assert!(
            list.ends_with("Library/LaunchAgents/rbee.worker.plist"),
            "{list:?}"
        );
    }
}
