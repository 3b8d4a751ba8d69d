//! `rbee pool models`: the model files of another machine, by rbee there.

use anyhow::anyhow;

use super::ModelsVerb;
use crate::exit_code::ExitCode;
use crate::failure::{Failure, Outcome};
use crate::remote::{Far, Host, RemoteArgs};

/// Has rbee there do it; what it prints and how it ends is passed on.
pub async fn run(remote: &RemoteArgs, verb: ModelsVerb) -> Outcome {
    let (host, mut words) = match &verb {
        ModelsVerb::List { host, json: false } => (host, vec!["models", "list"]),
        ModelsVerb::List { host, json: true } => (host, vec!["models", "list", "--json"]),
        ModelsVerb::Pull { host, model } => (host, vec!["models", "pull", "--", model]),
    };
    let host = Host::new(host, remote)?;
    let far = Far::look(&host, remote).await?;
    words.insert(0, far.program()?);
    match host.pass(&words).await? {
        0 => Ok(ExitCode::Success),
        code => {
            let code = ExitCode::from_number(code);
            let ended = anyhow!("rbee on {} ended with {}", host.name(), code.number());
            Err(match code {
                ExitCode::Usage => Failure::usage(ended.to_string()),
                _ => Failure::Program(ended),
            })
        }
    }
}
