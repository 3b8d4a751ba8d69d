//! Who makes a request, and what that means for what they see.

use super::super::OWNER;
use super::super::error::ApiError;
use axum::extract::FromRequestParts;
use axum::http::Method;
use axum::http::request::Parts;
use rbee_queue::TokenId;
use rbee_queue::token::{Quota, Role, Token};

/// What stands before the digest in the path of a model file.
const BLOBS: &str = "/v1/models/blobs/";

/// The owner of a token that reads the batches of all.
pub const EVERYBODY: &str = "*";

/// Who makes a request. Every handler that touches what belongs to somebody takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// What they may do.
    pub role: Role,
    /// Bounds of their use.
    pub quota: Quota,
    /// The token that they showed; `None`: the server's own.
    pub token: Option<TokenId>,
    owner: String,
}

impl Caller {
    /// The bearer of the server's own token.
    pub fn root() -> Caller {
        Caller {
            role: Role::Admin,
            quota: Quota::default(),
            token: None,
            owner: OWNER.to_owned(),
        }
    }

    /// Whose the batches are that they make.
    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// Whose batches they see; `None`: everybody's. What belongs to somebody else is not there for them.
    pub fn sees(&self) -> Option<&str> {
        (self.role != Role::Admin && self.owner != EVERYBODY).then_some(self.owner.as_str())
    }

    /// Whether they see what belongs to `owner`.
    pub fn sees_owner(&self, owner: &str) -> bool {
        self.sees().is_none_or(|own| own == owner)
    }

    /// Whoever only reads changes nothing, whatever the route, and a node sees nothing but model files and itself.
    pub(super) fn check_route(&self, method: &Method, path: &str) -> Result<(), ApiError> {
        let may = match self.role {
            Role::Admin | Role::Submit => true,
            Role::Read => method.is_safe(),
            Role::Node => method.is_safe() && is_for_nodes(path),
        };
        match (may, self.role) {
            (true, _) => Ok(()),
            (false, Role::Node) => Err(ApiError::forbidden(
                "this token is a node's, which fetches model files and no more: `rbee token create --role submit` makes \
                 one that does more",
            )),
            (false, _) => Err(ApiError::forbidden(
                "this token only reads: `rbee token create --role submit` makes one that does more",
            )),
        }
    }
}

/// Whether a node has business there: with what it may do, and with model files.
fn is_for_nodes(path: &str) -> bool {
    let blob = path.strip_prefix(BLOBS);
    path == "/v1/tokens/self" || blob.is_some_and(|digest| !digest.contains('/'))
}

impl From<&Token> for Caller {
    fn from(token: &Token) -> Caller {
        Caller {
            role: token.role,
            quota: token.quota,
            token: Some(token.id.clone()),
            owner: token.owner.clone(),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Caller, ApiError> {
        let caller = parts.extensions.get::<Caller>().cloned();
        caller.ok_or_else(|| ApiError::internal("a route was reached past the door"))
    }
}

/// A caller who may do everything: a handler that takes it is for admins.
#[derive(Clone, Debug)]
pub struct Admin;

impl<S: Sync> FromRequestParts<S> for Admin {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Admin, ApiError> {
        match Caller::from_request_parts(parts, state).await?.role {
            Role::Admin => Ok(Admin),
            Role::Submit | Role::Read | Role::Node => Err(ApiError::forbidden(
                "this wants a token with the role admin, as the server's own is",
            )),
        }
    }
}

/// A caller who sees what belongs to all.
#[derive(Clone, Debug)]
pub struct SeesAll;

impl<S: Sync> FromRequestParts<S> for SeesAll {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<SeesAll, ApiError> {
        match Caller::from_request_parts(parts, state).await?.sees() {
            None => Ok(SeesAll),
            Some(_) => Err(ApiError::forbidden(
                "this token sees the batches of one owner only, and this belongs to none",
            )),
        }
    }
}
