//! launchd's description of a user's service (launchd.plist(5)): what a unit is to systemd.

use std::path::Path;

use super::unit::Unit;

/// Seconds that a service may take to end: a node's grace time, and what comes after it.
const EXIT_SECONDS: u32 = 90;
/// Seconds between a crash and the next start.
const PAUSE_SECONDS: u32 = 2;

/// What launchd calls a service.
pub fn label(unit: Unit) -> String {
    format!("rbee.{}", unit.name())
}

/// The property list of a service: the program at `binary`, started with the session and again where it fails, and its words
/// in `log`.
pub fn text(unit: Unit, binary: &Path, log: &Path) -> String {
    let (label, name) = (label(unit), unit.name());
    let (binary, log) = (escaped(binary), escaped(log));
    format!(
        r#"<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
  <key>Label</key>
  <string>{label}</string>
  <key>ProgramArguments</key>
  <array>
    <string>{binary}</string>
    <string>{name}</string>
  </array>
  <key>RunAtLoad</key>
  <true/>
  <key>KeepAlive</key>
  <dict>
    <key>SuccessfulExit</key>
    <false/>
  </dict>
  <key>ThrottleInterval</key>
  <integer>{PAUSE_SECONDS}</integer>
  <key>ExitTimeOut</key>
  <integer>{EXIT_SECONDS}</integer>
  <key>StandardOutPath</key>
  <string>{log}</string>
  <key>StandardErrorPath</key>
  <string>{log}</string>
</dict>
</plist>
"#
    )
}

/// A path as XML's text.
fn escaped(path: &Path) -> String {
    let text = path.display().to_string();
    (text.replace('&', "&amp;").replace('<', "&lt;")).replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_start_the_installed_program_and_say_what_launchd_wants_to_know() {
        let text = text(
            Unit::Worker,
            Path::new("/Users/ann & bob/.local/bin/rbee"),
            Path::new("/Users/ann & bob/log<1>"),
        );
        let arguments = "<array>\n    <string>/Users/ann &amp; bob/.local/bin/rbee</string>\n    \
                         <string>worker</string>\n  </array>";
        assert!(text.contains(arguments), "{text}");
        assert!(text.contains("<string>rbee.worker</string>"), "{text}");
        assert_eq!(text.matches("/Users/ann &amp; bob/log&lt;1&gt;").count(), 2);
        // Every key has its value, and everything that is opened is closed again.
        for tag in ["plist", "dict", "array", "key", "string", "integer"] {
            let open = text.matches(&format!("<{tag}>")).count()
                + text.matches(&format!("<{tag} ")).count();
            assert_eq!(open, text.matches(&format!("</{tag}>")).count(), "{tag}");
        }
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        let keys = lines.iter().enumerate();
        for (at, key) in keys.filter(|(_, line)| line.starts_with("<key>")) {
            let value = lines[at + 1];
            assert!(
                !value.starts_with("<key>") && !value.starts_with("</"),
                "{key}"
            );
        }
    }
}
