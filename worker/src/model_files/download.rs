//! Downloading one file into its partial file: resuming with ranges, retrying what passes, refusing what does not.

use reqwest::header::{self, HeaderMap};
use reqwest::{Response, StatusCode, Url};

use super::PullProgress;
use super::blob::{Check, Partial};
use super::error::ModelError;
use super::http::{Http, Resume, host_of, root_cause};
use super::retry::{Failure, FailureKind, Patience, Retries};

/// Tries in one download, however much each brought: a server that gives a byte a connection must not hold us forever.
const TRIES_MAX: u32 = 1_000;

/// Counts a pull's bytes for whoever watches, across files, resumption and starting over.
pub struct Meter<'a> {
    progress: &'a dyn PullProgress,
    total: u64,
    done: u64,
}

impl<'a> Meter<'a> {
    pub fn new(progress: &'a dyn PullProgress, total: u64) -> Meter<'a> {
        progress.total(total);
        Meter {
            progress,
            total,
            done: 0,
        }
    }

    pub fn progress(&self) -> &'a dyn PullProgress {
        self.progress
    }

    pub fn advance(&mut self, bytes: u64) {
        self.done += bytes;
        self.progress.advance(bytes);
    }

    /// Takes bytes back that turned out to be useless.
    pub fn rewind(&mut self, bytes: u64) {
        if bytes > 0 {
            self.done = self.done.saturating_sub(bytes);
            self.progress.total(self.total);
            self.progress.advance(self.done);
        }
    }

    /// More files than were known at first.
    pub fn extend(&mut self, bytes: u64) {
        self.total += bytes;
        self.progress.total(self.total);
        self.progress.advance(self.done);
    }
}

/// A file at a URL.
pub struct Download<'a> {
    pub http: &'a Http,
    pub url: Url,
    pub patience: Patience,
}

impl Download<'_> {
    /// Fills the partial file until it is whole and right, and gives its sha256. What an earlier try left counts. On
    /// error the partial file keeps what is good for a later try.
    pub async fn run(
        &self,
        partial: &mut Partial,
        meter: &mut Meter<'_>,
    ) -> Result<[u8; 32], ModelError> {
        meter.advance(partial.len());
        let mut retries = Retries::new(self.patience, &self.http.options);
        let mut started_over = false;
        for _ in 0..TRIES_MAX {
            let before = partial.len();
            let outcome = self.try_once(partial, meter).await;
            if partial.len() > before {
                retries.progressed();
            }
            match outcome {
                Ok(()) => match partial.check() {
                    Check::Good(sha256) => return Ok(sha256),
                    Check::Wrong { expected, found } => {
                        meter.rewind(partial.len());
                        partial.restart()?;
                        if started_over {
                            return Err(self.wrong(partial, expected, found));
                        }
                        started_over = true;
                        meter.progress().note(&format!(
                            "{} came damaged ({found}); starting over",
                            self.what(partial)
                        ));
                    }
                },
                Err(failure) => {
                    let reason = failure.error.to_string();
                    let wait = retries
                        .after(failure)
                        .map_err(|error| counted(error, retries.failures()))?;
                    tracing::debug!(
                        reason,
                        wait_ms = wait.as_millis() as u64,
                        "download interrupted, trying again"
                    );
                    tokio::time::sleep(wait).await;
                }
            }
        }
        Err(self.cut(partial, TRIES_MAX, "too many tries".to_owned()))
    }

    async fn try_once(&self, partial: &mut Partial, meter: &mut Meter<'_>) -> Result<(), Failure> {
        if partial.len() == partial.expected().bytes {
            return Ok(());
        }
        let what = self.what(partial);
        let resume = (partial.len() > 0).then(|| Resume {
            start: partial.len(),
            etag: partial.etag().map(str::to_owned),
        });
        let response = self
            .http
            .get(&self.url, resume.as_ref(), &what, self.patience)
            .await?;
        match response.status() {
            StatusCode::PARTIAL_CONTENT => self.check_range(partial, response.headers())?,
            StatusCode::OK => {
                // The server ignores ranges, or has another file than before.
                meter.rewind(partial.len());
                partial.restart()?;
                if let Some(found) = response
                    .content_length()
                    .filter(|len| *len != partial.expected().bytes)
                {
                    let expected = format!("{} bytes long", partial.expected().bytes);
                    return Err(self
                        .wrong(partial, expected, format!("it is {found} bytes long"))
                        .into());
                }
            }
            _ => {
                meter.rewind(partial.len());
                partial.restart()?;
                let reason = "it does not have the rest of the file".to_owned();
                return Err(passing(self.cut(partial, 1, reason)));
            }
        }
        partial.set_etag(strong_etag(response.headers()))?;
        self.receive(response, partial, meter).await
    }

    async fn receive(
        &self,
        mut response: Response,
        partial: &mut Partial,
        meter: &mut Meter<'_>,
    ) -> Result<(), Failure> {
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) => {
                    if partial.len() + chunk.len() as u64 > partial.expected().bytes {
                        meter.rewind(partial.len());
                        partial.restart()?;
                        let expected = format!("{} bytes long", partial.expected().bytes);
                        return Err(self
                            .wrong(partial, expected, "it is longer".to_owned())
                            .into());
                    }
                    partial.append(&chunk)?;
                    meter.advance(chunk.len() as u64);
                }
                Ok(None) if partial.len() < partial.expected().bytes => {
                    return Err(passing(self.cut(partial, 1, "it ended early".to_owned())));
                }
                Ok(None) => return Ok(()),
                Err(e) => return Err(passing(self.cut(partial, 1, root_cause(&e.without_url())))),
            }
        }
    }

    /// A partial answer must begin where we stand and be of a file of the expected size.
    fn check_range(&self, partial: &Partial, headers: &HeaderMap) -> Result<(), Failure> {
        let range = headers
            .get(header::CONTENT_RANGE)
            .and_then(|value| value.to_str().ok())
            .and_then(parse_range);
        let protocol = |reason: String| -> Failure {
            ModelError::Protocol {
                what: self.what(partial),
                host: self.host(),
                reason,
            }
            .into()
        };
        match range {
            None => Err(protocol(
                "it gives a part of the file without saying which".to_owned(),
            )),
            Some((start, _)) if start != partial.len() => Err(protocol(format!(
                "it gives the part from {start} instead of {}",
                partial.len()
            ))),
            Some((_, Some(total))) if total != partial.expected().bytes => {
                let expected = format!("{} bytes long", partial.expected().bytes);
                Err(self
                    .wrong(partial, expected, format!("it is {total} bytes long"))
                    .into())
            }
            Some(_) => Ok(()),
        }
    }

    fn what(&self, partial: &Partial) -> String {
        partial.expected().what.clone()
    }

    fn host(&self) -> String {
        host_of(&self.url)
    }

    fn wrong(&self, partial: &Partial, expected: String, found: String) -> ModelError {
        ModelError::WrongContent {
            what: self.what(partial),
            origin: self.host(),
            expected,
            found,
        }
    }

    fn cut(&self, partial: &Partial, failures: u32, reason: String) -> ModelError {
        ModelError::Interrupted {
            what: self.what(partial),
            host: self.host(),
            failures,
            reason,
        }
    }
}

/// Says in the last error how many tries there were.
fn counted(error: ModelError, tries: u32) -> ModelError {
    match error {
        ModelError::Interrupted {
            what, host, reason, ..
        } => ModelError::Interrupted {
            what,
            host,
            failures: tries,
            reason,
        },
        error => error,
    }
}

fn passing(error: ModelError) -> Failure {
    Failure {
        error,
        kind: FailureKind::Passing { retry_after: None },
    }
}

/// `bytes 5-9/10` to (5, Some(10)); `*` for an unknown total.
fn parse_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (start, _) = range.split_once('-')?;
    let total = if total == "*" {
        None
    } else {
        Some(total.parse().ok()?)
    };
    Some((start.parse().ok()?, total))
}

/// Only a strong tag may stand in `If-Range`.
fn strong_etag(headers: &HeaderMap) -> Option<String> {
    const ETAG_BYTES_MAX: usize = 512;
    let etag = headers.get(header::ETAG)?.to_str().ok()?;
    let strong = etag.starts_with('"') && etag.ends_with('"') && etag.len() <= ETAG_BYTES_MAX;
    strong.then(|| etag.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges_parse() {
        assert_eq!(parse_range("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(parse_range("bytes 5-9/*"), Some((5, None)));
        for bad in [
            "",
            "bytes",
            "bytes */10",
            "bytes x-9/10",
            "items 5-9/10",
            "bytes 5-9",
        ] {
            assert_eq!(parse_range(bad), None, "{bad}");
        }
    }
}
