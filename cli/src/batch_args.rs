//! The flags that say how prompts become requests, shared by `run` and `submit`.
//!
//! Whatever stands here decides the bytes of the results, or how they are written.

use clap::{Args, ValueEnum};

use rbee_queue::jsonl::{Setting, Shape};

use crate::byte_size;
use crate::sampling_args::SamplingArgs;

/// How each line of an input is read.
#[derive(Debug, Clone, Args)]
pub struct BatchArgs {
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

    /// Longest input line; a longer one is that line's error
    #[arg(long, value_name = "BYTES", default_value = "16M", value_parser = byte_size::parse_positive)]
    pub max_line: u64,

    /// `any` lets a resumed run go on with kernels that may give other bytes
    #[arg(long, value_enum, default_value_t)]
    pub numerics: NumericsChoice,

    /// Compute equal jobs each, even where one answer serves them all; the bytes are the same
    #[arg(long)]
    pub no_compute_once: bool,

    /// The day that chat templates see, so that the results do not depend on the calendar
    #[arg(long, value_name = "YYYY-MM-DD", default_value = "2024-07-26", value_parser = parse_date)]
    pub template_date: String,

    #[command(flatten)]
    pub sampling: SamplingArgs,
}

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
