//! How fast this machine is at some jobs of the file.
//!
//! The same jobs run twice, with answers of one token and with longer ones: the difference is what answers cost.

use std::time::{Duration, Instant};

use rbee_queue::{BatchSpec, FinishReason, JobKey, Outcome as JobOutcome, Request};
use rbee_worker::engine::{EngineEvent, EngineJob, Priority};

use super::PlanArgs;
use super::estimate::Speed;
use super::figures::ModelFigures;
use crate::commands::Context;
use crate::engine_host::{EngineHost, Source};
use crate::failure::Failure;

/// Jobs that are measured.
pub const MOST_JOBS: usize = 32;
/// Tokens of an answer that is measured.
const MOST_TOKENS: u32 = 32;
/// How long measuring may take, the load not counted.
const PATIENCE: Duration = Duration::from_secs(60);

/// What some jobs took.
#[derive(Debug, Default)]
struct Took {
    seconds: f64,
    prompt_tokens: u64,
    output_tokens: u64,
    /// What the answers would have had, those that were cut taken for as long as they may be.
    expected_tokens: u64,
    /// What they may have.
    most_tokens: u64,
}

/// Measures one model; `None` where it cannot be measured, which is said.
pub async fn speed(
    context: &Context,
    args: &PlanArgs,
    spec: &BatchSpec,
    source: Source,
    figures: &ModelFigures,
) -> Option<Speed> {
    context.talk.note("measuring");
    match measured(context, args, spec, source, figures).await {
        Ok(speed) => Some(speed),
        Err(failure) => {
            let why = failure.sentence().unwrap_or_default();
            context
                .talk
                .warn(&format!("the speed was not measured: {why}"));
            None
        }
    }
}

async fn measured(
    context: &Context,
    args: &PlanArgs,
    spec: &BatchSpec,
    source: Source,
    figures: &ModelFigures,
) -> Result<Speed, Failure> {
    let mut engine = args.engine.clone();
    // The second time the prompts must cost what they cost the first time.
    engine.machine.no_prefix_sharing = true;
    let began = Instant::now();
    let mut host = EngineHost::start(source, &engine, &context.talk).await?;
    let load_s = began.elapsed().as_secs_f64();
    let sample = &figures.sample;
    let both = async {
        let short = run(&mut host, sample, spec, 1).await?;
        let long = run(&mut host, sample, spec, MOST_TOKENS).await?;
        Ok::<_, Failure>((short, long))
    };
    let both = tokio::time::timeout(PATIENCE, both).await;
    host.stop().await;
    let (short, long) = both.map_err(|_| anyhow::anyhow!("it takes too long"))??;
    if short.prompt_tokens == 0 {
        return Err(anyhow::anyhow!("no job of the sample was answered").into());
    }
    let answers_s = (long.seconds - short.seconds).max(long.seconds * LEAST_SHARE);
    let answered = long.output_tokens.saturating_sub(short.output_tokens);
    Ok(Speed::Measured {
        prompt_tokens_per_s: short.prompt_tokens as f64 / short.seconds,
        output_tokens_per_s: answered.max(1) as f64 / answers_s,
        length_share: long.expected_tokens as f64 / long.most_tokens.max(1) as f64,
        load_s,
    })
}

/// The part of the second run that counts as its answers' at least: two runs differ by chance too.
const LEAST_SHARE: f64 = 0.05;

async fn run(
    host: &mut EngineHost,
    sample: &[Request],
    spec: &BatchSpec,
    most_tokens: u32,
) -> Result<Took, Failure> {
    let mut took = Took::default();
    let began = Instant::now();
    for (id, request) in sample.iter().enumerate() {
        let mut request = request.clone();
        request.params.max_tokens = request.params.max_tokens.min(most_tokens);
        let job = EngineJob {
            id: id as u64,
            request,
            job_key: JobKey([0; 32]),
            batch_seed: spec.seed,
            template_date: spec.template_date.clone(),
            priority: Priority::Batch,
            stream: false,
        };
        host.engine.submit(job)?;
    }
    let mut running = sample.len();
    while running > 0 {
        let event = host.events.recv().await;
        let event = event.ok_or_else(|| anyhow::anyhow!("the engine stopped"))?;
        let EngineEvent::Finished { id, record, .. } = event else {
            continue;
        };
        running -= 1;
        if let JobOutcome::Completed(answer) = record.outcome {
            let most =
                u64::from(sample[id as usize].params.max_tokens) * answer.choices.len() as u64;
            let cut =
                (answer.choices.iter()).any(|choice| choice.finish_reason == FinishReason::Length);
            let output = u64::from(answer.usage.completion_tokens);
            took.prompt_tokens += u64::from(answer.usage.prompt_tokens);
            took.output_tokens += output;
            took.most_tokens += most;
            took.expected_tokens += if cut { most } else { output };
        }
    }
    took.seconds = began.elapsed().as_secs_f64().max(f64::EPSILON);
    Ok(took)
}
