//! Other machines, over the user's own ssh: its program, its configuration, keys and known hosts.
//!
//! Owns the connection and what is found out about a machine. What runs there is `rbee` itself, but for the few lines of
//! shell that look around and take the program before it is there.

mod far;
mod fit;
mod ssh;

use clap::Args;

pub use far::{Far, sha256_hex};
pub use fit::Program;
pub use ssh::{Host, Input, quote};

/// How other machines are reached.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Remote machines")]
pub struct RemoteArgs {
    /// Where rbee lies on those machines, if it is not on PATH there [default: ~/.local/bin/rbee, where deploy puts it]
    #[arg(long, global = true, value_name = "PATH")]
    pub binary_path: Option<String>,

    /// A word that ssh is given before the host, for example -F and then a file; may be given again and again
    #[arg(long, global = true, value_name = "WORD", allow_hyphen_values = true)]
    pub ssh_option: Vec<String>,
}
