//! The exit codes of `rbee`: the one place where they are numbered.
//!
//! Scripts rely on these numbers, so a code keeps its meaning for good.

/// What the process tells the shell when it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitCode {
    /// Everything that was asked for was done; of a run: every job succeeded.
    Success,
    /// Something went wrong on the way: a file or disk, the store, a download, a model that cannot be read or does
    /// not fit into memory, a comparison by `verify` that found a difference.
    Error,
    /// The command or the prompts file is refused as it stands, and nothing was run: unknown flag, missing file,
    /// unknown model name, duplicate ids, output equal to input.
    Usage,
    /// The run finished and its results are complete, but some of them are errors. Also: an export of a batch that
    /// is not finished yet wrote what there is, and a `diff` found results that differ.
    SomeFailed,
    /// A command that wants a server found none.
    NoServer,
    /// Stopped by Ctrl-C or SIGTERM. What is finished is kept, and the same command resumes.
    Interrupted,
}

impl ExitCode {
    /// The number that the shell sees.
    pub fn number(self) -> u8 {
        match self {
            ExitCode::Success => 0,
            ExitCode::Error => 1,
            ExitCode::Usage => 2,
            ExitCode::SomeFailed => 3,
            ExitCode::NoServer => 4,
            ExitCode::Interrupted => 130,
        }
    }

    /// The code with this number; any other number is an error, as of a child process that panicked.
    pub fn from_number(number: i32) -> ExitCode {
        match number {
            0 => ExitCode::Success,
            2 => ExitCode::Usage,
            3 => ExitCode::SomeFailed,
            4 => ExitCode::NoServer,
            130 => ExitCode::Interrupted,
            _ => ExitCode::Error,
        }
    }
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        std::process::ExitCode::from(code.number())
    }
}

/// The table that `rbee --help` ends with.
pub const EXIT_CODES_HELP: &str = "\
Exit codes:
  0    done; of a run: every job succeeded
  1    an error of the program: disk, store, download, model, memory
  2    the command or the prompts file is refused as it stands
  3    finished, and some jobs failed (the results file is complete); of a diff: results differ
  4    no server can be reached
  130  interrupted; what is finished is kept, and the same command resumes";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_stands_in_the_help_table() {
        let all = [
            ExitCode::Success,
            ExitCode::Error,
            ExitCode::Usage,
            ExitCode::SomeFailed,
            ExitCode::NoServer,
            ExitCode::Interrupted,
        ];
        for code in all {
            let start = format!("  {} ", code.number());
            assert!(
                EXIT_CODES_HELP.lines().any(|line| line.starts_with(&start)),
                "{code:?} is not in the table"
            );
        }
    }
}
