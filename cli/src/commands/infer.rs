//! `rbee infer`: one prompt, one answer, on the terminal as it comes. With a server it is the server's nodes that answer.

mod remote;

use std::io::{Read, Write};

use anyhow::Context as _;
use clap::Args;
use rbee_queue::jsonl::{Answer, LineOptions, ParsedLine, Renderer, Rendering, Shape, parse_line};
use rbee_queue::{JobIndex, JobKey, JobStats, Outcome as JobOutcome, ResultRecord};
use rbee_worker::engine::{EngineEvent, EngineJob, Priority};
use rbee_worker::model_files::DEFAULT_ALIAS;

use crate::commands::Context;
use crate::engine_args::EngineArgs;
use crate::engine_host::{EngineHost, Source};
use crate::exit_code::ExitCode;
use crate::failure::{Failure, Outcome, stdout_failure};
use crate::moment;
use crate::output::DASH;
use crate::sampling_args::SamplingArgs;

/// The one job's number in its engine.
const JOB: u64 = 0;

/// Answer one prompt, as it is computed
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Examples:
  rbee infer --prompt 'Why is the sky blue?'
  rbee infer --model ./model.gguf --prompt 'Tell me a story.' --temperature 0.8 --seed 3
  rbee infer --node office --prompt 'Hello'          that node of the server answers
  git diff | rbee infer --system 'Explain this change.' --prompt -")]
pub struct InferArgs {
    /// The prompt; `-` reads it from stdin
    #[arg(short, long, value_name = "TEXT|-")]
    pub prompt: String,

    /// An alias, hf:org/repo[@rev][::file] or a path
    #[arg(short, long, value_name = "REF", default_value = DEFAULT_ALIAS)]
    pub model: String,

    /// Have this node of the server answer; without RBEE_SERVER the server on this machine
    #[arg(long, value_name = "NAME")]
    pub node: Option<String>,

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

/// The prompt as the one line of a file that is never stored.
struct Question {
    line: String,
    options: LineOptions,
    parsed: ParsedLine,
    key: JobKey,
    seed: u64,
}

impl Question {
    fn new(args: &InferArgs) -> Result<Question, Failure> {
        let mut options = LineOptions::new(&args.model);
        options.raw = args.raw;
        options.system = args.system.clone();
        options.defaults = args.sampling.defaults();
        options
            .validate()
            .map_err(|error| Failure::usage(error.to_string()))?;
        let line = serde_json::json!({"prompt": prompt_text(&args.prompt)?}).to_string();
        let parsed = parse_line(line.as_bytes(), &options);
        let key = JobKey::new(&parsed.content(line.as_bytes()), 0);
        Ok(Question {
            line,
            options,
            parsed,
            key,
            seed: args.sampling.seed.unwrap_or(0),
        })
    }

    fn job(&self, stream: bool) -> Result<EngineJob, Failure> {
        let request = self
            .parsed
            .request
            .clone()
            .map_err(|error| Failure::usage(error.to_string()))?;
        Ok(EngineJob {
            id: JOB,
            request,
            job_key: self.key,
            batch_seed: self.seed,
            template_date: moment::today(),
            priority: Priority::Interactive,
            stream,
        })
    }

    /// The result line that `rbee run` would write.
    fn result_line(&self, record: &ResultRecord, stats: &JobStats, host: &EngineHost) -> String {
        let rendering = Rendering {
            shape: Some(Shape::Short),
            with_stats: true,
            ..Rendering::default()
        };
        let renderer = Renderer::new(self.options.clone(), self.seed, Shape::Short, rendering);
        let answer = Answer {
            index: JobIndex(0),
            number: 1,
            text: &self.line,
            key: self.key,
            model: Some(host.model),
            numerics: Some(&host.numerics),
            record,
            stats: Some(stats),
            finished_at_s: moment::now_micros() / 1_000_000,
        };
        renderer.render(&answer).line
    }
}

fn prompt_text(given: &str) -> Result<String, Failure> {
    if given != DASH {
        return Ok(given.to_owned());
    }
    let mut text = String::new();
    std::io::stdin()
        .lock()
        .read_to_string(&mut text)
        .context("cannot read the prompt from stdin")?;
    Ok(text)
}

/// Streams the answer to stdout.
pub async fn run(context: &Context, mut args: InferArgs) -> Outcome {
    if args.node.is_some() || context.server().is_some() {
        return remote::run(context, &args).await;
    }
    let question = Question::new(&args)?;
    let job = question.job(!args.json)?;
    args.engine.machine.slots.get_or_insert(1);
    let work = async {
        let source = Source::resolve(context, &args.model, &args.engine).await?;
        let mut host = EngineHost::start(source, &args.engine, &context.talk).await?;
        host.engine.submit(job)?;
        let (record, stats) = stream_answer(&mut host).await?;
        if args.json {
            let line = question.result_line(&record, &stats, &host);
            crate::table::print([line])?;
        }
        host.stop().await;
        let completed = match record.outcome {
            JobOutcome::Completed(completed) => completed,
            JobOutcome::Failed(error) => {
                return Err(anyhow::anyhow!("{}: {}", error.code, error.message).into());
            }
        };
        if context.talk.is_terminal() {
            let tokens = completed.usage.completion_tokens;
            context.talk.note(&format!(
                "{tokens} tokens, {:.1} tokens/s",
                stats.tokens_per_s
            ));
        }
        Ok(ExitCode::Success)
    };
    context.interrupt.or("interrupted", work).await
}

/// Prints text as it comes, until the job has ended.
async fn stream_answer(host: &mut EngineHost) -> Result<(ResultRecord, JobStats), Failure> {
    let mut out = std::io::stdout();
    let mut at_line_start = true;
    while let Some(event) = host.events.recv().await {
        match event {
            EngineEvent::Started { .. } => {}
            EngineEvent::Text { text, .. } => {
                out.write_all(text.as_bytes())
                    .and_then(|()| out.flush())
                    .map_err(stdout_failure)?;
                at_line_start = text.ends_with('\n') || text.is_empty() && at_line_start;
            }
            EngineEvent::Finished { record, stats, .. } => {
                if !at_line_start {
                    out.write_all(b"\n")
                        .and_then(|()| out.flush())
                        .map_err(stdout_failure)?;
                }
                return Ok((record, stats));
            }
        }
    }
    Err(anyhow::anyhow!(
        "the engine stopped before the answer was finished: RBEE_LOG=debug may show why"
    )
    .into())
}
