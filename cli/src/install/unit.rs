//! The systemd units: those of `deploy/`, as they are for the whole machine, and without what only the machine's own
//! manager can do for a user.

use std::path::Path;

use clap::ValueEnum;

use super::layout::Scope;

/// What can run as a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Unit {
    /// `rbee serve`
    Serve,
    /// `rbee worker`
    Worker,
}

/// How the units of `deploy/` start the program, wherever it is installed.
const ANYWHERE: &str = "/usr/bin/env rbee ";
/// What a user's own manager cannot do, or does for its user anyway.
const NOT_FOR_USERS: [&str; 9] = [
    "After",
    "Wants",
    "User",
    "Environment",
    "StateDirectory",
    "StateDirectoryMode",
    "ProtectSystem",
    "ProtectHome",
    "PrivateTmp",
];

impl Unit {
    pub const ALL: [Unit; 2] = [Unit::Serve, Unit::Worker];

    /// The command, and what people call it.
    pub fn name(self) -> &'static str {
        match self {
            Unit::Serve => "serve",
            Unit::Worker => "worker",
        }
    }

    /// `rbee-worker.service`
    pub fn file_name(self) -> String {
        format!("rbee-{}.service", self.name())
    }

    /// The unit's text, with the program at `binary`.
    pub fn text(self, scope: Scope, binary: &Path) -> String {
        let source = match self {
            Unit::Serve => include_str!("../../../deploy/systemd/rbee-serve.service"),
            Unit::Worker => include_str!("../../../deploy/systemd/rbee-worker.service"),
        };
        let binary = format!("{} ", binary.display());
        let lines = source
            .lines()
            .filter(|line| scope == Scope::System || !is_for_system_only(line))
            .map(|line| match (scope, line) {
                // %E is the user's configuration directory.
                (Scope::User, "EnvironmentFile=-/etc/rbee/rbee.env") => {
                    "EnvironmentFile=-%E/rbee/rbee.env".to_owned()
                }
                (Scope::User, "WantedBy=multi-user.target") => "WantedBy=default.target".to_owned(),
                _ => line.replace(ANYWHERE, &binary),
            });
        lines.map(|line| line + "\n").collect()
    }
}

fn is_for_system_only(line: &str) -> bool {
    // Comments speak of the machine's places.
    line.starts_with('#')
        || line
            .split_once('=')
            .is_some_and(|(key, _)| NOT_FOR_USERS.contains(&key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_start_the_installed_program_and_users_get_what_they_can_have() {
        let binary = Path::new("/home/ann/.local/bin/rbee");
        for unit in Unit::ALL {
            let text = unit.text(Scope::User, binary);
            let start = format!("ExecStart=/home/ann/.local/bin/rbee {}\n", unit.name());
            assert!(text.contains(&start), "{text}");
            for word in ["User=", "/etc/", "/var/", "ProtectHome", "multi-user"] {
                assert!(!text.contains(word), "{word}: {text}");
            }
            assert!(
                text.contains("EnvironmentFile=-%E/rbee/rbee.env\n"),
                "{text}"
            );
            let text = unit.text(Scope::System, Path::new("/usr/bin/rbee"));
            assert!(text.contains("User=rbee\n") && text.contains("ExecStart=/usr/bin/rbee "));
        }
    }
}
