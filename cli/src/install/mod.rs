//! Installing: which files belong on a machine, where, and how they get there and go away again.
//!
//! Owns the files. Starting what was installed is `service`; the command is `commands/install`.

mod files;
mod layout;
mod plist;
mod settings;
mod unit;
mod write;

pub use files::{completions, files, pages};
pub use layout::{Layout, Manager, Scope};
pub use plist::label;
pub use settings::{Settings, Written, is_untouched, write_template};
pub use unit::Unit;
pub use write::{check_writable, remove, write_file};
