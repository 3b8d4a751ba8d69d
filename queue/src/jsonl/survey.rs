//! A first look at an input before it is stored: how many jobs, which models, which digest.
//!
//! Owns nothing of the lines themselves: they are read again when the batch is made.

use super::options::LineOptions;
use super::reader::{ReadError, Reader};
use std::io::BufRead;

/// Greatest number of different models of one batch: each is resolved and loaded by itself.
const MAX_MODELS: usize = 256;

/// What an input holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Survey {
    /// The sha256 of the bytes read.
    pub digest: [u8; 32],
    /// Jobs, bad lines included.
    pub jobs: u64,
    /// Lines that are no request.
    pub bad_lines: u64,
    /// The models that lines ask for, as requested, in the order of their first line, with how
    /// many jobs each has.
    pub models: Vec<(String, u64)>,
}

/// Reads an input to its end. Memory is bounded as with [`Reader`].
pub fn survey(input: impl BufRead, options: &LineOptions) -> Result<Survey, ReadError> {
    let mut reader = Reader::new(input, options);
    let mut survey = Survey {
        digest: [0; 32],
        jobs: 0,
        bad_lines: 0,
        models: Vec::new(),
    };
    while let Some(line) = reader.next_line()? {
        survey.jobs += 1;
        match line.parsed.request {
            Ok(request) => survey.count(request.model)?,
            Err(_) => survey.bad_lines += 1,
        }
    }
    survey.digest = reader.digest();
    Ok(survey)
}

impl Survey {
    fn count(&mut self, model: String) -> Result<(), ReadError> {
        if let Some((_, jobs)) = self.models.iter_mut().find(|(name, _)| *name == model) {
            *jobs += 1;
            return Ok(());
        }
        if self.models.len() == MAX_MODELS {
            return Err(ReadError::TooManyModels { limit: MAX_MODELS });
        }
        self.models.push((model, 1));
        Ok(())
    }
}
