//! `rbee pool upgrade`: another version of rbee on each machine, one after the other.

use anyhow::anyhow;

use super::{UpgradeArgs, drain, node_name};
use crate::client::Client;
use crate::commands::Context;
use crate::commands::deploy::{bring, clear, fitting, nodes_of, programs, until_joined};
use crate::exit_code::ExitCode;
use crate::failure::{Failure, Outcome};
use crate::remote::{Far, Host, Input, Program, RemoteArgs, sha256_hex};

/// Upgrades one machine after the other, and ends at the first that does not come back.
pub async fn run(context: &Context, remote: &RemoteArgs, args: &UpgradeArgs) -> Outcome {
    let hosts = args.hosts.iter().map(|name| Host::new(name, remote));
    let hosts = hosts.collect::<Result<Vec<Host>, Failure>>()?;
    let client = Client::open(context)?;
    let programs = programs(&args.binary)?;
    for (at, host) in hosts.iter().enumerate() {
        let upgrade = Upgrade {
            context,
            args,
            host,
            client: &client,
        };
        let far = Far::look(host, remote).await?;
        let program = fitting(&programs, &far)?;
        if let Err(failure) = upgrade.run(&far, program).await {
            let left: Vec<&str> = hosts[at + 1..].iter().map(Host::name).collect();
            if !left.is_empty() {
                context
                    .talk
                    .line(&format!("not touched: {}", left.join(", ")));
            }
            return Err(failure);
        }
    }
    Ok(ExitCode::Success)
}

/// The upgrade of one machine.
struct Upgrade<'a> {
    context: &'a Context,
    args: &'a UpgradeArgs,
    host: &'a Host,
    client: &'a Client,
}

impl Upgrade<'_> {
    fn say(&self, what: &str) {
        self.context
            .talk
            .note(&format!("{}: {what}", self.host.name()));
    }

    async fn run(&self, far: &Far, program: &Program) -> Result<(), Failure> {
        if sha256_hex(&program.bytes) == far.installed_sha256 {
            self.say("has this program already");
            return Ok(());
        }
        let name = node_name(self.host, far).await?;
        // Before the node is drained: copying takes a while, and the node may compute meanwhile.
        let place = bring(self.context, self.host, far, program).await?;
        let before = nodes_of(self.client, &name).await?;
        if !before.is_empty() {
            drain::wish(self.client, &name, "drain").await?;
            self.say(&format!("{name} finishes what it has"));
            if !drain::until_idle(self.client, &name, self.args.drain).await? {
                self.say("still has jobs: they are given back, and run elsewhere");
            }
        }
        let replaced = self.replace(far, &place).await;
        // A wish to drain holds for later processes too: it goes, whatever has happened.
        if !before.is_empty() {
            drain::wish(self.client, &name, "undrain").await?;
        }
        replaced?;
        if before.is_empty() {
            self.say("is upgraded; no node of it runs");
            return Ok(());
        }
        match until_joined(self.client, &name, &before, &["starting", "draining"], self.args.wait).await? {
            Some(node) => {
                self.say(&format!("{name} is back, {}, version {}", node.state, node.version));
                Ok(())
            }
            None => Err(anyhow!(
                "{}: node {name} did not come back in {} s: `rbee service log worker` there says why",
                self.host.name(),
                self.args.wait.as_secs()
            )
            .into()),
        }
    }

    /// Installs what was brought, which starts the service again.
    async fn replace(&self, far: &Far, place: &str) -> Result<(), Failure> {
        let words = [place, "install", "--user", "--json"];
        let answer = self.host.run(&words, Input::Nothing).await?;
        answer.success("installing")?;
        clear(self.host, far, place).await?;
        Ok(())
    }
}
