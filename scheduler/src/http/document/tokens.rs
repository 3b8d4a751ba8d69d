//! Tokens, and what the dashboard looks at.

#![expect(
    dead_code,
    reason = "these functions carry descriptions and are never called"
)]

use super::Refused;
use super::bodies::TokenRequest;

#[utoipa::path(
    get,
    path = "/v1/tokens",
    tag = "cluster",
    summary = "The tokens that are good, without what they are",
    responses((status = 200, description = "All of them", body = Value), Refused)
)]
pub fn list_tokens() {}

#[utoipa::path(
    get,
    path = "/v1/tokens/self",
    tag = "cluster",
    summary = "What is known of the token that is shown",
    responses((status = 200, description = "It, but for the server's own", body = Value), Refused)
)]
pub fn own_token() {}

#[utoipa::path(
    post,
    path = "/v1/tokens",
    tag = "cluster",
    summary = "Make a token, which is told this once",
    request_body = TokenRequest,
    responses((status = 201, description = "The token", body = Value), Refused)
)]
pub fn create_token() {}

#[utoipa::path(
    delete,
    path = "/v1/tokens/{id}",
    tag = "cluster",
    summary = "Revoke a token",
    params(("id" = String, Path, description = "Its id or name")),
    responses((status = 200, description = "It opens nothing any more", body = Value), Refused)
)]
pub fn revoke_token() {}

#[utoipa::path(
    post,
    path = "/v1/tokens/links",
    tag = "cluster",
    summary = "Make a link by which a browser enters once",
    responses((status = 200, description = "The link", body = Value), Refused)
)]
pub fn make_link() {}

#[utoipa::path(
    get,
    path = "/v1/activity",
    tag = "cluster",
    summary = "Speeds and waiting jobs over the last minutes",
    responses((status = 200, description = "Samples", body = Value), Refused)
)]
pub fn activity() {}

#[utoipa::path(
    get,
    path = "/metrics",
    tag = "cluster",
    summary = "Figures for Prometheus",
    responses((status = 200, description = "The figures", body = String, content_type = "application/openmetrics-text"), Refused)
)]
pub fn metrics() {}
