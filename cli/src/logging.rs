//! Logs: `tracing` to stderr, chosen by `RBEE_LOG`, above any progress bar.

use std::io::Write;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::talk::Talk;

/// The environment variable with the filter, for example `RBEE_LOG=debug` or `RBEE_LOG=rbee_worker=trace`.
pub const LOG_VARIABLE: &str = "RBEE_LOG";

/// What is logged when nothing is asked for. sqlx warns of every statement that takes a second, as many do on a slow
/// disk.
const DEFAULT_FILTER: &str = "warn,sqlx::query=error";

/// Starts logging. A filter that cannot be read is told and replaced by the default.
pub fn start(talk: &Talk) {
    let asked = std::env::var(LOG_VARIABLE).unwrap_or_default();
    let filter = if asked.is_empty() {
        Ok(EnvFilter::new(DEFAULT_FILTER))
    } else {
        EnvFilter::try_new(&asked)
    };
    let filter = filter.unwrap_or_else(|error| {
        talk.warn(&format!(
            "{LOG_VARIABLE} is not understood ({error}); using `{DEFAULT_FILTER}`"
        ));
        EnvFilter::new(DEFAULT_FILTER)
    });
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(talk.is_terminal())
        .with_writer(AboveBars(talk.clone()))
        .init();
}

/// Writes each log record above the progress bars.
struct AboveBars(Talk);

impl<'a> MakeWriter<'a> for AboveBars {
    type Writer = AboveBarsWriter<'a>;

    fn make_writer(&'a self) -> Self::Writer {
        AboveBarsWriter(&self.0)
    }
}

struct AboveBarsWriter<'a>(&'a Talk);

impl Write for AboveBarsWriter<'_> {
    fn write(&mut self, record: &[u8]) -> std::io::Result<usize> {
        self.0
            .bars()
            .suspend(|| std::io::stderr().lock().write_all(record))?;
        Ok(record.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().lock().flush()
    }
}
