//! `rbee infer`: one prompt, one answer, on the terminal as it comes.

use clap::Args;

use crate::commands::Context;
use crate::engine_args::EngineArgs;
use crate::failure::Outcome;
use crate::sampling_args::SamplingArgs;

/// Answer one prompt, as it is computed
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Examples:
  rbee infer --prompt 'Why is the sky blue?'
  rbee infer --model ./model.gguf --prompt 'Tell me a story.' --temperature 0.8 --seed 3
  git diff | rbee infer --system 'Explain this change.' --prompt -")]
pub struct InferArgs {
    /// The prompt; `-` reads it from stdin
    #[arg(short, long, value_name = "TEXT|-")]
    pub prompt: String,

    /// An alias, hf:org/repo[@rev][::file] or a path
    #[arg(short, long, value_name = "REF", default_value = "smollm2-135m")]
    pub model: String,

    /// A system message
    #[arg(long, value_name = "TEXT", conflicts_with = "raw")]
    pub system: Option<String>,

    /// Continue the prompt as it stands, without the model's chat template
    #[arg(long)]
    pub raw: bool,

    /// Print the finished answer as one JSON object instead of its text as it comes
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub sampling: SamplingArgs,

    #[command(flatten)]
    pub engine: EngineArgs,
}

/// Not wired in this build.
pub async fn run(_context: &Context, _args: InferArgs) -> Outcome {
    Err(anyhow::anyhow!("infer is not wired to the store in this build").into())
}
