//! A checked cursor over the bytes of a header: every read either fits or is an error, and lengths are compared with
//! what is left before anything is allocated.

use super::error::Problem;

pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    position: usize,
    /// What is being read, for the message about a file that ends too early.
    pub what: &'static str,
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader {
            bytes,
            position: 0,
            what: "header",
        }
    }

    pub fn position(&self) -> usize {
        self.position
    }

    fn left(&self) -> usize {
        self.bytes.len() - self.position
    }

    pub fn take(&mut self, len: u64) -> Result<&'a [u8], Problem> {
        let len = usize::try_from(len)
            .ok()
            .filter(|len| *len <= self.left())
            .ok_or(Problem::Truncated { what: self.what })?;
        let taken = &self.bytes[self.position..self.position + len];
        self.position += len;
        Ok(taken)
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Problem> {
        let taken = self.take(N as u64)?;
        Ok(taken.try_into().expect("take returned exactly N bytes"))
    }

    pub fn u32(&mut self) -> Result<u32, Problem> {
        self.array().map(u32::from_le_bytes)
    }

    pub fn u64(&mut self) -> Result<u64, Problem> {
        self.array().map(u64::from_le_bytes)
    }

    /// The bytes of a string: a length of 64 bits, then that many bytes.
    pub fn string_bytes(&mut self) -> Result<&'a [u8], Problem> {
        let len = self.u64()?;
        self.take(len)
    }

    /// A name (key or tensor): UTF-8 and at most `limit` bytes.
    pub fn name(&mut self, what: &'static str, limit: u64) -> Result<String, Problem> {
        let bytes = self.string_bytes()?;
        if bytes.len() as u64 > limit {
            return Err(Problem::Limit {
                what,
                value: bytes.len() as u64,
                limit,
            });
        }
        std::str::from_utf8(bytes)
            .map(str::to_owned)
            .map_err(|_| Problem::NotUtf8 { what })
    }

    /// Fails when `count` items of at least `min_bytes` each cannot be in what is left: a claim of a billion strings
    /// must not allocate.
    pub fn check_count(&self, count: u64, min_bytes: u64) -> Result<usize, Problem> {
        count
            .checked_mul(min_bytes)
            .filter(|bytes| *bytes <= self.left() as u64)
            .and_then(|_| usize::try_from(count).ok())
            .ok_or(Problem::Truncated { what: self.what })
    }
}
