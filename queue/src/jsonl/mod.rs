//! The JSONL formats: input lines in, result lines out.
//!
//! Owns reading (bounded lines, two line shapes, batch-wide options) and the rendering of stored
//! records. Knows nothing of stores, engines and output files.

mod embeddings;
mod line_error;
mod lines;
mod messages;
mod options;
mod params;
mod parse;
mod parse_openai;
mod parse_short;
mod reader;
mod render;
mod render_openai;
mod response_format;
mod survey;
mod template;
mod tools;

pub use line_error::LineError;
pub use lines::{DEFAULT_MAX_LINE_BYTES, Lines, RawLine};
pub use options::{InputFormat, LineOptions, OptionsError, Setting};
pub use parse::{CustomId, ParsedLine, Shape, parse_json, parse_line};
pub use reader::{Line, ReadError, Reader};
pub use render::{Answer, Rendered, Renderer, Rendering};
pub use survey::{Survey, survey};

#[cfg(test)]
mod reader_properties;
#[cfg(test)]
mod reader_tests;
#[cfg(test)]
mod render_tests;
