//! The flags for the engine that computes here, shared by `run`, `infer` and `verify`.

use clap::{Args, ValueEnum};
use rbee_worker::kernels::Kernel;
use rbee_worker::model::device::ComputeDevice;
use rbee_worker::model::memory::KvType;

use crate::byte_size;

/// Which engine answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum EngineKind {
    /// The real model.
    #[default]
    Model,
    /// Made-up text that derives from each job's content, without any model: for trying out and testing.
    Stub,
}

/// How keys and values are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum KvChoice {
    /// Two bytes a number.
    #[default]
    F16,
    /// Four bytes a number.
    F32,
}

impl From<KvChoice> for KvType {
    fn from(choice: KvChoice) -> KvType {
        match choice {
            KvChoice::F16 => KvType::F16,
            KvChoice::F32 => KvType::F32,
        }
    }
}

/// What is computed, and how this machine does it.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Engine")]
pub struct EngineArgs {
    #[command(flatten)]
    pub machine: MachineArgs,

    /// Type of the stored keys and values; f32 takes twice the memory and may give other bytes
    #[arg(long, value_enum, default_value_t)]
    pub kv: KvChoice,

    /// `stub` makes text up from each job's content, without a model
    #[arg(long, value_enum, default_value_t)]
    pub engine: EngineKind,

    /// Microseconds that the stub engine takes for a token
    #[arg(long, value_name = "US", default_value_t = 0)]
    pub stub_token_us: u64,
}

/// How this machine computes. Nothing here but a GPU changes a byte of the results.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Engine")]
pub struct MachineArgs {
    /// Sequences computed at the same time [default: 32]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub slots: Option<u16>,

    /// Threads that compute [default: the cores this process may use]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,

    /// Where models are computed: `cpu`, or `cuda:0` with a program that was built for it, which may give other bytes
    #[arg(long, value_name = "DEVICE", default_value_t)]
    pub device: ComputeDevice,

    /// Memory for weights, KV cache and scratch, for example 4G [default: what is free]
    #[arg(long, value_name = "BYTES", value_parser = byte_size::parse_positive)]
    pub memory: Option<u64>,

    /// Prompt tokens a step; 0 is by measured speed
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub chunk_tokens: u32,

    /// Compute every prompt whole, even if another one begins like it; the bytes are the same
    #[arg(long)]
    pub no_prefix_sharing: bool,

    /// Compute with these kernels instead of the fastest this machine has; the bytes are the same
    #[arg(long, value_name = "NAME", value_parser = parse_kernel)]
    pub kernel: Option<Kernel>,
}

/// A kernel by name, if this machine can run it.
fn parse_kernel(name: &str) -> Result<Kernel, String> {
    let kernel: Kernel = name.parse()?;
    if !Kernel::available().contains(&kernel) {
        let here: Vec<String> = Kernel::available().iter().map(Kernel::to_string).collect();
        return Err(format!(
            "this machine cannot run it; it has {}",
            here.join(", ")
        ));
    }
    Ok(kernel)
}
