//! `rbee bench`: how fast a model runs on this machine, at which batch sizes, in how much memory.
//!
//! Owns what is asked and how it is told; `measure` does the measuring.

mod measure;
mod workload;

use std::time::Duration;

use clap::Args;
use rbee_queue::ModelSha;
use rbee_worker::engine::step::BLOCK_TOKENS;
use rbee_worker::kernels::Kernel;
use rbee_worker::model::memory::MemoryPlan;
use rbee_worker::model_files::DEFAULT_ALIAS;
use serde_json::{Value, json};

use crate::commands::Context;
use crate::engine_args::EngineArgs;
use crate::engine_host::{self, Source};
use crate::exit_code::ExitCode;
use crate::failure::{Failure, Outcome};
use crate::table;
use measure::{Bench, Rates};

/// Batch sizes that are measured if none is asked for.
const BATCH_SIZES: [u16; 7] = [1, 2, 4, 8, 16, 32, 64];

/// Measure how fast a model runs on this machine
///
/// For each batch size: the tokens a second of prompts alone, of answers alone, and of both mixed
/// as a long file of prompts mixes them. Before that the memory that the model takes, and how many
/// sequences fit. Nothing is stored.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Examples:
  rbee bench                                  the default model, batches of 1 to 64
  rbee bench ./model.gguf --batch 1,32
  rbee bench hf:org/repo --memory 8G --prompt-tokens 1000
  rbee bench --threads 4 --json | jq '.batches[] | [.size, .mixed_tokens_per_s]'

The figures are those of this moment: what else the machine does is in them.")]
pub struct BenchArgs {
    /// An alias, hf:org/repo[@rev][::file] or a path
    #[arg(value_name = "MODEL", default_value = DEFAULT_ALIAS)]
    pub model: String,

    /// Sequences computed at the same time, in turn
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_values_t = BATCH_SIZES,
          value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub batch: Vec<u16>,

    /// Tokens of a prompt
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub prompt_tokens: u32,

    /// Tokens of an answer
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(2..=65_536))]
    pub new_tokens: u32,

    /// Print one JSON object
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub engine: EngineArgs,
}

/// What is known before anything is measured.
struct Subject {
    model: String,
    sha: ModelSha,
    architecture: String,
    kernel: String,
    threads: usize,
    memory: MemoryPlan,
    /// Sequences of the asked length whose keys and values fit.
    fitting: usize,
}

/// Loads the model, measures, prints.
pub async fn run(context: &Context, mut args: BenchArgs) -> Outcome {
    let most = args.batch.iter().copied().max().unwrap_or(1);
    // The places of the largest batch; fewer would make its figures those of a smaller one.
    let slots = args.engine.machine.slots.get_or_insert(most);
    if *slots < most {
        return Err(Failure::usage(format!(
            "a batch of {most} does not run in --slots {slots}"
        )));
    }
    let work = async {
        let source = Source::resolve(context, &args.model, &args.engine).await?;
        let sha = source.identity();
        let mut bench = Bench::load(source, &args, &context.talk).await?;
        let subject = subject(&args, sha, &bench);
        let mut measured = Vec::new();
        for size in &args.batch {
            context.talk.note(&format!("measuring batches of {size}"));
            measured.push((*size, bench.rates(usize::from(*size)).await?));
        }
        bench.stop().await;
        print(&args, &subject, &measured)?;
        Ok(ExitCode::Success)
    };
    context.interrupt.or("interrupted", work).await
}

fn subject(args: &BenchArgs, sha: ModelSha, bench: &Bench) -> Subject {
    let kernel = args.engine.machine.kernel.unwrap_or_else(Kernel::detect);
    let tokens = (args.prompt_tokens + args.new_tokens) as usize;
    Subject {
        model: args.model.clone(),
        sha,
        architecture: bench.architecture.clone(),
        kernel: kernel.to_string(),
        threads: engine_host::threads(&args.engine),
        memory: bench.memory,
        fitting: bench.memory.kv_blocks / tokens.div_ceil(BLOCK_TOKENS),
    }
}

fn print(args: &BenchArgs, subject: &Subject, measured: &[(u16, Rates)]) -> Result<(), Failure> {
    if args.json {
        return table::print([json_of(args, subject, measured).to_string()]);
    }
    let Subject {
        model,
        architecture,
        kernel,
        threads,
        memory,
        fitting,
        ..
    } = subject;
    let header = [
        "BATCH",
        "PROMPT T/S",
        "ANSWER T/S",
        "MIXED T/S",
        "MEMORY MB",
    ];
    let rows: Vec<Vec<String>> = measured
        .iter()
        .map(|(size, rates)| {
            let rate = |rate: f64| format!("{rate:.1}");
            let memory = rates
                .peak_bytes
                .map_or("?".to_owned(), |bytes| format!("{}", bytes / 1_000_000));
            vec![
                size.to_string(),
                rate(rates.prompt),
                rate(rates.answer),
                rate(rates.mixed),
                memory,
            ]
        })
        .collect();
    let about = [
        format!("{model} ({architecture}): {kernel}, {threads} threads"),
        format!("plan: {memory}"),
        format!(
            "fits: {fitting} sequences of {} + {} tokens at once",
            args.prompt_tokens, args.new_tokens
        ),
        String::new(),
    ];
    table::print(about.into_iter().chain(table::lines(&header, &rows)))
}

/// Tokens a second with a tenth's precision.
fn tenths(rate: f64) -> f64 {
    (rate * 10.0).round() / 10.0
}

fn json_of(args: &BenchArgs, subject: &Subject, measured: &[(u16, Rates)]) -> Value {
    let batches = measured.iter().map(|(size, rates)| {
        json!({
            "size": size,
            "prompt_tokens_per_s": tenths(rates.prompt),
            "answer_tokens_per_s": tenths(rates.answer),
            "mixed_tokens_per_s": tenths(rates.mixed),
            "seconds": (rates.took.max(Duration::from_millis(1)).as_secs_f64() * 1000.0).round() / 1000.0,
            "peak_bytes": rates.peak_bytes,
        })
    });
    let memory = subject.memory;
    json!({
        "model": subject.model,
        "sha256": subject.sha.to_string(),
        "architecture": subject.architecture,
        "kernel": subject.kernel,
        "threads": subject.threads,
        "prompt_tokens": args.prompt_tokens,
        "new_tokens": args.new_tokens,
        "memory": {
            "weights_bytes": memory.weights,
            "kv_bytes": memory.kv,
            "scratch_bytes": memory.scratch,
            "total_bytes": memory.total(),
            "budget_bytes": memory.budget,
            "sequences_that_fit": subject.fitting,
        },
        "batches": batches.collect::<Vec<Value>>(),
    })
}
