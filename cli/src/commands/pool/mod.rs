//! `rbee pool`: the machines that `rbee deploy` made nodes of.

mod drain;
mod models;
mod remove;
mod status;
mod upgrade;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, Subcommand};

use crate::commands::Context;
use crate::failure::{Failure, Outcome};
use crate::remote::{Far, Host, Input, RemoteArgs};
use crate::seconds;

/// Look after the machines that were deployed to
///
/// ssh is the system's own, with your configuration, keys and known hosts. rbee there is the one on PATH, else at
/// [remote].binary_path of the configuration, else where deploy puts it.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Examples:
  rbee pool status desk ann@old-server
  rbee pool models list --host desk
  rbee pool models pull smollm2-135m --host desk
  rbee pool upgrade desk old-server         one after the other: drained, brought to this version, waited for
  rbee pool remove old-server               drained, stopped, removed, its token revoked")]
pub struct PoolArgs {
    #[command(flatten)]
    pub remote: RemoteArgs,

    #[command(subcommand)]
    pub verb: Verb,
}

/// What to do with the machines.
#[derive(Debug, Clone, Subcommand)]
pub enum Verb {
    /// The model files of a machine
    Models {
        #[command(subcommand)]
        verb: ModelsVerb,
    },
    /// What runs on each machine, in which version
    Status {
        /// Machines, as ssh knows them
        #[arg(value_name = "HOST", required = true)]
        hosts: Vec<String>,

        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Bring machines to this version, one after the other, losing nothing
    ///
    /// Each node is drained first: it finishes what it has, while the others go on. Then rbee is replaced and started, and
    /// the next machine waits until the node is back. It ends at the first machine that does not come back.
    Upgrade(UpgradeArgs),
    /// Make machines nodes no more: drained, stopped, rbee removed there, their tokens revoked
    ///
    /// Results are in the cluster's store; models stay in the data directory there, and so does a configuration that somebody
    /// changed. Of a machine that is gone for good, `rbee token revoke node-NAME` revokes the token.
    Remove(RemoveArgs),
}

/// What to do with the model files of a machine.
#[derive(Debug, Clone, Subcommand)]
pub enum ModelsVerb {
    /// The models on the machine and the aliases that can be pulled
    List {
        /// The machine, as ssh knows it
        #[arg(long, value_name = "HOST")]
        host: String,

        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Fetch a model there
    Pull {
        /// An alias, hf:org/repo[@rev][::file], or a path there
        #[arg(value_name = "REF")]
        model: String,

        /// The machine, as ssh knows it
        #[arg(long, value_name = "HOST")]
        host: String,
    },
}

/// The flags of `rbee pool upgrade`.
#[derive(Debug, Clone, Args)]
pub struct UpgradeArgs {
    /// Machines, as ssh knows them
    #[arg(value_name = "HOST", required = true)]
    pub hosts: Vec<String>,

    /// A program for those machines, where this one does not fit; may be given again and again
    #[arg(long, value_name = "FILE")]
    pub binary: Vec<PathBuf>,

    /// Seconds that a node's running jobs may take to end; what then still runs is given back and runs elsewhere
    #[arg(long, value_name = "SECONDS", default_value = "600", value_parser = seconds::parse)]
    pub drain: Duration,

    /// Seconds that a node may take to come back
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds::parse)]
    pub wait: Duration,
}

/// The flags of `rbee pool remove`.
#[derive(Debug, Clone, Args)]
pub struct RemoveArgs {
    /// Machines, as ssh knows them
    #[arg(value_name = "HOST", required = true)]
    pub hosts: Vec<String>,

    /// Seconds that a node's running jobs may take to end; what then still runs is given back and runs elsewhere
    #[arg(long, value_name = "SECONDS", default_value = "600", value_parser = seconds::parse)]
    pub drain: Duration,
}

/// Does what the verb says.
pub async fn run(context: &Context, args: PoolArgs) -> Outcome {
    let kept = "interrupted: what is done stays done, and the same command goes on";
    let PoolArgs { remote, verb } = args;
    let work = async {
        match verb {
            Verb::Models { verb } => models::run(&remote, verb).await,
            Verb::Status { hosts, json } => status::run(context, &remote, &hosts, json).await,
            Verb::Upgrade(flags) => upgrade::run(context, &remote, &flags).await,
            Verb::Remove(flags) => remove::run(context, &remote, &flags).await,
        }
    };
    context.interrupt.or(kept, work).await
}

/// What rbee there calls its node.
async fn node_name(host: &Host, far: &Far) -> Result<String, Failure> {
    let words = [far.program()?, "config", "show", "worker.name", "--json"];
    let said = host
        .run(&words, Input::Nothing)
        .await?
        .success("asking for the node's name")?;
    let setting: serde_json::Value = serde_json::from_str(said.lines().next().unwrap_or_default())?;
    let is_set = setting["source"]["kind"] != "default";
    let name = setting["value"].as_str().filter(|_| is_set);
    Ok(name.unwrap_or(&far.name).to_owned())
}
