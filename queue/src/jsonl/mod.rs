//! The JSONL formats: input lines in, result lines out, and the file that holds them.
//!
//! Owns reading (bounded lines, two line shapes, batch-wide options), rendering of stored records,
//! and the output file that is absent or complete. Knows nothing of stores and engines.

mod file;
mod lines;
mod messages;
mod options;
mod params;
mod parse;
mod reader;
mod render;
mod render_openai;
mod survey;
mod template;

pub use file::{OutputError, OutputFile, is_same_file};
pub use lines::{DEFAULT_MAX_LINE_BYTES, Lines, RawLine};
pub use options::{InputFormat, LineOptions, OptionsError, Setting};
pub use parse::{CustomId, LineError, ParsedLine, Shape, parse_line};
pub use reader::{Line, ReadError, Reader};
pub use render::{Answer, Rendered, Renderer, Rendering};
pub use survey::{Survey, survey};
