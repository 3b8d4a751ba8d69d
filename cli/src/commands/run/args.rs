//! The flags of `rbee run`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use rbee_queue::jsonl::{Setting, Shape};

use crate::byte_size;
use crate::engine_args::EngineArgs;
use crate::sampling_args::SamplingArgs;

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

    /// `text`: each input line is one prompt. `openai`, `short`: all results in that form
    #[arg(long, value_enum)]
    pub format: Option<FormatChoice>,

    /// The model for lines that name none: an alias, hf:org/repo[@rev][::file] or a path
    /// [default: smollm2-135m]
    #[arg(short, long, value_name = "REF")]
    pub model: Option<String>,

    /// A system message for every chat line that has none
    #[arg(long, value_name = "TEXT")]
    pub system: Option<String>,

    /// Make each prompt from the line's fields, for example 'Summarise: {{body}}'
    #[arg(long, value_name = "TEXT")]
    pub template: Option<String>,

    /// A request parameter for all lines, over what they say, for example --set min_p=0.1; or a
    /// field of --template
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = Setting::parse)]
    pub set: Vec<Setting>,

    /// Continue prompts as they stand, without the model's chat template
    #[arg(long)]
    pub raw: bool,

    /// Only the first N prompts
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,

    /// Start anew, even if results of the same run are kept
    #[arg(long)]
    pub fresh: bool,

    /// Print a summary of the run as JSON: on stdout, or on stderr when the results go to stdout
    #[arg(long)]
    pub json: bool,

    /// Add times and speed to each result line (two runs then differ)
    #[arg(long)]
    pub with_stats: bool,

    /// Longest input line; a longer one is that line's error
    #[arg(long, value_name = "BYTES", default_value = "16M", value_parser = byte_size::parse_positive)]
    pub max_line: u64,

    /// `any` lets a resumed run go on with kernels that may give other bytes
    #[arg(long, value_enum, default_value_t)]
    pub numerics: NumericsChoice,

    /// The day that chat templates see, so that the results do not depend on the calendar
    #[arg(long, value_name = "YYYY-MM-DD", default_value = "2024-07-26", value_parser = parse_date)]
    pub template_date: String,

    #[command(flatten)]
    pub sampling: SamplingArgs,

    #[command(flatten)]
    pub engine: EngineArgs,
}

const EXAMPLES: &str = "\
Examples:
  rbee run prompts.jsonl                          results in prompts.results.jsonl
  rbee run prompts.jsonl -o answers.jsonl --model smollm2-135m
  cat prompts.jsonl | rbee run - > results.jsonl
  rbee run questions.txt --format text --system 'Answer in one word.'
  rbee run reviews.jsonl --template 'Positive or negative? {{review}}' --max-tokens 4
  rbee run prompts.jsonl --temperature 0.8 --seed 7 --errors failed.jsonl

The results file appears when the run is finished, whole or not at all. Ctrl-C keeps what is
finished; the same command resumes. A second Ctrl-C leaves at once.";

/// The form of input and output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FormatChoice {
    /// One prompt a line in, short results out.
    Text,
    /// OpenAI's batch output lines for every line.
    Openai,
    /// Short results for every line.
    Short,
}

impl FormatChoice {
    /// The shape of all results, if this names one.
    pub fn shape(self) -> Option<Shape> {
        match self {
            FormatChoice::Text => None,
            FormatChoice::Openai => Some(Shape::OpenAi),
            FormatChoice::Short => Some(Shape::Short),
        }
    }
}

/// How firmly a run holds on to the kernels that it began with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum NumericsChoice {
    /// All results come from kernels that give the same bytes.
    #[default]
    Same,
    /// Whatever computes; the promise of equal bytes is given up.
    Any,
}

/// A date as the chat template sees it.
fn parse_date(text: &str) -> Result<String, String> {
    let bad = || "is no date; write it as YYYY-MM-DD".to_owned();
    let parts: Vec<&str> = text.split('-').collect();
    let [year, month, day] = parts[..] else {
        return Err(bad());
    };
    let shape = year.len() == 4 && month.len() == 2 && day.len() == 2;
    if !shape
        || !text
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'-')
    {
        return Err(bad());
    }
    let number = |part: &str| part.parse::<u32>().map_err(|_| bad());
    let (year, month, day) = (number(year)?, number(month)?, number(day)?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return Err(bad()),
    };
    if !(1..=days).contains(&day) {
        return Err(bad());
    }
    Ok(text.to_owned())
}

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

    #[test]
    fn template_date_is_a_day_of_the_calendar() {
        assert!(parse_date("2024-02-29").is_ok());
        for text in [
            "2023-02-29",
            "2024-13-01",
            "2024-00-10",
            "2024-1-1",
            "24-01-01",
            "2024-04-31",
            "today",
            "+024-01-01",
        ] {
            assert!(parse_date(text).is_err(), "{text} was taken");
        }
    }
}
