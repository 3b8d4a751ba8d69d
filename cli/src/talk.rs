//! What rbee says beside its data: everything on stderr, nothing there with `--quiet` but errors.
//!
//! stdout is data and never written from here. Progress bars are in `progress.rs`; both share one drawing target, so
//! that a line of talk never lands in the middle of a bar.

use std::io::{IsTerminal, Write};

use indicatif::MultiProgress;

/// The voice of one process; cheap to clone.
#[derive(Clone)]
pub struct Talk {
    quiet: bool,
    terminal: bool,
    bars: MultiProgress,
}

impl Talk {
    /// Speaks to stderr; `quiet` silences notes and progress, never warnings.
    pub fn new(quiet: bool) -> Talk {
        Talk {
            quiet,
            terminal: std::io::stderr().is_terminal(),
            bars: MultiProgress::new(),
        }
    }

    /// Something worth knowing.
    pub fn note(&self, line: &str) {
        if !self.quiet {
            self.line(line);
        }
    }

    /// Something that the user should look at, even with `--quiet`.
    pub fn warn(&self, line: &str) {
        self.line(&format!("warning: {line}"));
    }

    /// One line on stderr, above any progress bar. A stderr that is closed or full is no reason to stop a run.
    pub fn line(&self, line: &str) {
        self.bars.suspend(|| {
            let _ = writeln!(std::io::stderr().lock(), "{line}");
        });
    }

    /// Whether notes and progress are wanted.
    pub fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// Whether stderr is a terminal, where bars can be drawn.
    pub fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// The drawing target that progress bars share.
    pub fn bars(&self) -> &MultiProgress {
        &self.bars
    }
}
