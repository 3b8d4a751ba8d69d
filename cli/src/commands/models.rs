//! `rbee models`: the model files on this machine.

use clap::{Args, Subcommand};
use rbee_worker::gguf::Gguf;
use rbee_worker::model_files::{ModelFiles, ModelRef, ModelStore, ResolvedModel, StoredModel};
use serde_json::{Map, Value, json};

use crate::byte_size;
use crate::commands::Context;
use crate::exit_code::ExitCode;
use crate::failure::{Failure, Outcome};
use crate::models_home::{self, ShownPull};
use crate::table;

/// List, fetch, check and remove model files
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Examples:
  rbee models list
  rbee models pull smollm2-135m
  rbee models pull hf:org/repo@main::model.Q4_K_M.gguf
  rbee models show ./model.gguf
  rbee models verify smollm2-135m

References to models: an alias of the list, hf:org/repo[@revision][::file], file:/path, or a path.
HF_TOKEN and HF_ENDPOINT are honoured.")]
pub struct ModelsArgs {
    #[command(subcommand)]
    pub verb: Verb,
}

/// What to do with model files.
#[derive(Debug, Clone, Subcommand)]
pub enum Verb {
    /// The models on this machine and the aliases that can be pulled
    List {
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Fetch a model; an interrupted download goes on where it stopped
    Pull(Named),
    /// Where a model's files are, and what its metadata says
    Show(Named),
    /// Read a model's files again and compare them with their sha256
    Verify(Named),
    /// Delete a model's files from this machine
    Remove(Named),
}

/// A model, by its reference.
#[derive(Debug, Clone, Args)]
pub struct Named {
    /// An alias, hf:org/repo[@rev][::file] or a path
    #[arg(value_name = "REF")]
    pub model: String,

    /// One JSON object
    #[arg(long)]
    pub json: bool,
}

/// Does what the verb says.
pub async fn run(context: &Context, args: ModelsArgs) -> Outcome {
    let store = models_home::open(&context.data()?)?;
    match args.verb {
        Verb::List { json } => list(context, &store, json),
        Verb::Pull(named) => pull(context, &store, &named).await,
        Verb::Show(named) => show(context, &store, &named).await,
        Verb::Verify(named) => verify(context, store, named).await,
        Verb::Remove(named) => remove(context, &store, &named),
    }
}

fn list(context: &Context, store: &ModelStore, json: bool) -> Outcome {
    let stored = store.list().map_err(models_home::failure)?;
    let absent: Vec<_> = (store.catalog().entries().iter())
        .filter(|entry| !stored.iter().any(|model| model.reference == entry.alias))
        .collect();
    if json {
        let here = stored.iter().map(stored_json);
        let elsewhere = absent.iter().map(|entry| {
            json!({"reference": entry.alias, "stored": false, "sha256": hex(&entry.sha256), "bytes": entry.bytes,
                   "description": entry.description, "licence": entry.licence})
        });
        table::print(here.chain(elsewhere).map(|value| value.to_string()))?;
        return Ok(ExitCode::Success);
    }
    let mut rows: Vec<Vec<String>> = stored
        .iter()
        .map(|model| {
            let state = if model.complete { "here" } else { "incomplete" };
            vec![
                model.reference.clone(),
                state.to_owned(),
                byte_size::show(model.bytes),
                model.source.clone(),
            ]
        })
        .collect();
    rows.extend(absent.iter().map(|entry| {
        let size = byte_size::show(entry.bytes);
        vec![
            entry.alias.to_owned(),
            "can be pulled".to_owned(),
            size,
            entry.description.to_owned(),
        ]
    }));
    table::print(table::lines(&["MODEL", "STATE", "SIZE", "FROM"], &rows))?;
    context.talk.note(&format!(
        "model files are kept in {}",
        store.dir().display()
    ));
    Ok(ExitCode::Success)
}

async fn pull(context: &Context, store: &ModelStore, named: &Named) -> Outcome {
    let kept = "interrupted: what was fetched is kept, and the same command goes on from there";
    let resolved = context
        .interrupt
        .or(
            kept,
            models_home::resolve(store, &named.model, &context.talk),
        )
        .await?;
    if named.json {
        table::print([resolved_json(&resolved).to_string()])?;
    } else {
        let size = byte_size::show(resolved.bytes);
        context.talk.note(&format!(
            "{} is here: {size}, sha256 {}",
            named.model,
            hex(&resolved.sha256)
        ));
    }
    Ok(ExitCode::Success)
}

async fn show(context: &Context, store: &ModelStore, named: &Named) -> Outcome {
    let reference = models_home::parse(&named.model)?;
    let stored = match &reference {
        ModelRef::Path(_) => None,
        _ => Some(store.show(&reference).map_err(models_home::failure)?),
    };
    let found = match (
        &stored,
        store.find(&reference).map_err(models_home::failure)?,
    ) {
        (_, Some(found)) => found,
        // A path: its digest is its identity, so it is read once.
        (None, None) => models_home::resolve(store, &named.model, &context.talk).await?,
        (Some(_), None) => {
            let reference = &named.model;
            let advice = format!(
                "files of {reference} are missing: `rbee models pull {reference}` fetches them again"
            );
            return Err(anyhow::anyhow!(advice).into());
        }
    };
    let mut value = resolved_json(&found);
    if let Some(stored) = &stored {
        value["source"] = json!(stored.source);
    }
    value["metadata"] = metadata(&found)?;
    if named.json {
        table::print([value.to_string()])?;
    } else {
        table::print(describe(&value))?;
    }
    Ok(ExitCode::Success)
}

async fn verify(context: &Context, store: ModelStore, named: Named) -> Outcome {
    let reference = models_home::parse(&named.model)?;
    let progress = ShownPull::new(&context.talk, &named.model);
    let work = tokio::task::spawn_blocking(move || store.verify(&reference, &progress));
    let verdict = context
        .interrupt
        .or("interrupted", async {
            work.await?.map_err(models_home::failure)
        })
        .await?;
    if named.json {
        let damaged: Vec<Value> = (verdict.damaged.iter())
            .map(|damage| json!({"file": damage.file, "path": damage.path, "problem": damage.problem}))
            .collect();
        let value = json!({"reference": verdict.reference, "sound": damaged.is_empty(), "damaged": damaged});
        table::print([value.to_string()])?;
    }
    if verdict.damaged.is_empty() {
        context
            .talk
            .note(&format!("{}: every byte is right", verdict.reference));
        return Ok(ExitCode::Success);
    }
    for damage in &verdict.damaged {
        context.talk.line(&format!(
            "{}: {} {}",
            verdict.reference,
            damage.path.display(),
            damage.problem
        ));
    }
    let name = &verdict.reference;
    context.talk.line(&format!(
        "`rbee models remove {name}` and `rbee models pull {name}` fetch it again"
    ));
    Ok(ExitCode::Error)
}

fn remove(context: &Context, store: &ModelStore, named: &Named) -> Outcome {
    let reference = models_home::parse(&named.model)?;
    if let ModelRef::Path(path) = &reference {
        let path = path.display();
        return Err(Failure::usage(format!(
            "{path} is a file of yours and not in the model store: rbee does not delete it"
        )));
    }
    let freed = store.remove(&reference).map_err(models_home::failure)?;
    if named.json {
        table::print([json!({"reference": named.model, "freed_bytes": freed}).to_string()])?;
    } else {
        context.talk.note(&format!(
            "{} is gone: {} are free again",
            named.model,
            byte_size::show(freed)
        ));
    }
    Ok(ExitCode::Success)
}

fn stored_json(model: &StoredModel) -> Value {
    let files: Vec<Value> = (model.files.iter())
        .map(|file| json!({"name": file.name, "sha256": file.sha256, "bytes": file.bytes}))
        .collect();
    json!({"reference": model.reference, "stored": true, "complete": model.complete, "sha256": model.sha256,
           "bytes": model.bytes, "revision": model.revision, "source": model.source, "files": files})
}

fn resolved_json(model: &ResolvedModel) -> Value {
    let files = match &model.files {
        ModelFiles::Gguf(paths) => json!(paths),
        ModelFiles::Safetensors { dir } => json!([dir]),
    };
    json!({"reference": model.requested, "sha256": hex(&model.sha256), "bytes": model.bytes,
           "revision": model.revision, "files": files})
}

/// What the model's own file says of it.
fn metadata(model: &ResolvedModel) -> Result<Value, Failure> {
    match &model.files {
        ModelFiles::Gguf(paths) => gguf_metadata(&Gguf::open_parts(paths)?),
        ModelFiles::Safetensors { dir } => {
            let config: Value = serde_json::from_slice(&std::fs::read(dir.join("config.json"))?)?;
            let wanted = [
                "model_type",
                "max_position_embeddings",
                "num_hidden_layers",
                "hidden_size",
                "vocab_size",
            ];
            let present = wanted
                .into_iter()
                .filter_map(|key| Some((key.to_owned(), config.get(key)?.clone())));
            Ok(Value::Object(present.collect()))
        }
    }
}

fn gguf_metadata(gguf: &Gguf) -> Result<Value, Failure> {
    let architecture = gguf.architecture()?;
    let mut found = Map::new();
    found.insert("architecture".into(), architecture.into());
    for (name, key) in [
        ("name", "general.name".to_owned()),
        ("tokenizer", "tokenizer.ggml.model".to_owned()),
    ] {
        if let Some(text) = gguf.get(&key).and_then(|value| value.as_str()) {
            found.insert(name.into(), text.into());
        }
    }
    for (name, key) in [
        ("context", "context_length"),
        ("layers", "block_count"),
        ("hidden", "embedding_length"),
    ] {
        if let Some(number) = gguf
            .get(&format!("{architecture}.{key}"))
            .and_then(|value| value.as_u64())
        {
            found.insert(name.into(), number.into());
        }
    }
    found.insert(
        "chat_template".into(),
        gguf.get("tokenizer.chat_template").is_some().into(),
    );
    found.insert("tensors".into(), gguf.tensors().count().into());
    Ok(Value::Object(found))
}

/// A JSON object in lines for people.
fn describe(value: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    let mut say = |name: &str, value: &Value| match value {
        Value::Null => {}
        Value::String(text) => lines.push(format!("{name:<14}{text}")),
        Value::Array(items) => {
            for item in items {
                lines.push(format!("{name:<14}{}", item.as_str().unwrap_or_default()));
            }
        }
        other => lines.push(format!("{name:<14}{other}")),
    };
    for (name, value) in value.as_object().into_iter().flatten() {
        match value {
            Value::Object(inner) => inner.iter().for_each(|(name, value)| say(name, value)),
            _ => say(name, value),
        }
    }
    lines
}

fn hex(digest: &[u8; 32]) -> String {
    rbee_queue::ModelSha(*digest).to_hex()
}
