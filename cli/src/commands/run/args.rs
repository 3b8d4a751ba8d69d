//! The flags of `rbee run`.

use std::path::PathBuf;

use clap::Args;

use crate::batch_args::BatchArgs;
use crate::engine_args::EngineArgs;
use crate::living::LivingArgs;
use crate::traces_args::TracesArgs;

/// Answer a file of prompts
///
/// FILE is JSONL: one request a line, either short ({"prompt": "…"} or {"messages": […]}, with any
/// parameter beside it) or as OpenAI's batch files have it. The answers come in the order of the
/// lines. A line that cannot be answered gets an error in its place and the others run.
///
/// Every finished answer is kept at once. After Ctrl-C, a crash or a power cut the same command
/// goes on where it stopped; once all is done, the same command writes the same file again
/// without computing anything. The same command means: same prompts, model, parameters and seed,
/// wherever the output goes and however many slots and threads compute.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct RunArgs {
    /// The prompts; `-` is stdin
    #[arg(value_name = "FILE|-")]
    pub input: PathBuf,

    /// Where the results go; `-` is stdout [default: for prompts.jsonl prompts.results.jsonl
    /// beside it; stdout when the prompts come from stdin]
    #[arg(short, long, value_name = "FILE|-")]
    pub output: Option<PathBuf>,

    /// Write failed lines here instead of in their place among the results
    #[arg(long, value_name = "FILE")]
    pub errors: Option<PathBuf>,

    /// Compute N jobs first, spread over the file, show their answers, and the rest only on consent
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub pilot: Option<u64>,

    /// Consent to the rest behind a pilot
    #[arg(long, requires = "pilot")]
    pub yes: bool,

    /// Start anew, even if results of the same run are kept
    #[arg(long)]
    pub fresh: bool,

    /// Print a summary of the run as JSON: on stdout, or on stderr when the results go to stdout
    #[arg(long)]
    pub json: bool,

    /// Add times and speed to each result line (two runs then differ)
    #[arg(long)]
    pub with_stats: bool,

    #[command(flatten)]
    pub batch: BatchArgs,

    #[command(flatten)]
    pub living: LivingArgs,

    #[command(flatten)]
    pub engine: EngineArgs,

    #[command(flatten)]
    pub traces: TracesArgs,
}

const EXAMPLES: &str = "\
Examples:
  rbee run prompts.jsonl                          results in prompts.results.jsonl
  rbee run prompts.jsonl -o answers.jsonl --model smollm2-135m
  cat prompts.jsonl | rbee run - > results.jsonl
  rbee run questions.txt --format text --system 'Answer in one word.'
  rbee run reviews.jsonl --template 'Positive or negative? {{review}}' --max-tokens 4
  rbee run prompts.jsonl --temperature 0.8 --seed 7 --errors failed.jsonl
  rbee run prompts.jsonl --pilot 20               twenty answers to look at before the rest is computed

The results file appears when the run is finished, whole or not at all. Ctrl-C keeps what is
finished; the same command resumes. A second Ctrl-C leaves at once.";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Cli, Command};
    use clap::Parser;
    use serde_json::json;

    fn parse(words: &[&str]) -> Result<RunArgs, clap::Error> {
        let words = ["rbee", "run"].iter().chain(words);
        match Cli::try_parse_from(words)?.command {
            Command::Run(args) => Ok(*args),
            other => panic!("parsed as {other:?}"),
        }
    }

    #[test]
    fn stdin_and_stdout_are_dashes() {
        let args = parse(&["-", "-o", "-"]).unwrap();
        assert_eq!((args.input, args.output), ("-".into(), Some("-".into())));
    }

    #[test]
    fn values_of_set_are_json_where_they_can_be() {
        let args = parse(&[
            "f",
            "--set",
            "min_p=0.1",
            "--set",
            "stop=[\"a\"]",
            "--set",
            "user=a=b",
        ])
        .unwrap();
        let values: Vec<_> = args
            .batch
            .set
            .into_iter()
            .map(|setting| (setting.name, setting.value))
            .collect();
        let expected = [
            ("min_p", json!(0.1)),
            ("stop", json!(["a"])),
            ("user", json!("a=b")),
        ];
        assert_eq!(
            values,
            expected.map(|(name, value)| (name.to_owned(), value))
        );
        assert!(parse(&["f", "--set", "min_p"]).is_err());
        assert!(parse(&["f", "--set", "=1"]).is_err());
    }

    #[test]
    fn impossible_numbers_are_refused() {
        for words in [
            ["--max-tokens", "0"],
            ["--max-tokens", "-1"],
            ["--slots", "0"],
            ["--threads", "0"],
            ["--limit", "0"],
            ["--max-line", "0"],
            ["--temperature", "nan"],
            ["--top-p", "1.5"],
            ["--memory", "lots"],
            ["--format", "csv"],
        ] {
            let words = ["f", words[0], words[1]];
            assert!(parse(&words).is_err(), "{words:?} was taken");
        }
    }
}
