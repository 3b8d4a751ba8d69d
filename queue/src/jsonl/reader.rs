//! Input lines to jobs, one at a time.
//!
//! Owns the job index, the limit, and the refusal of inputs that are not JSONL at all. Every
//! non-blank line gets exactly one verdict.

use super::line_error::LineError;
use super::lines::{Lines, RawLine};
use super::options::{InputFormat, LineOptions};
use super::parse::{ParsedLine, parse_line};
use crate::ids::{ContentHash, JobIndex};
use std::io::{self, BufRead};

/// So many first lines without a JSON object among them, and the input is no JSONL.
const PLAIN_TEXT_LINES: u64 = 10;

/// One job of an input.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// The job's place among the non-blank lines.
    pub index: JobIndex,
    /// The physical line, 1-based.
    pub number: u64,
    /// The line verbatim; empty if it is not UTF-8, has a NUL byte or is over the length limit.
    pub text: String,
    /// What it says.
    pub parsed: ParsedLine,
    /// The hash that the job key is made of.
    pub content: ContentHash,
}

impl Line {
    /// What its answer is known by, where equal jobs have equal answers, see [`crate::Request::work`].
    pub fn work(&self) -> Option<ContentHash> {
        let request = self.parsed.request.as_ref().ok()?;
        match self.parsed.custom_id {
            // Without an id of its own the content is the request and nothing else.
            None => request.is_determined().then_some(self.content),
            Some(_) => request.work(),
        }
    }
}

/// Why an input is refused as a whole.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The input cannot be read.
    #[error("the input cannot be read: {0}")]
    Io(#[from] io::Error),
    /// No line was found.
    #[error("the input has no line with anything in it")]
    Empty,
    /// None of the first lines begins an object.
    #[error(
        "the input is not JSONL, line {line} begins with {start:?}: for one prompt a line use --format text"
    )]
    PlainText {
        /// The first non-blank line.
        line: u64,
        /// Its first characters.
        start: String,
    },
    /// The input is one JSON array.
    #[error(
        "the input is a JSON array and not JSONL: write each of its elements on a line of its own, as `jq -c '.[]'` does"
    )]
    Array,
    /// Lines ask for more models than one batch may have.
    #[error("the lines name more than {limit} different models: split the input")]
    TooManyModels {
        /// The greatest number.
        limit: usize,
    },
}

/// Reads an input job by job, in memory bounded by the length limit of a line.
pub struct Reader<'a, R> {
    lines: Lines<R>,
    options: &'a LineOptions,
    next: u64,
    first_strange: Option<(u64, String)>,
    object_seen: bool,
}

impl<'a, R: BufRead> Reader<'a, R> {
    /// Reads `input` with the options of its batch, which are already validated.
    pub fn new(input: R, options: &'a LineOptions) -> Reader<'a, R> {
        Reader {
            lines: Lines::new(input, options.max_line_bytes),
            options,
            next: 0,
            first_strange: None,
            object_seen: options.format == InputFormat::Text,
        }
    }

    /// The next job, or `None` at the end or the limit.
    pub fn next_line(&mut self) -> Result<Option<Line>, ReadError> {
        if self.options.limit.is_some_and(|limit| self.next >= limit) {
            return self.end();
        }
        let Some((number, raw)) = self.lines.next_line()? else {
            return self.end();
        };
        let index = JobIndex(self.next);
        self.next += 1;
        let bytes = match raw {
            RawLine::Bytes(bytes) => bytes,
            RawLine::TooLong { bytes, content } => {
                let limit = self.options.max_line_bytes;
                let message = format!("the line has {bytes} bytes, over the limit of {limit}");
                return Ok(Some(Line {
                    index,
                    number,
                    text: String::new(),
                    parsed: ParsedLine::unreadable(LineError::new("line_too_long", message)),
                    content,
                }));
            }
        };
        if !self.object_seen {
            let start = bytes.trim_ascii_start();
            if start.first() == Some(&b'{') {
                self.object_seen = true;
            } else if self.first_strange.is_none() {
                let quoted = String::from_utf8_lossy(&start[..start.len().min(40)]).into_owned();
                self.first_strange = Some((number, quoted));
            }
        }
        let parsed = parse_line(bytes, self.options);
        let line = Line {
            index,
            number,
            content: parsed.content(bytes),
            text: storable(bytes),
            parsed,
        };
        if !self.object_seen && self.next >= PLAIN_TEXT_LINES {
            return Err(self.refusal());
        }
        Ok(Some(line))
    }

    /// The sha256 of the bytes read so far.
    pub fn digest(&self) -> [u8; 32] {
        self.lines.digest()
    }

    fn end(&self) -> Result<Option<Line>, ReadError> {
        if self.next == 0 {
            return Err(ReadError::Empty);
        }
        if !self.object_seen && self.first_strange.is_some() {
            return Err(self.refusal());
        }
        Ok(None)
    }

    fn refusal(&self) -> ReadError {
        match &self.first_strange {
            Some((_, start)) if start.starts_with('[') => ReadError::Array,
            Some((line, start)) => ReadError::PlainText {
                line: *line,
                start: start.clone(),
            },
            None => ReadError::Empty,
        }
    }
}

/// The line's text, where every store can keep it. A line with a NUL byte is an error anyway.
fn storable(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => text.to_owned(),
        _ => String::new(),
    }
}
