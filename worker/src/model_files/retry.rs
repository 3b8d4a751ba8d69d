//! When a failed request is tried again: a pure decision from the kind of failure and what came before.

use std::time::Duration;

use super::error::ModelError;
use super::hub_options::HubOptions;

/// A `Retry-After` longer than this ends the pull with a sentence instead of waiting.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// Whether another source stands behind this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// Nothing else has it: retry for a while.
    Patient,
    /// Another source has it: give up within seconds.
    Eager,
}

impl Patience {
    /// Failures in a row that end the try. A download that was going on deserves more than a first contact.
    pub fn failures_max(self, had_progress: bool) -> u32 {
        match (self, had_progress) {
            (Patience::Eager, _) => 2,
            (Patience::Patient, false) => 4,
            (Patience::Patient, true) => 8,
        }
    }

    fn retries_connect(self, had_progress: bool) -> bool {
        self == Patience::Patient || had_progress
    }

    fn wait_max(self) -> Duration {
        match self {
            Patience::Eager => Duration::from_secs(2),
            Patience::Patient => RETRY_AFTER_MAX,
        }
    }

    pub fn headers_timeout(self, options: &HubOptions) -> Duration {
        match self {
            Patience::Eager => options.connect_timeout,
            Patience::Patient => options.read_timeout,
        }
    }
}

/// One failed try.
#[derive(Debug)]
pub struct Failure {
    pub error: ModelError,
    pub kind: FailureKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// Trying again gives the same.
    Final,
    /// The server was not reached.
    Connect,
    /// It may go better next time; the server may have said when.
    Passing { retry_after: Option<Duration> },
}

impl From<ModelError> for Failure {
    fn from(error: ModelError) -> Failure {
        Failure {
            error,
            kind: FailureKind::Final,
        }
    }
}

/// Counts failures in a row and says how long to wait, or that it is enough.
#[derive(Debug)]
pub struct Retries {
    patience: Patience,
    backoff: Duration,
    failures: u32,
    had_progress: bool,
}

impl Retries {
    pub fn new(patience: Patience, options: &HubOptions) -> Retries {
        Retries {
            patience,
            backoff: options.backoff,
            failures: 0,
            had_progress: false,
        }
    }

    /// Bytes came: the next failure is the first again.
    pub fn progressed(&mut self) {
        self.failures = 0;
        self.had_progress = true;
    }

    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// The wait before the next try, or the error when there is to be none.
    pub fn after(&mut self, failure: Failure) -> Result<Duration, ModelError> {
        self.failures += 1;
        let retry_after = match failure.kind {
            FailureKind::Final => return Err(failure.error),
            FailureKind::Connect if !self.patience.retries_connect(self.had_progress) => {
                return Err(failure.error);
            }
            FailureKind::Connect => None,
            FailureKind::Passing { retry_after } => retry_after,
        };
        if self.failures >= self.patience.failures_max(self.had_progress) {
            return Err(failure.error);
        }
        match retry_after {
            Some(wait) if wait > self.patience.wait_max() => Err(failure.error),
            Some(wait) => Ok(wait),
            None => Ok((self.backoff * 2u32.saturating_pow(self.failures - 1)).min(BACKOFF_MAX)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passing(retry_after: Option<u64>) -> Failure {
        let error = ModelError::Server {
            what: "x".into(),
            host: "h".into(),
            status: 503,
        };
        Failure {
            error,
            kind: FailureKind::Passing {
                retry_after: retry_after.map(Duration::from_secs),
            },
        }
    }

    #[test]
    fn waits_double_and_end_and_progress_starts_them_anew() {
        let options = HubOptions::new("https://hub.example", None).unwrap();
        let mut retries = Retries::new(Patience::Patient, &options);
        let waits: Vec<u128> = std::iter::from_fn(|| retries.after(passing(None)).ok())
            .map(|wait| wait.as_millis())
            .collect();
        assert_eq!(waits, [500, 1_000, 2_000]);
        retries.progressed();
        let waits: Vec<u128> = std::iter::from_fn(|| retries.after(passing(None)).ok())
            .map(|wait| wait.as_millis())
            .collect();
        assert_eq!(waits, [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000]);
    }

    #[test]
    fn retry_after_is_kept_unless_it_is_too_long() {
        let options = HubOptions::new("https://hub.example", None).unwrap();
        let mut patient = Retries::new(Patience::Patient, &options);
        assert_eq!(patient.after(passing(Some(7))).unwrap().as_secs(), 7);
        assert!(patient.after(passing(Some(3_600))).is_err());
        let mut eager = Retries::new(Patience::Eager, &options);
        assert!(eager.after(passing(Some(7))).is_err());
    }

    #[test]
    fn eager_source_gives_up_at_the_first_failed_connect() {
        let options = HubOptions::new("https://hub.example", None).unwrap();
        let failure = || {
            let error = ModelError::Unreachable {
                host: "h".into(),
                reason: "no".into(),
            };
            Failure {
                error,
                kind: FailureKind::Connect,
            }
        };
        assert!(
            Retries::new(Patience::Eager, &options)
                .after(failure())
                .is_err()
        );
        assert!(
            Retries::new(Patience::Patient, &options)
                .after(failure())
                .is_ok()
        );
    }
}
