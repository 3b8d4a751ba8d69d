//! The child's side: what the parent handed down, and hearing from it.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use anyhow::{Context, Result};

/// Descriptor of the pipe on which the parent speaks.
pub const CONTROL_VARIABLE: &str = "RBEE_CHILD_CONTROL_FD";
/// Descriptor of the crash journal.
pub const JOURNAL_VARIABLE: &str = "RBEE_CHILD_JOURNAL_FD";
/// Set when the child before this one crashed.
pub const CRASH_VARIABLE: &str = "RBEE_CHILD_AFTER_CRASH";
/// Set when the prompts are on stdin, whatever the arguments say.
pub const INPUT_VARIABLE: &str = "RBEE_CHILD_INPUT";

/// What a supervised child got from its parent.
pub struct Child {
    pub journal: File,
    /// The prompts are on stdin, spooled by the parent.
    pub input_on_stdin: bool,
    /// The child before this one crashed, or was killed.
    pub after_crash: bool,
    control: File,
}

impl Child {
    /// What was handed down; `None` if this process has no supervisor.
    pub fn from_parent() -> Result<Option<Child>> {
        let (Some(control), Some(journal)) =
            (inherited(CONTROL_VARIABLE), inherited(JOURNAL_VARIABLE))
        else {
            return Ok(None);
        };
        let open = |path: &PathBuf, write: bool| {
            let file = File::options().read(true).write(write).open(path);
            file.with_context(|| {
                format!(
                    "cannot open {}, which the parent process handed down",
                    path.display()
                )
            })
        };
        Ok(Some(Child {
            journal: open(&journal, true)?,
            control: open(&control, false)?,
            input_on_stdin: std::env::var_os(INPUT_VARIABLE).is_some(),
            after_crash: std::env::var_os(CRASH_VARIABLE).is_some(),
        }))
    }

    /// Calls `stop` each time the parent wants the child to stop, from a thread of its own, and ends this process when
    /// the parent is gone: a child without a parent would hold its batch with nobody waiting for it.
    pub fn listen(&self, stop: impl Fn() + Send + 'static) -> Result<()> {
        let mut control = self
            .control
            .try_clone()
            .context("cannot listen to the parent process")?;
        let listen = move || {
            let mut word = [0];
            loop {
                match control.read(&mut word) {
                    Ok(1) => stop(),
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                    _ => std::process::exit(i32::from(
                        crate::exit_code::ExitCode::Interrupted.number(),
                    )),
                }
            }
        };
        std::thread::Builder::new()
            .name("supervised".to_owned())
            .spawn(listen)
            .context("cannot start a thread")?;
        Ok(())
    }
}

/// The path under which an inherited descriptor can be opened again.
fn inherited(variable: &str) -> Option<PathBuf> {
    let descriptor: u32 = std::env::var(variable).ok()?.parse().ok()?;
    Some(PathBuf::from(format!("/dev/fd/{descriptor}")))
}
