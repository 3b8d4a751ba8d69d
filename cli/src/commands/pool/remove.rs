//! `rbee pool remove`: machines that shall be nodes no more.

use super::{RemoveArgs, drain, node_name};
use crate::client::Client;
use crate::commands::Context;
use crate::commands::deploy::{nodes_of, revoke_token};
use crate::exit_code::ExitCode;
use crate::failure::{Failure, Outcome};
use crate::remote::{Far, Host, Input, RemoteArgs};

/// Removes one machine after the other.
pub async fn run(context: &Context, remote: &RemoteArgs, args: &RemoveArgs) -> Outcome {
    let hosts = args.hosts.iter().map(|name| Host::new(name, remote));
    let hosts = hosts.collect::<Result<Vec<Host>, Failure>>()?;
    let client = Client::open(context)?;
    for host in &hosts {
        one(context, remote, args, &client, host).await?;
    }
    Ok(ExitCode::Success)
}

async fn one(
    context: &Context,
    remote: &RemoteArgs,
    args: &RemoveArgs,
    client: &Client,
    host: &Host,
) -> Result<(), Failure> {
    let say = |what: &str| context.talk.note(&format!("{}: {what}", host.name()));
    let far = Far::look(host, remote).await?;
    let name = node_name(host, &far).await?;
    let runs = !nodes_of(client, &name).await?.is_empty();
    if runs {
        drain::wish(client, &name, "drain").await?;
        say(&format!("{name} finishes what it has"));
        if !drain::until_idle(client, &name, args.drain).await? {
            say("still has jobs: they are given back, and run elsewhere");
        }
    }
    let words = [far.program()?, "install", "--user", "--uninstall"];
    let removed = host.run(&words, Input::Nothing).await;
    // A wish to drain holds for later processes too: it goes, whatever has happened.
    if runs {
        drain::wish(client, &name, "undrain").await?;
    }
    removed?.success("removing rbee there")?;
    if client.token().is_some() && revoke_token(client, &name).await? {
        say("its token is revoked");
    }
    say(&format!(
        "{name} is no node any more; models stay in the data directory there"
    ));
    Ok(())
}
