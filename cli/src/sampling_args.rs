//! The flags for how answers are drawn, shared by `run` and `infer`.

use clap::Args;
use serde_json::{Map, Value};

/// Defaults for every request; a line that sets the parameter itself wins.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Answers")]
pub struct SamplingArgs {
    /// Most tokens of an answer [default: 512]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_tokens: Option<u32>,

    /// 0 takes the likeliest token each time, higher draws more freely [default: 0; 1 for OpenAI-shaped lines]
    #[arg(long, value_name = "T", value_parser = parse_temperature)]
    pub temperature: Option<f64>,

    /// Draw from the likeliest tokens that together have this probability [default: 1]
    #[arg(long, value_name = "P", value_parser = parse_top_p)]
    pub top_p: Option<f64>,

    /// Draw from the K likeliest tokens; 0 is no limit [default: 0]
    #[arg(long, value_name = "K")]
    pub top_k: Option<u32>,

    /// For answers with a response_format: double --max-tokens up to N times, within the context, where the form is not
    /// complete by then [default: 0]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(..=20))]
    pub schema_retries: Option<u8>,

    /// The seed of all draws [default: 0]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
}

impl SamplingArgs {
    /// The parameters that were given, under their names in a request. The seed is not among them: it belongs to the
    /// whole batch.
    pub fn defaults(&self) -> Map<String, Value> {
        let given = [
            ("max_tokens", self.max_tokens.map(Value::from)),
            ("temperature", self.temperature.map(Value::from)),
            ("top_p", self.top_p.map(Value::from)),
            ("top_k", self.top_k.map(Value::from)),
            ("schema_retries", self.schema_retries.map(Value::from)),
        ];
        given
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?)))
            .collect()
    }
}

fn parse_temperature(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| "is no number".to_owned())?;
    if !(0.0..=2.0).contains(&value) {
        return Err("must be from 0 to 2".to_owned());
    }
    Ok(value)
}

fn parse_top_p(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| "is no number".to_owned())?;
    if !(value > 0.0 && value <= 1.0) {
        return Err("must be above 0 and at most 1".to_owned());
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_given_becomes_a_default() {
        let args = SamplingArgs {
            max_tokens: Some(8),
            seed: Some(1),
            ..SamplingArgs::default()
        };
        assert_eq!(
            Value::Object(args.defaults()),
            serde_json::json!({"max_tokens": 8})
        );
    }

    #[test]
    fn not_a_number_is_no_temperature() {
        assert!(parse_temperature("NaN").is_err());
        assert!(parse_temperature("inf").is_err());
        assert!(parse_temperature("-0.1").is_err());
        assert_eq!(parse_temperature("0.7"), Ok(0.7));
    }

    #[test]
    fn top_p_of_zero_would_leave_no_token() {
        assert!(parse_top_p("0").is_err());
        assert!(parse_top_p("NaN").is_err());
        assert_eq!(parse_top_p("1"), Ok(1.0));
    }
}
