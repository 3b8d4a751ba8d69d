//! Logs: `tracing` to stderr, chosen by `--log` or `RBEE_LOG`, above any progress bar; and the last lines in memory, for whoever asks
//! a node or server for its log.

use std::collections::VecDeque;
use std::io::Write;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rbee_worker::node::LogTail;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry};

use crate::args::Global;
use crate::talk::Talk;

/// What is logged when nothing is asked for. sqlx warns of every statement that takes a second, as many do on a slow
/// disk.
const DEFAULT_FILTER: &str = "warn,sqlx::query=error";
/// What is kept in memory.
const TAIL_FILTER: &str = "info,sqlx=warn";
/// Records that are kept in memory.
const TAIL_LINES: usize = 2_000;
/// A longer record is cut.
const TAIL_LINE_BYTES: usize = 4_096;

/// Starts logging. A filter that cannot be read is told and replaced by the default.
pub fn start(talk: &Talk, global: &Global) {
    let filter = match global.log.as_deref() {
        None | Some("") => Ok(EnvFilter::new(DEFAULT_FILTER)),
        Some(asked) => EnvFilter::try_new(asked),
    };
    let filter = filter.unwrap_or_else(|error| {
        talk.warn(&format!(
            "RBEE_LOG is not understood ({error}); using `{DEFAULT_FILTER}`"
        ));
        EnvFilter::new(DEFAULT_FILTER)
    });
    let tail = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .with_writer(TailWriter(Arc::clone(kept())))
        .with_filter(EnvFilter::new(TAIL_FILTER));
    tracing_subscriber::registry()
        .with(shown(talk, global).with_filter(filter))
        .with(tail)
        .init();
}

/// The layer that writes to stderr.
fn shown(talk: &Talk, global: &Global) -> Box<dyn Layer<Registry> + Send + Sync> {
    let layer = tracing_subscriber::fmt::layer().with_writer(AboveBars(talk.clone()));
    match global.log_format.as_deref() {
        Some("json") => Box::new(layer.json().with_ansi(false)),
        _ => Box::new(layer.with_ansi(talk.is_terminal())),
    }
}

/// Gives the last lines of the log.
pub fn tail() -> LogTail {
    Arc::new(|lines| {
        let kept = kept().lock().unwrap_or_else(PoisonError::into_inner);
        let from = kept.len().saturating_sub(lines);
        kept.iter().skip(from).map(String::as_str).collect()
    })
}

type Tail = Arc<Mutex<VecDeque<String>>>;

fn kept() -> &'static Tail {
    static KEPT: OnceLock<Tail> = OnceLock::new();
    KEPT.get_or_init(Tail::default)
}

/// Keeps each record, each with its line end.
#[derive(Clone)]
struct TailWriter(Tail);

impl<'a> MakeWriter<'a> for TailWriter {
    type Writer = TailWriter;

    fn make_writer(&'a self) -> TailWriter {
        self.clone()
    }
}

impl Write for TailWriter {
    fn write(&mut self, record: &[u8]) -> std::io::Result<usize> {
        let shown = &record[..record.len().min(TAIL_LINE_BYTES)];
        let mut line = String::from_utf8_lossy(shown).into_owned();
        if !line.ends_with('\n') {
            line.push('\n');
        }
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == TAIL_LINES {
            kept.pop_front();
        }
        kept.push_back(line);
        Ok(record.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn oldest_lines_leave_and_long_ones_are_cut() {
        let tail = Tail::default();
        let mut writer = TailWriter(Arc::clone(&tail));
        for number in 0..=TAIL_LINES {
            writer.write_all(format!("{number}\n").as_bytes()).unwrap();
        }
        writer
            .write_all("é".repeat(TAIL_LINE_BYTES).as_bytes())
            .unwrap();
        let kept = tail.lock().unwrap();
        assert_eq!((kept.len(), kept[0].as_str()), (TAIL_LINES, "2\n"));
        assert!(kept[TAIL_LINES - 1].len() <= TAIL_LINE_BYTES + 4);
    }
}
