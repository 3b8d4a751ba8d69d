//! Progress of what takes longer than a second: bars on a terminal, an occasional line elsewhere, nothing with
//! `--quiet`.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::byte_size;
use crate::talk::Talk;

/// Nothing is shown of what is over sooner.
const SHOWN_AFTER: Duration = Duration::from_secs(1);
/// How often a line is written where no bar can be drawn.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Shows one activity: draws when there is something to draw on, and when it is time.
struct Display {
    talk: Talk,
    started: Instant,
    last_line: Instant,
    bar: Option<ProgressBar>,
}

impl Display {
    fn new(talk: &Talk) -> Display {
        let now = Instant::now();
        Display {
            talk: talk.clone(),
            started: now,
            last_line: now,
            bar: None,
        }
    }

    /// The bar to draw on, made when the activity turns out to be a long one.
    fn bar(&mut self, total: u64, template: &str) -> Option<&ProgressBar> {
        if self.talk.is_quiet() || !self.talk.is_terminal() || self.started.elapsed() < SHOWN_AFTER
        {
            return None;
        }
        let talk = &self.talk;
        Some(self.bar.get_or_insert_with(|| {
            let style = ProgressStyle::with_template(template)
                .expect("the templates in this file are well-formed");
            talk.bars()
                .add(ProgressBar::new(total).with_style(style.progress_chars("=> ")))
        }))
    }

    /// Whether a plain line is due.
    fn line_due(&mut self) -> bool {
        let due = !self.talk.is_quiet()
            && !self.talk.is_terminal()
            && self.last_line.elapsed() >= LINE_EVERY;
        if due {
            self.last_line = Instant::now();
        }
        due
    }

    fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
            self.talk.bars().remove(&bar);
        }
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        self.clear();
    }
}

/// Progress of bytes: a download, or hashing a file.
pub struct ByteProgress {
    display: Display,
    label: String,
    total: u64,
    done: u64,
}

impl ByteProgress {
    /// `label` says what is going on, for example `hashing model.gguf`. A `total` of 0 is unknown.
    pub fn new(talk: &Talk, label: &str, total: u64) -> ByteProgress {
        ByteProgress {
            display: Display::new(talk),
            label: label.to_owned(),
            total,
            done: 0,
        }
    }

    /// So many bytes more are done.
    pub fn advance(&mut self, bytes: u64) {
        self.done += bytes;
        let template = match self.total {
            0 => "{spinner} {msg} {binary_bytes} {binary_bytes_per_sec}",
            _ => {
                "{msg} [{bar:28}] {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} ETA {eta}"
            }
        };
        if let Some(bar) = self.display.bar(self.total, template) {
            bar.set_message(self.label.clone());
            bar.set_position(self.done);
        }
        if self.display.line_due() {
            let line = match self.total {
                0 => format!("{}: {}", self.label, byte_size::show(self.done)),
                total => format!(
                    "{}: {} of {}",
                    self.label,
                    byte_size::show(self.done),
                    byte_size::show(total)
                ),
            };
            self.display.talk.line(&line);
        }
    }
}

/// A reader that shows how far it is.
pub struct ShownRead<R> {
    inner: R,
    progress: ByteProgress,
}

impl<R> ShownRead<R> {
    /// Reads from `inner` and tells `progress`.
    pub fn new(inner: R, progress: ByteProgress) -> ShownRead<R> {
        ShownRead { inner, progress }
    }
}

impl<R: std::io::Read> std::io::Read for ShownRead<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.progress.advance(read as u64);
        Ok(read)
    }
}

/// Where a run stands.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct RunFigures {
    /// Jobs of the run.
    pub total: u64,
    /// Jobs with a result, resumed and failed ones included.
    pub done: u64,
    /// Jobs that were done before this process began.
    pub resumed: u64,
    /// Jobs whose result is an error.
    pub failed: u64,
    /// Tokens generated a second, lately.
    pub tokens_per_s: f64,
    /// Since this process began to compute.
    pub elapsed: Duration,
}

impl RunFigures {
    /// How long the rest takes at the pace so far; `None` while there is no pace.
    pub fn remaining(&self) -> Option<Duration> {
        let done_here = self.done.saturating_sub(self.resumed);
        if done_here == 0 {
            return None;
        }
        let left = self.total.saturating_sub(self.done) as f64;
        Duration::try_from_secs_f64(self.elapsed.as_secs_f64() * left / done_here as f64).ok()
    }

    /// Speed, time left and failures in a few words.
    fn tail(&self) -> String {
        let mut tail = format!("{:.1} tokens/s", self.tokens_per_s);
        if let Some(remaining) = self.remaining() {
            tail.push_str(&format!(", ETA {}", clock(remaining)));
        }
        if self.failed > 0 {
            tail.push_str(&format!(", {} failed", self.failed));
        }
        tail
    }
}

/// Progress of a run.
pub struct RunProgress(Display);

impl RunProgress {
    /// Shows nothing yet.
    pub fn new(talk: &Talk) -> RunProgress {
        RunProgress(Display::new(talk))
    }

    /// Shows where the run stands now.
    pub fn show(&mut self, figures: &RunFigures) {
        if let Some(bar) = self
            .0
            .bar(figures.total, "[{bar:28}] {pos}/{len} jobs, {msg}")
        {
            bar.set_message(figures.tail());
            bar.set_position(figures.done);
        }
        if self.0.line_due() {
            self.0.talk.line(&format!(
                "{}/{} jobs, {}",
                figures.done,
                figures.total,
                figures.tail()
            ));
        }
    }

    /// Takes the bar away.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

/// Progress of a batch that is watched. Unlike a run's it is there at once: somebody asked to see it.
pub struct BatchProgress(Display);

impl BatchProgress {
    /// Shows nothing yet.
    pub fn new(talk: &Talk) -> BatchProgress {
        let mut display = Display::new(talk);
        display.started = (display.started.checked_sub(SHOWN_AFTER)).unwrap_or(display.started);
        BatchProgress(display)
    }

    /// Shows where the batch stands now, with a few words about it.
    pub fn show(&mut self, done: u64, total: u64, words: &str) {
        if let Some(bar) = self.0.bar(total, "[{bar:28}] {pos}/{len} jobs, {wide_msg}") {
            bar.set_length(total);
            bar.set_message(words.to_owned());
            bar.set_position(done);
        }
        if self.0.line_due() {
            self.0.talk.line(&format!("{done}/{total} jobs, {words}"));
        }
    }

    /// Takes the bar away.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

/// `0.4 s`, `42 s`, then like [`clock`].
pub fn taken(time: Duration) -> String {
    match time.as_secs() {
        ..10 => format!("{:.1} s", time.as_secs_f64()),
        10..60 => format!("{} s", time.as_secs()),
        _ => clock(time),
    }
}

/// `0:07`, `12:03`, `1:02:03`.
pub fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match hours {
        0 => format!("{minutes}:{seconds:02}"),
        _ => format!("{hours}:{minutes:02}:{seconds:02}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_left_counts_only_what_this_process_did() {
        let figures = RunFigures {
            total: 100,
            done: 60,
            resumed: 50,
            failed: 1,
            tokens_per_s: 12.34,
            elapsed: Duration::from_secs(20),
        };
        assert_eq!(figures.remaining(), Some(Duration::from_secs(80)));
        assert_eq!(figures.tail(), "12.3 tokens/s, ETA 1:20, 1 failed");
        let fresh = RunFigures {
            done: 50,
            failed: 0,
            ..figures
        };
        assert_eq!(fresh.remaining(), None);
        assert_eq!(fresh.tail(), "12.3 tokens/s");
    }

    #[test]
    fn clock_grows_with_the_time() {
        assert_eq!(clock(Duration::from_secs(7)), "0:07");
        assert_eq!(clock(Duration::from_secs(723)), "12:03");
        assert_eq!(taken(Duration::from_millis(440)), "0.4 s");
        assert_eq!(taken(Duration::from_secs(42)), "42 s");
        assert_eq!(taken(Duration::from_secs(723)), "12:03");
        assert_eq!(clock(Duration::from_secs(3723)), "1:02:03");
    }
}
