//! Physical lines of an input, each bounded in memory.
//!
//! Owns line ends, the byte order mark, blank lines, line numbers and the input's digest. Owns no
//! JSON.

use crate::ids::ContentHash;
use sha2::{Digest, Sha256};
use std::io::{self, BufRead};

/// Default greatest length of an input line: longer ones are an error of that line.
pub const DEFAULT_MAX_LINE_BYTES: usize = 16 * 1024 * 1024;

/// Capacity that the line buffer may keep between lines, so that one long line does not hold
/// memory for the rest of the input.
const KEPT_BUFFER_BYTES: usize = 1024 * 1024;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// One non-blank line.
#[derive(Debug, PartialEq, Eq)]
pub enum RawLine<'a> {
    /// The line's bytes without its end.
    Bytes(&'a [u8]),
    /// A line over the limit. It was read and dropped.
    TooLong {
        /// Its length in bytes.
        bytes: u64,
        /// A digest of its bytes.
        content: ContentHash,
    },
}

/// Reads an input line by line. Never holds more than one line of at most `max_line_bytes`.
pub struct Lines<R> {
    input: R,
    max_line_bytes: usize,
    buffer: Vec<u8>,
    number: u64,
    digest: Sha256,
}

impl<R: BufRead> Lines<R> {
    /// Reads `input`; lines over `max_line_bytes` are reported without being kept.
    pub fn new(input: R, max_line_bytes: usize) -> Lines<R> {
        Lines {
            input,
            max_line_bytes,
            buffer: Vec::new(),
            number: 0,
            digest: Sha256::new(),
        }
    }

    /// The next non-blank line with its 1-based physical number, or `None` at the end.
    pub fn next_line(&mut self) -> io::Result<Option<(u64, RawLine<'_>)>> {
        loop {
            self.shrink();
            let Some(length) = self.fill_line()? else {
                return Ok(None);
            };
            self.number += 1;
            if let LineLength::Over { bytes, content } = length {
                return Ok(Some((self.number, RawLine::TooLong { bytes, content })));
            }
            if !is_blank(self.trimmed(self.number)) {
                let line = self.trimmed(self.number);
                return Ok(Some((self.number, RawLine::Bytes(line))));
            }
        }
    }

    /// The sha256 of all bytes read so far: of the whole input once the end was reached.
    pub fn digest(&self) -> [u8; 32] {
        self.digest.clone().finalize().into()
    }

    fn trimmed(&self, number: u64) -> &[u8] {
        let mut line = self.buffer.as_slice();
        if number == 1 {
            line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line);
        }
        line = line.strip_suffix(b"\n").unwrap_or(line);
        line.strip_suffix(b"\r").unwrap_or(line)
    }

    fn shrink(&mut self) {
        self.buffer.clear();
        self.buffer.shrink_to(KEPT_BUFFER_BYTES);
    }

    /// Reads up to and with the next line feed. `None`: nothing was left.
    fn fill_line(&mut self) -> io::Result<Option<LineLength>> {
        // The line end and a byte order mark do not count toward the limit.
        let keep = self.max_line_bytes.saturating_add(5);
        let mut over: Option<(Sha256, u64)> = None;
        loop {
            let available = match self.input.fill_buf() {
                Ok(available) => available,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let end = available.iter().position(|byte| *byte == b'\n');
            let taken = end.map_or(available.len(), |at| at + 1);
            let piece = &available[..taken];
            self.digest.update(piece);
            if let Some((hash, bytes)) = &mut over {
                hash.update(piece);
                *bytes += taken as u64;
            } else if self.buffer.len() + taken > keep {
                let mut hash = ContentHash::hasher_of_bad_line();
                hash.update(&self.buffer);
                hash.update(piece);
                over = Some((hash, (self.buffer.len() + taken) as u64));
                self.buffer = Vec::new();
            } else {
                self.buffer.extend_from_slice(piece);
            }
            self.input.consume(taken);
            if end.is_some() || taken == 0 {
                break;
            }
        }
        if let Some((hash, bytes)) = over {
            let content = ContentHash(hash.finalize().into());
            return Ok(Some(LineLength::Over { bytes, content }));
        }
        if self.buffer.is_empty() {
            return Ok(None);
        }
        if self.buffer.len() > self.max_line_bytes {
            let line = self.trimmed(self.number + 1);
            if line.len() > self.max_line_bytes {
                let (bytes, content) = (line.len() as u64, ContentHash::of_bad_line(line));
                return Ok(Some(LineLength::Over { bytes, content }));
            }
        }
        Ok(Some(LineLength::Within))
    }
}

enum LineLength {
    Within,
    Over { bytes: u64, content: ContentHash },
}

fn is_blank(line: &[u8]) -> bool {
    line.iter().all(|byte| matches!(byte, b' ' | b'\t' | b'\r'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::BufReader;

    fn lines(input: &[u8], max: usize) -> Vec<(u64, Result<Vec<u8>, u64>)> {
        // A tiny buffer makes every line arrive in pieces.
        let mut lines = Lines::new(BufReader::with_capacity(3, input), max);
        let mut found = Vec::new();
        while let Some((number, line)) = lines.next_line().unwrap() {
            found.push((
                number,
                match line {
                    RawLine::Bytes(bytes) => Ok(bytes.to_vec()),
                    RawLine::TooLong { bytes, .. } => Err(bytes),
                },
            ));
        }
        found
    }

    #[test]
    fn blank_lines_crlf_bom_and_a_missing_last_newline_are_fine() {
        let found = lines(b"\xef\xbb\xbfa\r\n\r\n \t\nb\n\nc", 100);
        assert_eq!(
            found,
            vec![
                (1, Ok(b"a".to_vec())),
                (4, Ok(b"b".to_vec())),
                (6, Ok(b"c".to_vec()))
            ]
        );
    }

    #[test]
    fn line_over_the_limit_is_reported_and_the_next_one_read() {
        let found = lines(b"0123456789\nab\n01234567890\n0123456789", 10);
        assert_eq!(found[0], (1, Ok(b"0123456789".to_vec())));
        assert_eq!(found[1], (2, Ok(b"ab".to_vec())));
        assert_eq!(found[2], (3, Err(11)));
        assert_eq!(found[3], (4, Ok(b"0123456789".to_vec())));
    }

    #[test]
    fn hundred_megabyte_line_is_not_buffered() {
        use std::io::Read;
        let long = std::io::repeat(b'x').take(100 << 20);
        let input = long.chain(&b"\nnext\n"[..]);
        let mut lines = Lines::new(BufReader::new(input), 1 << 20);
        let (number, line) = lines.next_line().unwrap().unwrap();
        assert!(matches!(line, RawLine::TooLong { bytes, .. } if bytes > 100 << 20));
        assert_eq!(number, 1);
        assert!(lines.buffer.capacity() <= (1 << 20) + 64);
        assert_eq!(
            lines.next_line().unwrap().unwrap(),
            (2, RawLine::Bytes(b"next"))
        );
    }

    #[test]
    fn digest_is_the_sha256_of_the_input() {
        let input = b"a\n\nb";
        let mut lines = Lines::new(&input[..], 10);
        while lines.next_line().unwrap().is_some() {}
        assert_eq!(
            lines.digest(),
            <[u8; 32]>::from(Sha256::digest(input.as_slice()))
        );
    }
}
