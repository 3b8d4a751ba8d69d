//! `rbee token`: who may speak to the server.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use rbee_queue::token::Role;
use rbee_scheduler::http::types::{DashboardLink, Listing, NewTokenSpec, TokenMade, TokenView};
use reqwest::Method;
use serde_json::Value;

use crate::age;
use crate::client::{Client, TOKEN_VARIABLE};
use crate::commands::Context;
use crate::exit_code::ExitCode;
use crate::failure::{Failure, Outcome};
use crate::moment;
use crate::secrets;
use crate::server_token;
use crate::table;

/// Show, make and revoke the tokens by which clients speak to the server
///
/// The server has a token of its own, which may do everything: that of RBEE_API_TOKEN, or one that it made at its first
/// start. Tokens that are made here are for others: each has a role, and a name whose batches it makes and sees; another's
/// batches are not there for it.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Examples:
  rbee token show                                       the server's own, for RBEE_API_TOKEN elsewhere
  rbee token create ann                                 ann submits, and sees her own batches only
  rbee token create grafana --role read --expires 90d
  rbee token create ci --max-queued 10000 --requests-per-second 20
  rbee token list
  rbee token revoke ann
  rbee token link                                       opens the dashboard in a browser, once

Roles: `submit` makes, changes and reads its own batches; `read` changes nothing, and sees the batches of all unless
--owner says whose; `node` fetches model files, which is all that `rbee worker` asks the server for (`rbee deploy` makes one for
each node); `admin` does everything. The server keeps a digest only: what `create` prints is told this once.")]
pub struct TokenArgs {
    #[command(subcommand)]
    pub command: TokenCommand,
}

/// What is done with tokens.
#[derive(Debug, Clone, Subcommand)]
pub enum TokenCommand {
    /// Print the token that this user's commands show
    Show,
    /// Make a token, and print it
    Create(CreateArgs),
    /// List the tokens that are good, without their texts
    List {
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Revoke a token: no server takes it any more, within a second
    Revoke {
        /// Its name or id
        #[arg(value_name = "NAME")]
        token: String,
    },
    /// Print a link that opens the dashboard in a browser, once
    Link,
}

/// What a new token is good for.
#[derive(Debug, Clone, Args)]
pub struct CreateArgs {
    /// Its name: no other has it
    #[arg(value_name = "NAME")]
    pub name: String,

    /// What it may do
    #[arg(long, value_enum, default_value_t = RoleArg::Submit)]
    pub role: RoleArg,

    /// Whose batches it makes and sees [default: NAME's; for `read` everybody's]
    #[arg(long, value_name = "OWNER")]
    pub owner: Option<String>,

    /// Unfinished jobs that its owner may have at once
    #[arg(long, value_name = "JOBS", value_parser = clap::value_parser!(u64).range(1..))]
    pub max_queued: Option<u64>,

    /// Requests that it may make in a second, on each server
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub requests_per_second: Option<u32>,

    /// How long it is good: 12h, 30d, 2w [default: until it is revoked]
    #[arg(long, value_name = "TIME", value_parser = age::parse)]
    pub expires: Option<Duration>,

    /// All that is known of it, as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// A role as a flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RoleArg {
    /// Everything, to everything
    Admin,
    /// To make, change and read batches of its owner
    Submit,
    /// To read, and no more
    Read,
    /// To fetch model files, as a node does, and no more
    Node,
}

impl From<RoleArg> for Role {
    fn from(role: RoleArg) -> Role {
        match role {
            RoleArg::Admin => Role::Admin,
            RoleArg::Submit => Role::Submit,
            RoleArg::Read => Role::Read,
            RoleArg::Node => Role::Node,
        }
    }
}

/// Does what is wanted. Tokens are data, and go to stdout.
pub async fn run(context: &Context, args: TokenArgs) -> Outcome {
    match args.command {
        TokenCommand::Show => table::print([own(context)?])?,
        TokenCommand::Create(args) => create(context, args).await?,
        TokenCommand::List { json } => list(context, json).await?,
        TokenCommand::Revoke { token } => {
            let client = Client::open(context)?;
            let request = client.request(Method::DELETE, &["v1", "tokens", &token]);
            client.json::<Value>(request).await?;
            context.talk.note(&format!("{token} is revoked"));
        }
        TokenCommand::Link => {
            let client = Client::open(context)?;
            let request = client.request(Method::POST, &["v1", "tokens", "links"]);
            let link: DashboardLink = client.json(request).await?;
            table::print([format!("{}{}", client.address(), link.path)])?;
        }
    }
    Ok(ExitCode::Success)
}

/// The token that this user's commands show.
fn own(context: &Context) -> Result<String, Failure> {
    match secrets::read(TOKEN_VARIABLE)? {
        Some(token) => Ok(token),
        None => server_token::read(&context.data()?)?.ok_or_else(|| {
            Failure::usage(format!(
                "there is no token yet: `rbee serve` makes one at its first start, unless {TOKEN_VARIABLE} is set"
            ))
        }),
    }
}

async fn create(context: &Context, args: CreateArgs) -> Result<(), Failure> {
    let client = Client::open(context)?;
    let spec = NewTokenSpec {
        name: args.name,
        role: args.role.into(),
        owner: args.owner,
        max_queued: args.max_queued,
        requests_per_s: args.requests_per_second,
        expires_in_s: args.expires.map(|time| time.as_secs()),
    };
    let request = client.request(Method::POST, &["v1", "tokens"]).json(&spec);
    if args.json {
        let made: Value = client.json(request).await?;
        return table::print([made.to_string()]);
    }
    let made: TokenMade = client.json(request).await?;
    table::print([&made.token])?;
    context.talk.note(&format!(
        "{} ({}) is told this once: set {TOKEN_VARIABLE} to it where it is used",
        made.view.name, made.view.role
    ));
    Ok(())
}

async fn list(context: &Context, json: bool) -> Result<(), Failure> {
    let client = Client::open(context)?;
    let request = client.request(Method::GET, &["v1", "tokens"]);
    if json {
        let tokens: Listing<Value> = client.json(request).await?;
        return table::print(tokens.data.iter().map(Value::to_string));
    }
    let tokens: Listing<TokenView> = client.json(request).await?;
    if tokens.data.is_empty() {
        context
            .talk
            .note("there is no token but the server's own: `rbee token create NAME` makes one");
        return Ok(());
    }
    let rows: Vec<Vec<String>> = tokens.data.iter().map(row).collect();
    let header = [
        "NAME",
        "ROLE",
        "OWNER",
        "QUEUED",
        "REQUESTS/S",
        "EXPIRES",
        "ID",
    ];
    table::print(table::lines(&header, &rows))
}

fn row(token: &TokenView) -> Vec<String> {
    let bound = |number: Option<u64>| number.map_or("any".to_owned(), |number| number.to_string());
    let expires = token
        .expires_at
        .map(|seconds| moment::utc(seconds * 1_000_000));
    vec![
        token.name.clone(),
        token.role.to_string(),
        match token.owner.as_str() {
            "*" => "everybody".to_owned(),
            owner => owner.to_owned(),
        },
        bound(token.max_queued),
        bound(token.requests_per_s.map(u64::from)),
        expires.unwrap_or_else(|| "never".to_owned()),
        token.id.to_string(),
    ]
}
