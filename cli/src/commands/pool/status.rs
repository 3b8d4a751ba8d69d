//! `rbee pool status`: what runs on each machine, as the machine and the server see it.

use serde_json::{Value, json};

use super::node_name;
use crate::client::Client;
use crate::commands::Context;
use crate::commands::deploy::alive;
use crate::exit_code::ExitCode;
use crate::failure::{Failure, Outcome};
use crate::remote::{Far, Host, Input, RemoteArgs};
use crate::table;

/// What is known of one machine.
struct Found {
    host: String,
    /// What went wrong on the way.
    trouble: Option<String>,
    version: Option<String>,
    /// `runs, by systemd --user`
    service: Option<String>,
    node: Option<String>,
    state: Option<&'static str>,
    running: Option<usize>,
}

/// Prints one line a machine. The exit code is 1 if anything cannot be asked or does not run.
pub async fn run(context: &Context, remote: &RemoteArgs, hosts: &[String], json: bool) -> Outcome {
    let hosts = hosts.iter().map(|name| Host::new(name, remote));
    let hosts = hosts.collect::<Result<Vec<Host>, Failure>>()?;
    let client = Client::open(context)?;
    let mut all = Vec::new();
    for host in &hosts {
        let mut found = Found {
            host: host.name().to_owned(),
            trouble: None,
            version: None,
            service: None,
            node: None,
            state: None,
            running: None,
        };
        if let Err(failure) = look(host, remote, &client, &mut found).await {
            let sentence = failure.sentence().unwrap_or_default();
            found.trouble = Some(sentence.trim_start_matches("error: ").to_owned());
        }
        all.push(found);
    }
    match json {
        true => table::print(all.iter().map(|found| as_json(found).to_string()))?,
        false => {
            let rows: Vec<Vec<String>> = all.iter().map(row).collect();
            let header = ["HOST", "VERSION", "SERVICE", "NODE", "STATE", "JOBS"];
            table::print(table::lines(&header, &rows))?;
        }
    }
    for found in &all {
        if let Some(trouble) = &found.trouble {
            context.talk.warn(&format!("{}: {trouble}", found.host));
        }
    }
    match all
        .iter()
        .all(|found| found.trouble.is_none() && found.state.is_some())
    {
        true => Ok(ExitCode::Success),
        false => Ok(ExitCode::Error),
    }
}

async fn look(
    host: &Host,
    remote: &RemoteArgs,
    client: &Client,
    found: &mut Found,
) -> Result<(), Failure> {
    let far = Far::look(host, remote).await?;
    let program = far.program()?;
    let words = [program, "service", "status", "worker", "--json"];
    // It exits with 1 where the service does not run, and says that as well.
    let answer = host.run(&words, Input::Nothing).await?;
    let service: Value = serde_json::from_str(answer.stdout.lines().next().unwrap_or_default())?;
    found.version = service["version"].as_str().map(str::to_owned);
    let runner = service["runner"].as_str().unwrap_or_default();
    found.service = Some(match service["running"].as_bool() {
        Some(true) => format!("runs ({runner})"),
        _ => "stopped".to_owned(),
    });
    let name = node_name(host, &far).await?;
    found.node = Some(name.clone());
    if let Some(node) = alive(client, &name).await?.pop() {
        found.state = Some(node.state);
        found.running = Some(node.running);
    }
    Ok(())
}

fn as_json(found: &Found) -> Value {
    json!({"host": found.host, "version": found.version, "service": found.service, "node": found.node,
           "state": found.state, "running": found.running, "trouble": found.trouble})
}

fn row(found: &Found) -> Vec<String> {
    let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
    vec![
        found.host.clone(),
        text(&found.version),
        text(&found.service),
        text(&found.node),
        found.state.unwrap_or("-").to_owned(),
        found
            .running
            .map_or("-".to_owned(), |jobs| jobs.to_string()),
    ]
}
