//! From the flags of `rbee run` and `rbee submit` to what the batch is made with.

use rbee_queue::BatchSpec;
use rbee_queue::jsonl::{InputFormat, LineOptions};
use rbee_worker::model::memory::KvType;
use rbee_worker::model_files::DEFAULT_ALIAS;

use crate::batch_args::{BatchArgs, FormatChoice, NumericsChoice};
use crate::engine_args::KvChoice;
use crate::failure::Failure;

/// Everything that decides the batch's bytes beside its input and its models.
pub fn batch_spec(args: &BatchArgs, kv: KvChoice) -> Result<BatchSpec, Failure> {
    let options = line_options(args)?;
    options
        .validate()
        .map_err(|error| Failure::usage(error.to_string()))?;
    Ok(BatchSpec {
        options,
        seed: args.sampling.seed.unwrap_or(0),
        template_date: args.template_date.clone(),
        kv: KvType::from(kv).to_string(),
        any_numerics: args.numerics == NumericsChoice::Any,
        compute_each: args.no_compute_once,
    })
}

fn line_options(args: &BatchArgs) -> Result<LineOptions, Failure> {
    let mut options = LineOptions::new(args.model.as_deref().unwrap_or(DEFAULT_ALIAS));
    if args.format == Some(FormatChoice::Text) {
        options.format = InputFormat::Text;
    }
    options.raw = args.raw;
    options.system = args.system.clone();
    options.template = args.template.clone();
    options.defaults = args.sampling.defaults();
    for setting in args.set.iter().cloned() {
        setting.apply(&mut options.overrides);
    }
    options.limit = args.limit;
    options.max_line_bytes = usize::try_from(args.max_line)
        .map_err(|_| Failure::usage("--max-line is larger than any memory"))?;
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Cli, Command};
    use clap::Parser;
    use serde_json::{Value, json};

    fn spec(words: &[&str]) -> Result<BatchSpec, Failure> {
        let words = ["rbee", "run", "f"].iter().chain(words);
        match Cli::try_parse_from(words).unwrap().command {
            Command::Run(args) => batch_spec(&args.batch, args.engine.kv),
            other => panic!("parsed as {other:?}"),
        }
    }

    #[test]
    fn bare_command_has_the_documented_defaults() {
        let mut expected = BatchSpec::new(LineOptions::new("smollm2-135m"));
        expected.template_date = "2024-07-26".to_owned();
        assert_eq!(spec(&[]).unwrap(), expected);
    }

    #[test]
    fn flags_are_defaults_and_settings_are_overrides() {
        let spec = spec(&[
            "--max-tokens",
            "8",
            "--temperature",
            "0.7",
            "--seed",
            "3",
            "--set",
            "min_p=0.1",
        ])
        .unwrap();
        assert_eq!(
            Value::Object(spec.options.defaults),
            json!({"max_tokens": 8, "temperature": 0.7})
        );
        assert_eq!(Value::Object(spec.options.overrides), json!({"min_p": 0.1}));
        assert_eq!(spec.seed, 3);
    }

    #[test]
    fn what_changes_no_byte_is_not_in_the_spec() {
        let plain = spec(&[]).unwrap();
        let flags = [
            "-o",
            "elsewhere",
            "--slots",
            "3",
            "--threads",
            "2",
            "--memory",
            "1G",
            "--chunk-tokens",
            "7",
            "--fresh",
        ];
        assert_eq!(spec(&flags).unwrap(), plain);
        assert_ne!(spec(&["--kv", "f32"]).unwrap(), plain);
    }

    #[test]
    fn wrong_settings_are_wrong_usage() {
        for words in [
            ["--set", "temperature=9"],
            ["--set", "colour=red"],
            ["--template", "{{a"],
        ] {
            assert!(matches!(spec(&words), Err(Failure::Usage(_))), "{words:?}");
        }
    }
}
