//! `rbee submit`: a file of prompts becomes a batch on a server.

use std::path::PathBuf;

use clap::Args;
use rbee_queue::ModelSha;
use rbee_scheduler::http::types::{KnownModel, SubmitSpec};
use rbee_worker::model_files::ModelRef;

use crate::batch_args::BatchArgs;
use crate::batch_spec::batch_spec;
use crate::client::{self, Client, Prompts};
use crate::commands::{Context, watch};
use crate::exit_code::ExitCode;
use crate::failure::{Failure, Outcome};
use crate::models_home;
use crate::placing_args::PlacingArgs;
use crate::table;

/// Hand a file of prompts to a server, which has it answered
///
/// Prints the batch's id, and nothing else, on stdout. The batch is there when the id is: whole, or not at all. The same
/// prompts with the same flags are the same batch, so that a submit that was cut off can simply be given again.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Examples:
  rbee submit prompts.jsonl
  rbee submit prompts.jsonl --model smollm2-135m --max-tokens 64 --watch
  zcat prompts.jsonl.gz | rbee submit - --name nightly
  id=$(rbee submit prompts.jsonl) && rbee watch $id && rbee export $id -o results.jsonl

`rbee serve` is the server; RBEE_SERVER and RBEE_API_TOKEN name another one than this machine's.")]
pub struct SubmitArgs {
    /// The prompts; `-` is stdin
    #[arg(value_name = "FILE|-")]
    pub input: PathBuf,

    /// What the batch is called in listings [default: the file's name]
    #[arg(long, value_name = "TEXT")]
    pub name: Option<String>,

    /// Stay and watch until it is done, as `rbee watch` does
    #[arg(long)]
    pub watch: bool,

    /// At most one batch has this key [default: made from prompts, flags and model]
    #[arg(long, value_name = "KEY", conflicts_with = "new")]
    pub idempotency_key: Option<String>,

    /// Make a new batch even if an equal one exists
    #[arg(long)]
    pub new: bool,

    /// POST the finished batch to this URL, signed with the server's webhook secret
    #[arg(long, value_name = "URL")]
    pub on_done: Option<String>,

    /// Print the batch as one JSON object instead of its id
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub placing: PlacingArgs,

    // Its headings hold for whatever stands behind it.
    #[command(flatten)]
    pub batch: BatchArgs,
}

/// Submits the file.
pub async fn run(context: &Context, args: SubmitArgs) -> Outcome {
    let spec = batch_spec(&args.batch, args.placing.kv)?;
    let prompts = Prompts::open(&args.input).await?;
    let client = Client::open(context)?;
    let work = async {
        let models = own_models(context, &client, &spec.options.model).await?;
        let spec = SubmitSpec {
            spec,
            name: Some(args.name.clone().unwrap_or(prompts.name().to_owned())),
            priority: args.placing.priority.into(),
            key: args.idempotency_key.clone(),
            new: args.new,
            on_done: args.on_done.clone(),
            node: args.placing.node.clone(),
            models,
            takes_over: None,
        };
        client::submit(&client, &spec, prompts, &context.talk).await
    };
    let submitted = (context.interrupt)
        .or("interrupted: the same command submits it again", work)
        .await?;
    for warning in &submitted.warnings {
        context.talk.warn(warning);
    }
    let batch = &submitted.batch;
    if submitted.existing {
        context.talk.note(&format!(
            "an equal batch exists already, {}: nothing was submitted; --new makes another one",
            batch.status
        ));
    }
    match args.json {
        true => {
            let mut value = crate::batch_view::json(batch, crate::batch_view::Runner::Server);
            value["existing"] = submitted.existing.into();
            table::print([value.to_string()])?;
        }
        false => table::print([batch.id.as_str()])?,
    }
    if args.watch {
        return watch::after_submit(context, &client, batch).await;
    }
    Ok(ExitCode::Success)
}

/// Models that only this machine has: a path. The server gets the files that it lacks.
pub async fn own_models(
    context: &Context,
    client: &Client,
    model: &str,
) -> Result<Vec<KnownModel>, Failure> {
    let ModelRef::Path(path) = models_home::parse(model)? else {
        return Ok(Vec::new());
    };
    let store = models_home::open(&context.data()?)?;
    let resolved = models_home::resolve(&store, model, &context.talk).await?;
    let reading = tokio::task::spawn_blocking(move || store.own_blobs(&path));
    for (sha256, blob) in reading.await?.map_err(models_home::failure)? {
        client::upload_blob(client, &ModelSha(sha256), blob, &context.talk).await?;
    }
    Ok(vec![KnownModel {
        requested: model.to_owned(),
        sha256: ModelSha(resolved.sha256),
    }])
}
