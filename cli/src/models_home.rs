//! The model store of the data directory, and references resolved with a progress bar.

use std::sync::Mutex;

use anyhow::Result;
use rbee_worker::model_files::{ModelError, ModelRef, ModelStore, PullProgress, ResolvedModel};

use crate::failure::Failure;
use crate::paths::DataDir;
use crate::progress::ByteProgress;
use crate::talk::Talk;

/// Opens the model store.
pub fn open(data: &DataDir) -> Result<ModelStore, Failure> {
    Ok(ModelStore::open(&data.models())?)
}

/// Reads a reference; one that cannot be one is wrong usage.
pub fn parse(reference: &str) -> Result<ModelRef, Failure> {
    ModelRef::parse(reference).map_err(failure)
}

/// The model that `reference` names, fetched first if it is not here.
pub async fn resolve(
    store: &ModelStore,
    reference: &str,
    talk: &Talk,
) -> Result<ResolvedModel, Failure> {
    let parsed = parse(reference)?;
    let progress = ShownPull::new(talk, reference);
    store.resolve(&parsed, &progress).await.map_err(failure)
}

/// Whether an error is in the command as it stands, or came up on the way.
pub fn failure(error: ModelError) -> Failure {
    match error {
        ModelError::BadReference { .. }
        | ModelError::UnknownAlias { .. }
        | ModelError::NoSuchFile { .. }
        | ModelError::NotStored { .. }
        | ModelError::Ambiguous { .. } => Failure::usage(error.to_string()),
        _ => Failure::Program(error.into()),
    }
}

/// Shows a pull, or the reading of a large file, on stderr.
pub struct ShownPull {
    talk: Talk,
    model: String,
    state: Mutex<PullState>,
}

#[derive(Default)]
struct PullState {
    verb: &'static str,
    bytes: Option<ByteProgress>,
}

impl ShownPull {
    /// Nothing is shown before there is something to tell.
    pub fn new(talk: &Talk, model: &str) -> ShownPull {
        let state = PullState {
            verb: "reading",
            bytes: None,
        };
        ShownPull {
            talk: talk.clone(),
            model: model.to_owned(),
            state: Mutex::new(state),
        }
    }

    fn with(&self, change: impl FnOnce(&mut PullState)) {
        change(
            &mut self
                .state
                .lock()
                .expect("nothing panics while it holds this lock"),
        );
    }
}

impl PullProgress for ShownPull {
    fn source(&self, name: &str) {
        self.with(|state| {
            *state = PullState {
                verb: "fetching",
                bytes: None,
            }
        });
        self.talk
            .note(&format!("fetching {} from {name}", self.model));
    }

    fn total(&self, total: u64) {
        self.with(|state| {
            let label = format!("{} {}", state.verb, self.model);
            state.bytes = Some(ByteProgress::new(&self.talk, &label, total));
        });
    }

    fn advance(&self, more: u64) {
        self.with(|state| {
            if let Some(bytes) = &mut state.bytes {
                bytes.advance(more);
            }
        });
    }

    fn note(&self, line: &str) {
        self.talk.note(line);
    }
}
