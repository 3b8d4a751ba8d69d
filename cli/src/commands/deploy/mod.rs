//! `rbee deploy`: a machine that ssh reaches becomes a node.

mod bring;
mod joined;
mod settings;
mod token;

use std::path::PathBuf;

use anyhow::{Context as _, anyhow};
use clap::Args;
use serde::Deserialize;

use crate::client::Client;
use crate::commands::Context;
use crate::exit_code::ExitCode;
use crate::failure::{Failure, Outcome};
use crate::home::HomeArgs;
use crate::install::Written;
use crate::remote::{Far, Host, Input, Program, RemoteArgs};
use crate::seconds;
use crate::service::Runner;

pub use bring::{bring, clear, fitting, programs};
pub use joined::{alive, nodes_of, until_joined};
pub use token::revoke as revoke_token;

/// Make nodes of other machines, over ssh
///
/// Copies rbee to each machine, installs it for the user there, writes the settings, starts the worker as a service, and
/// waits until it has joined. ssh is the system's own, with your configuration, keys and known hosts. Given again it
/// changes only what is not as it should be.
///
/// The settings are this cluster's: store, queue and server as they hold here (RBEE_DATABASE_URL, RBEE_REDIS_URL,
/// RBEE_SERVER, or the configuration). Each node gets a token of its own, which fetches model files and no more: `rbee token
/// list` shows it as node-NAME. Making one takes the server's own token, or an admin's. Secrets travel through ssh and lie there in files that only the
/// user can read. A configuration that somebody changed there is left alone.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Examples:
  rbee deploy desk ann@old-server
  rbee deploy desk --models smollm2-135m --models hf:org/repo::file.gguf
  rbee deploy pi --binary target/aarch64-unknown-linux-musl/release/rbee
  rbee deploy desk --settings node.toml         a configuration for there, into which the addresses are written

Every address must be one that the other machine reaches: no localhost, unless it is the same machine.")]
pub struct DeployArgs {
    /// Machines, as ssh knows them
    #[arg(value_name = "HOST", required = true)]
    pub hosts: Vec<String>,

    /// Fetch this model there, and have it loaded at the start; may be given again and again
    #[arg(long, value_name = "REF")]
    pub models: Vec<String>,

    /// The node's name, of a single host [default: the host's name, as it is given here]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,

    /// A program for those machines, where this one does not fit; may be given again and again
    #[arg(long, value_name = "FILE")]
    pub binary: Vec<PathBuf>,

    /// A configuration for those machines, into which addresses, secrets and name are written
    #[arg(long, value_name = "FILE")]
    pub settings: Option<PathBuf>,

    /// Seconds that a node may take to join
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds::parse)]
    pub wait: std::time::Duration,

    #[command(flatten)]
    pub home: HomeArgs,

    #[command(flatten)]
    pub remote: RemoteArgs,
}

/// What `rbee install --json` says there.
#[derive(Debug, Deserialize)]
pub struct Installed {
    pub config: Written,
    /// What ran was started again, or will be.
    pub restarted: bool,
    pub runner: Option<Runner>,
}

/// Deploys to one machine after the other. One that fails does not hold up the others.
pub async fn run(context: &Context, args: DeployArgs) -> Outcome {
    if args.name.is_some() && args.hosts.len() > 1 {
        return Err(Failure::usage(
            "--name is for a single host: nodes need names of their own",
        ));
    }
    let hosts = args.hosts.iter().map(|name| Host::new(name, &args.remote));
    let hosts = hosts.collect::<Result<Vec<Host>, Failure>>()?;
    let client = Client::open(context)?;
    let common = settings::Common::gather(context, &client, &args)?;
    let programs = programs(&args.binary)?;
    let mut failed = Vec::new();
    for host in &hosts {
        let work = one(context, &args, host, &client, &common, &programs);
        let kept = "interrupted: the same command goes on";
        match context.interrupt.or(kept, work).await {
            Ok(()) => {}
            Err(stop @ (Failure::Interrupted(_) | Failure::NoServer(_))) => return Err(stop),
            Err(failure) => {
                let sentence = failure.sentence().unwrap_or_default();
                let reason = sentence.trim_start_matches("error: ");
                context.talk.line(&format!("{}: {reason}", host.name()));
                failed.push(host.name());
            }
        }
    }
    match failed.is_empty() {
        true => Ok(ExitCode::Success),
        false => Err(anyhow!("not deployed: {}", failed.join(", ")).into()),
    }
}

async fn one(
    context: &Context,
    args: &DeployArgs,
    host: &Host,
    client: &Client,
    common: &settings::Common,
    programs: &[Program],
) -> Result<(), Failure> {
    let say = |what: &str| context.talk.note(&format!("{}: {what}", host.name()));
    let far = Far::look(host, &args.remote).await?;
    say(&format!("{} on {}", far.system, far.machine));
    let program = fitting(programs, &far)?;
    let name = args.name.as_deref().unwrap_or(host.node_name());
    let before = nodes_of(client, name).await?;
    let token = token::token_of(client, host, name).await?;
    let settings = common.settings(name, &args.models, token.as_deref())?;
    let place = bring(context, host, &far, program).await?;
    for model in &args.models {
        say(&format!("fetching {model}"));
        let fetched = host
            .run(&[&place, "models", "pull", model], Input::Nothing)
            .await?;
        fetched.success(&format!("fetching {model}"))?;
    }
    let words = [
        &place,
        "install",
        "--user",
        "--enable",
        "worker",
        "--settings",
        "--json",
    ];
    let text = serde_json::to_string(&settings).context("settings are JSON")?;
    let answer = host.run(&words, Input::Text(&text)).await?;
    for line in answer
        .stderr
        .lines()
        .filter(|line| line.starts_with("warning: "))
    {
        context.talk.warn(&format!(
            "{}: {}",
            host.name(),
            line.trim_start_matches("warning: ")
        ));
    }
    let said = answer.success("installing")?;
    clear(host, &far, &place).await?;
    let installed: Installed = serde_json::from_str(said.lines().last().unwrap_or_default())
        .context("rbee there did not say what it installed")?;
    if installed.config == Written::Kept {
        context.talk.warn(&format!(
            "{}: its configuration was changed there, and is left as it is",
            host.name()
        ));
    }
    if let Some(runner) = installed.runner {
        say(&format!(
            "rbee is installed, the worker runs by {}",
            runner.name()
        ));
    }
    let gone = if installed.restarted {
        before
    } else {
        Vec::new()
    };
    match until_joined(client, name, &gone, &["starting"], args.wait).await? {
        Some(node) => say(&format!("node {name} has joined, {}", node.state)),
        None => {
            let seconds = args.wait.as_secs();
            let usual = far.usual_place();
            let words = [&usual, "service", "log", "worker", "--lines", "5"];
            let log = host.run(&words, Input::Nothing).await;
            let log = log.map(|answer| answer.stdout).unwrap_or_default();
            return Err(anyhow!(
                "node {name} did not join in {seconds} s; its last words there: {}",
                log.trim()
            )
            .into());
        }
    }
    Ok(())
}
