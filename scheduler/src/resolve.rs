//! From the names of models that an input asks for to what they are, when a batch is made.

use crate::http::{Models, ResolveError, Resolved};
use rbee_queue::jsonl::Survey;
use rbee_queue::schedule::OwnModel;
use rbee_queue::{BatchModel, ModelNo, ModelSha};

/// All models of an input.
#[derive(Debug)]
pub struct ResolvedModels {
    /// Numbered from 0.
    pub models: Vec<BatchModel>,
    /// Names that lead nowhere, in sentences.
    pub warnings: Vec<String>,
}

/// Resolves all models that the input names; `own` are those that its maker resolved, `usual` is the one of lines that name
/// none. A name that leads nowhere is the error of its lines, and a warning; unless it is the usual one, or no name leads
/// anywhere.
pub async fn resolve_all(
    models: &dyn Models,
    own: &[OwnModel],
    usual: &str,
    survey: &Survey,
) -> Result<ResolvedModels, ResolveError> {
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    for ((name, jobs), no) in survey.models.iter().zip(0..) {
        let resolved = match known(own, name) {
            Some(sha256) => Some(Resolved {
                sha256,
                revision: None,
            }),
            None => match models.resolve(name).await {
                Ok(resolved) => Some(resolved),
                Err(error) if error.transient || name == usual => return Err(error),
                Err(error) => {
                    missing.push((name, *jobs, error));
                    None
                }
            },
        };
        let (sha256, revision) = match resolved {
            Some(resolved) => (Some(resolved.sha256), resolved.revision),
            None => (None, None),
        };
        found.push(BatchModel {
            no: ModelNo(no),
            requested: name.clone(),
            sha256,
            revision,
            numerics: None,
        });
    }
    if !missing.is_empty() && found.iter().all(|model| model.sha256.is_none()) {
        let (_, _, error) = missing.remove(0);
        return Err(error);
    }
    let warnings = missing
        .into_iter()
        .map(|(name, jobs, error)| {
            let lines = if jobs == 1 { "line" } else { "lines" };
            format!("no answer for {jobs} {lines} with the model {name}: {error}")
        })
        .collect();
    Ok(ResolvedModels {
        models: found,
        warnings,
    })
}

fn known(models: &[OwnModel], name: &str) -> Option<ModelSha> {
    let found = models.iter().find(|model| model.requested == name);
    found.map(|model| model.sha256)
}
