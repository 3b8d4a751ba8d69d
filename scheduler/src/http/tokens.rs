//! Tokens: made, listed, revoked; and links by which a browser need not show one.

use super::auth::{Admin, Caller, EVERYBODY};
use super::error::ApiError;
use super::types::{DashboardLink, Listing, NewTokenSpec, TokenMade, TokenView};
use super::{OWNER, Server};
use crate::secret;
use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use rbee_queue::TokenId;
use rbee_queue::batch::INTERACTIVE_OWNER;
use rbee_queue::store::{NewToken, TokenAdded};
use rbee_queue::token::{Quota, Role, Token};
use serde_json::{Value, json};
use std::time::Duration;

/// What a token begins with, so that people and scanners of leaked secrets know it.
const PREFIX: &str = "rbee_";
/// Characters of a name or an owner.
const MAX_NAME: usize = 64;
/// Bounds of the jobs that an owner may have: as far as every client counts exactly.
const QUEUED: std::ops::RangeInclusive<u64> = 1..=(1 << 53) - 1;
/// The longest life of a token that ends: a hundred years.
const MAX_LIFE_S: u64 = 100 * 31_557_600;
/// Names that are routes of their own.
const TAKEN_NAMES: [&str; 2] = ["self", "links"];
/// Owners with a meaning of their own.
const TAKEN_OWNERS: [&str; 2] = [INTERACTIVE_OWNER, "run"];

/// `GET /v1/tokens`: those that are good, by name.
pub async fn list(
    State(server): State<Server>,
    _: Admin,
) -> Result<Json<Listing<TokenView>>, ApiError> {
    let tokens = server.batches.store().token_list().await?;
    let id = |token: Option<&Token>| token.map(|token| token.id.to_string());
    Ok(Json(Listing {
        object: "list".to_owned(),
        first_id: id(tokens.first()),
        last_id: id(tokens.last()),
        has_more: false,
        data: tokens.iter().map(TokenView::from).collect(),
    }))
}

/// `GET /v1/tokens/self`: what is known of the token that is shown.
pub async fn own(
    State(server): State<Server>,
    caller: Caller,
) -> Result<Json<TokenView>, ApiError> {
    let shown = caller.token.ok_or_else(|| {
        ApiError::not_found("this is the server's own token, or the server asks for none")
    })?;
    let tokens = server.batches.store().token_list().await?;
    let token = tokens.iter().find(|token| token.id == shown);
    let token = token.ok_or_else(|| ApiError::unauthorized("the token was revoked"))?;
    Ok(Json(TokenView::from(token)))
}

/// `POST /v1/tokens`: makes one, and tells it this once.
pub async fn create(
    State(server): State<Server>,
    _: Admin,
    body: Result<Json<NewTokenSpec>, JsonRejection>,
) -> Result<(StatusCode, Json<TokenMade>), ApiError> {
    let Json(wanted) =
        body.map_err(|error| ApiError::bad("invalid_token_spec", error.body_text()).about("body"))?;
    if server.auth.is_open() {
        return Err(ApiError::conflict(
            "no_auth",
            "this server asks for no token (--no-auth), so that one would mean nothing",
        ));
    }
    check_name(&wanted.name, "name")?;
    if TAKEN_NAMES.contains(&wanted.name.as_str()) {
        let message = format!("the name {} has a meaning of its own", wanted.name);
        return Err(ApiError::bad("invalid_token_spec", message).about("name"));
    }
    check_bounds(&wanted)?;
    let text = secret::random_text()
        .map_err(|error| ApiError::internal(format!("no secret can be made: {error}")))?;
    let text = format!("{PREFIX}{text}");
    let new = NewToken {
        id: TokenId::generate(),
        owner: owner_of(&wanted)?,
        role: wanted.role,
        digest: secret::digest(&text),
        quota: Quota {
            max_queued: wanted.max_queued,
            requests_per_s: wanted.requests_per_s,
        },
        lives: wanted.expires_in_s.map(Duration::from_secs),
        name: wanted.name,
    };
    let name = new.name.clone();
    match server.batches.store().token_add(new).await? {
        TokenAdded::Added(token) => {
            server.known_tokens.forget();
            tracing::info!(token = %token.id, name = %token.name, role = %token.role, "a token was made");
            let view = TokenView::from(token.as_ref());
            Ok((StatusCode::CREATED, Json(TokenMade { view, token: text })))
        }
        TokenAdded::NameTaken => Err(ApiError::conflict(
            "name_taken",
            format!("there is a token {name} already: revoke it first, or use another name"),
        )),
        TokenAdded::TooMany => Err(ApiError::conflict(
            "too_many_tokens",
            "there are too many tokens: revoke some first",
        )),
    }
}

/// `DELETE /v1/tokens/{id or name}`: it opens nothing any more, here at once and on other servers within a second.
pub async fn revoke(
    State(server): State<Server>,
    _: Admin,
    Path(wanted): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let store = server.batches.store();
    let tokens = store.token_list().await?;
    let token = tokens
        .iter()
        .find(|token| token.name == wanted || token.id.as_str() == wanted)
        .ok_or_else(|| {
            let wanted: String = wanted.chars().take(MAX_NAME).collect();
            ApiError::not_found(format!(
                "there is no token {wanted}: `rbee token list` shows those that are good"
            ))
        })?;
    store.token_remove(&token.id).await?;
    server.known_tokens.forget();
    tracing::info!(token = %token.id, name = %token.name, "a token was revoked");
    Ok(Json(
        json!({"id": token.id, "name": token.name, "object": "token", "deleted": true}),
    ))
}

/// `POST /v1/tokens/links`: a one-time link, good for whoever holds the server's own token.
pub async fn link(State(server): State<Server>, _: Admin) -> Result<Json<DashboardLink>, ApiError> {
    let link = server.auth.link();
    let path = link.map_err(|error| ApiError::internal(format!("no link can be made: {error}")))?;
    Ok(Json(DashboardLink {
        path: path.unwrap_or_else(|| "/".to_owned()),
    }))
}

fn owner_of(wanted: &NewTokenSpec) -> Result<String, ApiError> {
    let bad = |message: String| Err(ApiError::bad("invalid_token_spec", message).about("owner"));
    let owner = match (&wanted.owner, wanted.role) {
        (Some(owner), Role::Submit | Role::Read) => owner.clone(),
        (None, Role::Submit) => wanted.name.clone(),
        (None, Role::Read) => EVERYBODY.to_owned(),
        (None, Role::Admin) => OWNER.to_owned(),
        (None, Role::Node) => wanted.name.clone(),
        (Some(_), Role::Node) => {
            return bad("a node's token makes no batches, and has no owner".to_owned());
        }
        (Some(_), Role::Admin) => {
            return bad(
                "a token for admins belongs to nobody: it sees and does everything".to_owned(),
            );
        }
    };
    if owner == EVERYBODY {
        return match wanted.role {
            Role::Submit => bad("batches belong to one owner, not to everybody".to_owned()),
            Role::Admin | Role::Read | Role::Node => Ok(owner),
        };
    }
    if TAKEN_OWNERS.contains(&owner.as_str()) {
        return bad(format!(
            "the owner {owner} has a meaning of its own: use another name"
        ));
    }
    check_name(&owner, "owner")?;
    Ok(owner)
}

fn check_bounds(wanted: &NewTokenSpec) -> Result<(), ApiError> {
    let bad = |param: &'static str, message: String| {
        Err(ApiError::bad("invalid_token_spec", message).about(param))
    };
    let outside = |number: Option<u64>, range: &std::ops::RangeInclusive<u64>| {
        number.is_some_and(|number| !range.contains(&number))
    };
    if outside(wanted.max_queued, &QUEUED) {
        return bad(
            "max_queued",
            format!("max_queued: {} to {}", QUEUED.start(), QUEUED.end()),
        );
    }
    if wanted.requests_per_s == Some(0) {
        return bad("requests_per_s", "requests_per_s: 1 or more".to_owned());
    }
    if wanted
        .expires_in_s
        .is_some_and(|seconds| seconds > MAX_LIFE_S)
    {
        return bad(
            "expires_in_s",
            format!("expires_in_s: at most {MAX_LIFE_S}"),
        );
    }
    Ok(())
}

/// Names go into paths, lists and logs.
fn check_name(name: &str, param: &'static str) -> Result<(), ApiError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '@');
    match !name.is_empty() && name.len() <= MAX_NAME && name.chars().all(plain) {
        true => Ok(()),
        false => Err(ApiError::bad(
            "invalid_token_spec",
            format!(
                "{param}: 1 to {MAX_NAME} of the characters a-z, A-Z, 0-9, `.`, `_`, `-` and `@`"
            ),
        )
        .about(param)),
    }
}
