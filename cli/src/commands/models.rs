//! `rbee models`: the model files on this machine.

use clap::{Args, Subcommand};

use crate::commands::Context;
use crate::failure::Outcome;

/// List, fetch, check and remove model files
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Examples:
  rbee models list
  rbee models pull smollm2-135m
  rbee models pull hf:org/repo@main::model.Q4_K_M.gguf
  rbee models show ./model.gguf
  rbee models verify smollm2-135m

References to models: an alias of the list, hf:org/repo[@revision][::file], file:/path, or a path.
HF_TOKEN and HF_ENDPOINT are honoured.")]
pub struct ModelsArgs {
    #[command(subcommand)]
    pub verb: Verb,
}

/// What to do with model files.
#[derive(Debug, Clone, Subcommand)]
pub enum Verb {
    /// The models on this machine and the aliases that can be pulled
    List {
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Fetch a model; an interrupted download goes on where it stopped
    Pull(Named),
    /// Where a model's files are, and what their metadata says
    Show(Named),
    /// Read a model's files again and compare them with their sha256
    Verify(Named),
    /// Delete a model's files from this machine
    Remove(Named),
}

/// A model, by its reference.
#[derive(Debug, Clone, Args)]
pub struct Named {
    /// An alias, hf:org/repo[@rev][::file] or a path
    #[arg(value_name = "REF")]
    pub model: String,

    /// One JSON object
    #[arg(long)]
    pub json: bool,
}

/// Not wired in this build.
pub async fn run(_context: &Context, _args: ModelsArgs) -> Outcome {
    Err(anyhow::anyhow!("models is not wired to the store in this build").into())
}
