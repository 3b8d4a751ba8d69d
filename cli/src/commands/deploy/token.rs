//! A node's own token: of the role `node`, made when the node is, kept as long as it is good, revoked when the node goes.

use rbee_queue::token::Role;
use rbee_scheduler::http::types::{Listing, NewTokenSpec, TokenMade, TokenView};
use reqwest::Method;
use serde_json::Value;

use crate::client::Client;
use crate::failure::Failure;
use crate::remote::{Host, Input};

/// What the names of nodes' tokens begin with.
const PREFIX: &str = "node-";
/// Characters of a token's name.
const NAME_MAX: usize = 64;
/// What tokens of the store begin with: login scripts may print too.
const MARK: &str = "rbee_";
/// Prints the token that a deploy wrote there.
const READ: &str =
    "cat \"${XDG_CONFIG_HOME:-$HOME/.config}/rbee/secrets/token\" 2>/dev/null || true";

/// What a node's token is called.
pub fn token_name(node: &str) -> String {
    let plain = |sign: char| match sign {
        sign if sign.is_ascii_alphanumeric() || ".-_@".contains(sign) => sign,
        _ => '-',
    };
    let name = node.chars().map(plain);
    PREFIX.chars().chain(name).take(NAME_MAX).collect()
}

/// The token that a node shows: the one that it has, if that is good, else a new one. `None`: the server asks for none.
pub async fn token_of(client: &Client, host: &Host, node: &str) -> Result<Option<String>, Failure> {
    if client.token().is_none() || asks_for_none(client).await? {
        return Ok(None);
    }
    let name = token_name(node);
    if let Some(text) = there(host).await?
        && is_good(client, &text, &name).await?
    {
        return Ok(Some(text));
    }
    revoke(client, node).await?;
    let spec = NewTokenSpec {
        name,
        role: Role::Node,
        owner: None,
        max_queued: None,
        requests_per_s: None,
        expires_in_s: None,
    };
    let request = client.request(Method::POST, &["v1", "tokens"]).json(&spec);
    let made: TokenMade = client.json(request).await?;
    Ok(Some(made.token))
}

/// Whether the server lets in everybody (`rbee serve --no-auth`): there a token means nothing, and none can be made.
async fn asks_for_none(client: &Client) -> Result<bool, Failure> {
    let anybody = client.without_token();
    match (anybody.send(anybody.request(Method::GET, &["v1", "tokens"]))).await {
        Ok(_) => Ok(true),
        Err(stop @ (Failure::NoServer(_) | Failure::Interrupted(_))) => Err(stop),
        Err(_) => Ok(false),
    }
}

/// Revokes a node's token. False: it has none.
pub async fn revoke(client: &Client, node: &str) -> Result<bool, Failure> {
    let name = token_name(node);
    let tokens: Listing<TokenView> = client
        .json(client.request(Method::GET, &["v1", "tokens"]))
        .await?;
    let token = tokens.data.iter().find(|token| token.name == name);
    let Some(token) = token else {
        return Ok(false);
    };
    let request = client.request(Method::DELETE, &["v1", "tokens", token.id.as_str()]);
    client.json::<Value>(request).await.map(|_| true)
}

async fn there(host: &Host) -> Result<Option<String>, Failure> {
    let answer = host.run(&["sh", "-c", READ], Input::Nothing).await?;
    let mut lines = answer.stdout.lines();
    Ok(lines
        .rfind(|line| line.starts_with(MARK))
        .map(str::to_owned))
}

/// Whether the server knows a token as this node's.
async fn is_good(client: &Client, text: &str, name: &str) -> Result<bool, Failure> {
    let theirs = client.with_token(text);
    let request = theirs.request(Method::GET, &["v1", "tokens", "self"]);
    match theirs.json::<TokenView>(request).await {
        Ok(view) => Ok(view.role == Role::Node && view.name == name),
        Err(stop @ (Failure::NoServer(_) | Failure::Interrupted(_))) => Err(stop),
        // It was revoked, or is the token of somebody else.
        Err(_) => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_tokens_are_plain_and_short() {
        assert_eq!(token_name("old-server.lan"), "node-old-server.lan");
        assert_eq!(token_name("fe80::1"), "node-fe80--1");
        assert_eq!(token_name(&"é".repeat(99)).len(), NAME_MAX);
    }
}
