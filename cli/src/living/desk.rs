//! Whether somebody works at a graphical session of this machine, as logind knows it: a desktop tells it when nobody has
//! touched keyboard and mouse for some minutes.

use std::path::Path;
use std::time::Duration;

use tokio::process::Command;

/// There while systemd, and so logind, runs this machine.
const RUNS: &str = "/run/systemd/system";
/// How long logind may take to answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// Sessions that are asked about.
const SESSIONS_MAX: usize = 64;

/// Whether a graphical session is in use. A desktop that never says that it is idle counts as used.
pub async fn is_used() -> bool {
    if !Path::new(RUNS).is_dir() {
        return false;
    }
    let asked = async {
        let listed = loginctl(&["list-sessions", "--no-legend"]).await?;
        let ids = listed
            .lines()
            .filter_map(|line| line.split_whitespace().next());
        let ids: Vec<&str> = ids.take(SESSIONS_MAX).collect();
        if ids.is_empty() {
            return Some(false);
        }
        let wanted = [
            "show-session",
            "--property=Type",
            "--property=Class",
            "--property=Active",
            "--property=IdleHint",
        ];
        let shown = loginctl(&[&wanted[..], &ids].concat()).await?;
        Some(shown.split("\n\n").any(is_used_session))
    };
    // Whoever does not answer tells of nobody: terminals and processors are looked at anyway.
    let answer = tokio::time::timeout(PATIENCE, asked).await;
    answer.ok().flatten().unwrap_or(false)
}

/// Whether somebody sits at this session, by its properties, one a line.
fn is_used_session(properties: &str) -> bool {
    let has = |wanted: &str| properties.lines().any(|line| line == wanted);
    (has("Type=x11") || has("Type=wayland") || has("Type=mir"))
        && has("Class=user")
        && has("Active=yes")
        && has("IdleHint=no")
}

async fn loginctl(words: &[&str]) -> Option<String> {
    let asked = Command::new("loginctl")
        .args(words)
        .kill_on_drop(true)
        .output()
        .await
        .ok()?;
    let said = String::from_utf8_lossy(&asked.stdout).into_owned();
    asked.status.success().then_some(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_desktop_is_used_until_it_says_that_it_is_not() {
        let session = |kind: &str, active: &str, idle: &str| {
            format!("Type={kind}\nClass=user\nActive={active}\nIdleHint={idle}\n")
        };
        assert!(is_used_session(&session("wayland", "yes", "no")));
        assert!(is_used_session(&session("x11", "yes", "no")));
        for free in [
            session("wayland", "yes", "yes"),
            session("x11", "no", "no"),
            // Terminals are looked at by themselves, and a greeter is nobody.
            session("tty", "yes", "no"),
            session("x11", "yes", "no").replace("=user", "=greeter"),
            String::new(),
        ] {
            assert!(!is_used_session(&free), "{free}");
        }
        let both = [session("tty", "yes", "no"), session("x11", "yes", "no")];
        assert!(both.join("\n").split("\n\n").any(is_used_session));
    }
}
