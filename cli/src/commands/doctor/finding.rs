//! What one look found.

use serde_json::{Value, json};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Ok,
    /// It works, and something may be better.
    Warn,
    /// It does not work.
    Fail,
}

impl Verdict {
    fn name(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::Warn => "warn",
            Verdict::Fail => "fail",
        }
    }
}

/// What one look found, and what to do about it.
#[derive(Debug, Clone)]
pub struct Finding {
    pub what: &'static str,
    pub verdict: Verdict,
    pub found: String,
    pub remedy: Option<String>,
}

impl Finding {
    pub fn ok(what: &'static str, found: impl Into<String>) -> Finding {
        Finding {
            what,
            verdict: Verdict::Ok,
            found: found.into(),
            remedy: None,
        }
    }

    pub fn warn(
        what: &'static str,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Finding {
        Finding {
            verdict: Verdict::Warn,
            remedy: Some(remedy.into()),
            ..Finding::ok(what, found)
        }
    }

    pub fn fail(
        what: &'static str,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Finding {
        Finding {
            verdict: Verdict::Fail,
            remedy: Some(remedy.into()),
            ..Finding::ok(what, found)
        }
    }

    /// `warn  server     none answers: start one`
    pub fn line(&self) -> String {
        let head = format!(
            "{:<5} {:<10} {}",
            self.verdict.name(),
            self.what,
            self.found
        );
        match &self.remedy {
            Some(remedy) => format!("{head} -> {remedy}"),
            None => head,
        }
    }

    pub fn as_json(&self) -> Value {
        json!({"check": self.what, "verdict": self.verdict.name(), "found": self.found, "remedy": self.remedy})
    }
}
