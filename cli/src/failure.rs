//! Why a command ended without doing what was asked, and how that is told.
//!
//! Commands return [`Failure`]; `main` is the only one that prints it and turns it into an exit code.

use std::io;

use crate::exit_code::ExitCode;

/// The end of a command: its exit code, or why it did not get there.
pub type Outcome = Result<ExitCode, Failure>;

/// A command that did not do what was asked.
#[derive(Debug)]
pub enum Failure {
    /// The command or its input is refused as it stands; the text says what to change.
    Usage(String),
    /// Anything else that went wrong, with its chain of causes.
    Program(anyhow::Error),
    /// No server answers; the text says where it was looked for and what to do.
    NoServer(String),
    /// A signal asked the command to stop; the text says what was kept.
    Interrupted(String),
    /// The reader of stdout went away (`rbee export … | head`): nothing to say.
    ReaderGone,
}

impl Failure {
    /// A refusal of the command as it stands.
    pub fn usage(message: impl Into<String>) -> Failure {
        Failure::Usage(message.into())
    }

    /// The code that the process exits with.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Failure::Usage(_) => ExitCode::Usage,
            Failure::Program(_) => ExitCode::Error,
            Failure::NoServer(_) => ExitCode::NoServer,
            Failure::Interrupted(_) => ExitCode::Interrupted,
            Failure::ReaderGone => ExitCode::Success,
        }
    }

    /// What stderr is told; `None` where silence is right.
    pub fn sentence(&self) -> Option<String> {
        match self {
            Failure::Usage(message) | Failure::NoServer(message) => {
                Some(format!("error: {message}"))
            }
            Failure::Program(error) => Some(format!("error: {}", chain(error))),
            Failure::Interrupted(message) => Some(message.clone()),
            Failure::ReaderGone => None,
        }
    }
}

/// The error and its causes in one line. A cause that its parent already quotes is left out.
fn chain(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Failure {
        Failure::Program(error.into())
    }
}

/// For writes to stdout: a closed pipe ends the command quietly, anything else is an error.
pub fn stdout_failure(error: io::Error) -> Failure {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return Failure::ReaderGone;
    }
    Failure::Program(anyhow::Error::new(error).context("cannot write to stdout"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_told_once() {
        let disk = io::Error::other("No space left on device");
        let quoting = anyhow::anyhow!("cannot write results.jsonl: No space left on device");
        assert_eq!(
            Failure::Program(anyhow::Error::new(disk).context("cannot write results.jsonl"))
                .sentence(),
            Some("error: cannot write results.jsonl: No space left on device".to_owned())
        );
        assert_eq!(
            Failure::Program(quoting).sentence(),
            Some("error: cannot write results.jsonl: No space left on device".to_owned())
        );
    }

    #[test]
    fn a_closed_pipe_is_quiet_and_no_error() {
        let failure = stdout_failure(io::ErrorKind::BrokenPipe.into());
        assert_eq!(failure.exit_code(), ExitCode::Success);
        assert_eq!(failure.sentence(), None);
    }

    #[test]
    fn a_refused_command_exits_with_two() {
        assert_eq!(
            Failure::usage("output equal to input").exit_code().number(),
            2
        );
    }
}
