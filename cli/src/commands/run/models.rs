//! The models that a run's lines ask for, resolved to files.

use std::collections::HashMap;

use rbee_queue::{BatchModel, ModelNo, ModelSha};
use rbee_worker::model_files::{ModelError, ModelRef, ModelStore, ResolvedModel};

use crate::batch_view::counted;
use crate::engine_host::{Source, stub_model};
use crate::failure::Failure;
use crate::models_home::{self, ShownPull};
use crate::talk::Talk;

/// The models of a batch.
pub struct RunModels {
    /// As the batch stores them, in the order of their first line.
    pub list: Vec<BatchModel>,
    /// What to load for each identity.
    pub sources: HashMap<ModelSha, Source>,
}

impl RunModels {
    /// Resolves `names` (each with its number of jobs), fetching what is not here. A name that leads nowhere is the
    /// error of its lines; unless it is `usual`, the one of lines that name none, or no name leads anywhere. A source
    /// that cannot be reached now ends the command, which can be given again.
    pub async fn resolve(
        store: &ModelStore,
        names: &[(String, u64)],
        usual: &str,
        talk: &Talk,
    ) -> Result<RunModels, Failure> {
        let mut models = RunModels {
            list: Vec::new(),
            sources: HashMap::new(),
        };
        let mut missing = Vec::new();
        for (name, jobs) in names {
            match resolve(store, name, talk).await {
                Ok(resolved) => models.add(name, Some(resolved)),
                Err(error) if error.is_transient() || name == usual => {
                    return Err(models_home::failure(error));
                }
                Err(error) => {
                    models.add(name, None);
                    missing.push((name, *jobs, error));
                }
            }
        }
        if models.sources.is_empty()
            && let Some((_, _, error)) = missing.pop()
        {
            return Err(models_home::failure(error));
        }
        for (name, jobs, error) in missing {
            let lines = counted(jobs, "line");
            talk.warn(&format!(
                "no answer for {lines} with the model {name}: {error}"
            ));
        }
        Ok(models)
    }

    /// The stub engine has a model of every name.
    pub fn stubs(names: &[(String, u64)]) -> RunModels {
        let mut models = RunModels {
            list: Vec::new(),
            sources: HashMap::new(),
        };
        for (name, _) in names {
            let model = stub_model(name);
            models.push(name, Some(model), None);
            models.sources.insert(model, Source::Stub(name.clone()));
        }
        models
    }

    fn add(&mut self, name: &str, resolved: Option<ResolvedModel>) {
        let sha256 = resolved.as_ref().map(|resolved| ModelSha(resolved.sha256));
        let revision = resolved
            .as_ref()
            .and_then(|resolved| resolved.revision.clone());
        self.push(name, sha256, revision);
        if let (Some(sha256), Some(resolved)) = (sha256, resolved) {
            self.sources.insert(sha256, Source::Files(resolved));
        }
    }

    fn push(&mut self, name: &str, sha256: Option<ModelSha>, revision: Option<String>) {
        let no = ModelNo(
            u32::try_from(self.list.len()).expect("a survey names at most a few hundred models"),
        );
        self.list.push(BatchModel {
            no,
            requested: name.to_owned(),
            sha256,
            revision,
            numerics: None,
        });
    }

    /// Names with identities, as the run key wants them.
    pub fn identities(&self) -> Vec<(String, Option<ModelSha>)> {
        self.list
            .iter()
            .map(|model| (model.requested.clone(), model.sha256))
            .collect()
    }
}

async fn resolve(store: &ModelStore, name: &str, talk: &Talk) -> Result<ResolvedModel, ModelError> {
    let reference = ModelRef::parse(name)?;
    store.resolve(&reference, &ShownPull::new(talk, name)).await
}
