//! `rbee plan`: what a run would compute, whether it fits, and how long it may take; nothing is computed but a sample.
//!
//! The way: input and flags -> survey -> outlines of the models -> every line rendered and tokenised (`count`) -> speeds,
//! measured here (`measure`) or told by nodes (`nodes`) -> times (`estimate`) -> words or JSON (`show`).

mod count;
mod estimate;
mod figures;
mod measure;
mod nodes;
mod show;

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use rbee_queue::jsonl::{ReadError, survey};
use rbee_queue::{BatchModel, BatchSpec, RunKey};
use rbee_worker::model::memory::MemoryPlan;
use rbee_worker::model::outline::Outline;

use crate::batch_args::BatchArgs;
use crate::batch_spec::batch_spec;
use crate::commands::Context;
use crate::commands::run::input::Input;
use crate::commands::run::models::RunModels;
use crate::engine_args::{EngineArgs, EngineKind};
use crate::engine_host::{self, Source};
use crate::exit_code::ExitCode;
use crate::failure::{Failure, Outcome};
use crate::models_home;
use crate::plans;
use count::{Counting, Subject, count};
use estimate::{Range, Speed};
use figures::{BadLines, ModelFigures};
use nodes::Cluster;

/// Say what a run of a file would take: tokens, memory, places, time
///
/// Every line is rendered with its model's chat template and tokenised, as the run would do it. A few jobs of the file
/// are computed to measure this machine's speed; with a server the speeds are those that its nodes measured.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Examples:
  rbee plan prompts.jsonl
  rbee plan prompts.jsonl --max-tokens 64 --json | jq .seconds
  rbee plan prompts.jsonl --no-measure              no time is estimated, nothing is computed

Tokens of answers are the most there can be: answers mostly end earlier. So does the range of the time: its lower end
has answers as long as those of the measured jobs, its upper end has all of them as long as they may be.")]
pub struct PlanArgs {
    /// The prompts; `-` is stdin
    #[arg(value_name = "FILE|-")]
    pub input: PathBuf,

    #[command(flatten)]
    pub batch: BatchArgs,

    /// Compute nothing to measure this machine's speed
    #[arg(long)]
    pub no_measure: bool,

    /// Print one JSON object
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub engine: EngineArgs,
}

/// A model of the plan, as far as it is known without its weights.
struct Planned {
    model: BatchModel,
    /// `None`: it is not to be had, and its lines fail.
    outline: Option<Arc<Outline>>,
    /// Whether it fits into this machine's memory.
    memory: Option<Result<MemoryPlan, String>>,
    figures: ModelFigures,
    speed: Option<Speed>,
    seconds: Option<Range>,
}

/// All that is told.
struct Plan {
    /// Under which a run and a submit of the input know their batches.
    keys: [String; 2],
    input: String,
    jobs: u64,
    bad: BadLines,
    models: Vec<Planned>,
    cluster: Option<Cluster>,
    /// `None`: some model's speed is not known.
    seconds: Option<Range>,
}

/// Plans and prints. Lines that would fail make the plan no failure.
pub async fn run(context: &Context, args: PlanArgs) -> Outcome {
    let spec = batch_spec(&args.batch, args.engine.kv)?;
    let input = Input::open(&args.input, &context.data()?)?;
    let work = async {
        let plan = plan(context, &args, &spec, &input).await?;
        for key in &plan.keys {
            plans::keep(&context.data()?, key, &show::json_of(&plan))?;
        }
        show::print(&plan, args.json)?;
        Ok(ExitCode::Success)
    };
    context.interrupt.or("interrupted", work).await
}

async fn plan(
    context: &Context,
    args: &PlanArgs,
    spec: &BatchSpec,
    input: &Input,
) -> Result<Plan, Failure> {
    let talk = &context.talk;
    let refused = |error: ReadError| super::run::read_failure(error, input);
    let (reader, options) = (input.reader(talk, "reading")?, spec.options.clone());
    let survey = tokio::task::spawn_blocking(move || survey(reader, &options))
        .await?
        .map_err(refused)?;
    let models = match args.engine.engine {
        EngineKind::Stub => RunModels::stubs(&survey.models),
        EngineKind::Model => {
            let store = models_home::open(&context.data()?)?;
            RunModels::resolve(&store, &survey.models, &spec.options.model, talk).await?
        }
    };
    let keys = keys(args, spec, &survey.digest, &models);
    let mut planned = Vec::new();
    for (model, (_, jobs)) in models.list.into_iter().zip(&survey.models) {
        let source = model.sha256.and_then(|sha| models.sources.get(&sha));
        let outline = outline(source.cloned(), &args.engine).await?;
        let options = engine_host::load_options(&args.engine, args.engine.machine.memory, false);
        planned.push(Planned {
            memory: outline.as_ref().map(|outline| outline.memory(&options)),
            outline,
            model,
            figures: ModelFigures::new(*jobs),
            speed: None,
            seconds: None,
        });
    }
    let subjects = planned.iter().map(Subject::of).collect();
    let counting = Counting {
        spec: spec.clone(),
        subjects,
        threads: engine_host::threads(&args.engine),
        sample_jobs: engine_host::slots(&args.engine).min(measure::MOST_JOBS),
    };
    let reader = input.reader(talk, "counting tokens of")?;
    let counted = tokio::task::spawn_blocking(move || count(reader, counting))
        .await?
        .map_err(refused)?;
    for (planned, figures) in planned.iter_mut().zip(counted.models) {
        planned.figures = figures;
    }
    let cluster = match context.server() {
        Some(_) => Some(nodes::ask(context, spec, &planned, &args.engine).await?),
        None => None,
    };
    for (at, planned) in planned.iter_mut().enumerate() {
        let source = planned
            .model
            .sha256
            .and_then(|sha| models.sources.get(&sha));
        planned.speed = match (&cluster, source) {
            (Some(cluster), _) => cluster.speed(at),
            (None, Some(source)) if !args.no_measure && fits(planned) => {
                measure::speed(context, args, spec, source.clone(), &planned.figures).await
            }
            _ => None,
        };
        let work = planned.figures.work();
        planned.seconds = planned.speed.as_ref().map(|speed| speed.time(&work));
    }
    let unknown = |planned: &Planned| planned.seconds.is_none() && planned.figures.work().jobs > 0;
    Ok(Plan {
        keys,
        input: input.name(),
        jobs: survey.jobs,
        bad: counted.bad,
        seconds: (!planned.iter().any(unknown))
            .then(|| planned.iter().filter_map(|planned| planned.seconds).sum()),
        models: planned,
        cluster,
    })
}

/// The keys of the batches that `rbee run` and `rbee submit` make of the input.
fn keys(args: &PlanArgs, spec: &BatchSpec, digest: &[u8; 32], models: &RunModels) -> [String; 2] {
    let numerics = engine_host::numerics(&args.engine);
    let identities = models.identities();
    let here = (!spec.any_numerics).then_some(numerics.as_str());
    [here, None].map(|numerics| {
        let key = RunKey {
            input: digest,
            spec,
            models: &identities,
            numerics,
        };
        key.to_key()
    })
}

fn fits(planned: &Planned) -> bool {
    matches!(planned.memory, Some(Ok(_))) && planned.figures.work().jobs > 0
}

async fn outline(
    source: Option<Source>,
    engine: &EngineArgs,
) -> Result<Option<Arc<Outline>>, Failure> {
    let Some(source) = source else {
        return Ok(None);
    };
    let engine = engine.clone();
    let read = tokio::task::spawn_blocking(move || engine_host::outline(&source, &engine)).await?;
    let outline = read.map_err(|error| anyhow::anyhow!(error.message))?;
    Ok(Some(Arc::new(outline)))
}
