//! An error that lasts is said once.

use std::fmt::Display;
use std::time::Duration;

/// The first wait after an error.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// The longest wait between tries.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// Errors in a row of one activity.
pub(super) struct Trouble {
    what: &'static str,
    said: Option<String>,
    wait: Duration,
}

impl Trouble {
    pub fn new(what: &'static str) -> Trouble {
        Trouble {
            what,
            said: None,
            wait: FIRST_WAIT,
        }
    }

    /// Says an error, unless it is the one said last.
    pub fn note(&mut self, error: &impl Display) {
        let message = error.to_string();
        if self.said.as_ref() != Some(&message) {
            tracing::warn!(error = %message, "{}", self.what);
            self.said = Some(message);
        }
    }

    /// Says an error and waits, each time longer.
    pub async fn back_off(&mut self, error: &(impl Display + Sync)) {
        self.note(error);
        tokio::time::sleep(self.wait).await;
        self.wait = (self.wait * 2).min(LONGEST_WAIT);
    }

    /// It works.
    pub fn over(&mut self) {
        if self.said.take().is_some() {
            tracing::info!("no more: {}", self.what);
        }
        self.wait = FIRST_WAIT;
    }
}
