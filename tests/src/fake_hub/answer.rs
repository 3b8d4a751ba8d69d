//! What the fake hub and its CDN answer.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use futures_util::stream;
use serde_json::json;
use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::{COMMIT, Fault, Inner, PIECE, Shared};
fn refuse(status: StatusCode, code: &str) -> Response<Body> {
    let mut response = Response::new(Body::from(format!("{{\"error\":\"{code}\"}}")));
    *response.status_mut() = status;
    if !code.is_empty() {
        response.headers_mut().insert(
            "x-error-code",
            HeaderValue::from_str(code).expect("a plain code"),
        );
    }
    response
}

fn status_fault(status: u16, retry_after: Option<u32>) -> Response<Body> {
    let mut response = refuse(StatusCode::from_u16(status).expect("a valid status"), "");
    if let Some(seconds) = retry_after {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// What the hub says to one who may not read a repository; `None` to one who may.
fn refusal_of(inner: &Inner, repo: &str, headers: &HeaderMap) -> Option<Response<Body>> {
    let token = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .map(|value| value.trim_start_matches("Bearer ").to_owned());
    let known = token
        .as_ref()
        .is_some_and(|token| inner.tokens.contains(token));
    if token.is_some() && !known {
        return Some(refuse(StatusCode::UNAUTHORIZED, ""));
    }
    match inner.repos.get(repo) {
        None if known => Some(refuse(StatusCode::NOT_FOUND, "RepoNotFound")),
        // The hub does not tell strangers which private repositories exist.
        None => Some(refuse(StatusCode::UNAUTHORIZED, "RepoNotFound")),
        Some(repo) if repo.gated && !known => Some(refuse(StatusCode::UNAUTHORIZED, "GatedRepo")),
        Some(_) => None,
    }
}

pub(super) async fn hub(State(shared): State<Arc<Shared>>, request: Request) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let headers = request.headers().clone();
    shared.note(false, &path, &headers);
    let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    match segments.as_slice() {
        ["api", "models", org, name, "revision", revision] => {
            list(&shared, &format!("{org}/{name}"), revision, &headers)
        }
        [org, name, "resolve", revision, file @ ..] => resolve(
            &shared,
            &format!("{org}/{name}"),
            revision,
            &file.join("/"),
            &headers,
        ),
        _ => refuse(StatusCode::NOT_FOUND, ""),
    }
}

fn known_revision(revision: &str) -> bool {
    revision == "main" || revision == COMMIT
}

fn list(shared: &Shared, repo: &str, revision: &str, headers: &HeaderMap) -> Response<Body> {
    if let Some(Fault::Status(status, retry_after)) = shared.take_fault("api") {
        return status_fault(status, retry_after);
    }
    let inner = shared.inner();
    if let Some(refusal) = refusal_of(&inner, repo, headers) {
        return refusal;
    }
    if !known_revision(revision) {
        return refuse(StatusCode::NOT_FOUND, "RevisionNotFound");
    }
    let repo_files = &inner.repos[repo];
    let mut siblings = repo_files.extra_siblings.clone();
    for (path, content, large) in &repo_files.files {
        let mut sibling =
            json!({"rfilename": path, "size": content.len(), "blobId": git_oid(content)});
        if *large {
            let sha256 = hex::encode(Sha256::digest(content.as_slice()));
            sibling["lfs"] = json!({"sha256": sha256, "size": content.len(), "pointerSize": 134});
        }
        siblings.push(sibling);
    }
    let body = json!({"id": repo, "sha": COMMIT, "gated": false, "siblings": siblings});
    Response::new(Body::from(body.to_string()))
}

fn git_oid(content: &[u8]) -> String {
    let mut hasher = Sha1::new();
    hasher.update(format!("blob {}\0", content.len()));
    hasher.update(content);
    hex::encode(hasher.finalize())
}

fn resolve(
    shared: &Arc<Shared>,
    repo: &str,
    revision: &str,
    path: &str,
    headers: &HeaderMap,
) -> Response<Body> {
    let (content, large, generation) = {
        let inner = shared.inner();
        if let Some(refusal) = refusal_of(&inner, repo, headers) {
            return refusal;
        }
        if !known_revision(revision) {
            return refuse(StatusCode::NOT_FOUND, "RevisionNotFound");
        }
        let Some((_, content, large)) = inner.repos[repo]
            .files
            .iter()
            .find(|(name, _, _)| name == path)
        else {
            return refuse(StatusCode::NOT_FOUND, "EntryNotFound");
        };
        (content.clone(), *large, inner.generation)
    };
    if !large {
        return serve_file(shared, path, &content, generation, headers);
    }
    let port = *shared.cdn_port.lock().expect("no panic under the lock");
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::FOUND;
    let location = format!("http://127.0.0.1:{port}/{repo}/{path}?signature=secret");
    let fields = response.headers_mut();
    fields.insert(
        header::LOCATION,
        HeaderValue::from_str(&location).expect("a plain address"),
    );
    fields.insert("x-repo-commit", HeaderValue::from_static(COMMIT));
    fields.insert("x-linked-size", HeaderValue::from(content.len()));
    let etag = format!("\"{}\"", hex::encode(Sha256::digest(content.as_slice())));
    fields.insert(
        "x-linked-etag",
        HeaderValue::from_str(&etag).expect("hex digits"),
    );
    response
}

pub(super) async fn cdn(State(shared): State<Arc<Shared>>, request: Request) -> Response<Body> {
    let path = request.uri().path().trim_start_matches('/').to_owned();
    let headers = request.headers().clone();
    shared.note(true, &path, &headers);
    // As storage does that has signed addresses: two kinds of credentials are an error.
    if headers.contains_key(header::AUTHORIZATION) {
        return refuse(StatusCode::BAD_REQUEST, "");
    }
    if request.uri().query() != Some("signature=secret") {
        return refuse(StatusCode::FORBIDDEN, "");
    }
    let mut held = shared.held.subscribe();
    // The sender lives as long as the server.
    let _ = held.wait_for(|held| !held).await;
    let mut parts = path.splitn(3, '/');
    let (org, name, file) = (
        parts.next().unwrap_or(""),
        parts.next().unwrap_or(""),
        parts.next().unwrap_or("").to_owned(),
    );
    let found = {
        let inner = shared.inner();
        let repo = inner.repos.get(&format!("{org}/{name}"));
        let found = repo.and_then(|repo| repo.files.iter().find(|(path, _, _)| *path == file));
        found.map(|(_, content, _)| (content.clone(), inner.generation))
    };
    match found {
        Some((content, generation)) => serve_file(&shared, &file, &content, generation, &headers),
        None => refuse(StatusCode::NOT_FOUND, ""),
    }
}

fn serve_file(
    shared: &Arc<Shared>,
    path: &str,
    content: &Arc<Vec<u8>>,
    generation: u32,
    headers: &HeaderMap,
) -> Response<Body> {
    let fault = shared.take_fault(path);
    if let Some(Fault::Status(status, retry_after)) = fault {
        return status_fault(status, retry_after);
    }
    let mut bytes = content.as_ref().clone();
    match fault {
        Some(Fault::Flip(at)) => bytes[at] ^= 1,
        Some(Fault::Short(len)) => bytes.truncate(len),
        _ => {}
    }
    let etag = format!("\"{}-{generation}\"", git_oid(content));
    let range = wanted_range(headers, &etag).filter(|_| !matches!(fault, Some(Fault::IgnoreRange)));
    let total = bytes.len();
    if range.is_some_and(|start| start >= total) {
        let mut response = refuse(StatusCode::RANGE_NOT_SATISFIABLE, "");
        let field = HeaderValue::from_str(&format!("bytes */{total}")).expect("digits");
        response.headers_mut().insert(header::CONTENT_RANGE, field);
        return response;
    }
    let start = match (range, &fault) {
        (Some(start), Some(Fault::WrongRange)) => start.saturating_sub(1),
        (start, _) => start.unwrap_or(0),
    };
    let cut = match fault {
        Some(Fault::CutAfter(len)) => Some(len),
        _ => None,
    };
    let mut response = Response::new(body(shared, path, bytes.split_off(start), cut));
    let fields = response.headers_mut();
    fields.insert(
        header::ETAG,
        HeaderValue::from_str(&etag).expect("a plain tag"),
    );
    fields.insert(header::CONTENT_LENGTH, HeaderValue::from(total - start));
    if range.is_some() {
        let field = format!("bytes {start}-{}/{total}", total - 1);
        fields.insert(
            header::CONTENT_RANGE,
            HeaderValue::from_str(&field).expect("digits"),
        );
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    response
}

/// Where the asked range begins; `None` for the whole file, also when `If-Range` names another file.
fn wanted_range(headers: &HeaderMap, etag: &str) -> Option<usize> {
    let range = headers.get(header::RANGE)?.to_str().ok()?;
    let start = range
        .strip_prefix("bytes=")?
        .strip_suffix('-')?
        .parse()
        .ok()?;
    let same = headers
        .get(header::IF_RANGE)
        .is_none_or(|value| value.as_bytes() == etag.as_bytes());
    same.then_some(start)
}

/// A body in pieces that counts what is sent, and breaks off after `cut` bytes.
fn body(shared: &Arc<Shared>, path: &str, bytes: Vec<u8>, cut: Option<usize>) -> Body {
    let (shared, path) = (shared.clone(), path.to_owned());
    let end = cut.map_or(bytes.len(), |cut| cut.min(bytes.len()));
    let breaks = cut.is_some();
    let bytes = Bytes::from(bytes);
    let pieces = stream::unfold(0, move |sent| {
        let (shared, path, bytes) = (shared.clone(), path.clone(), bytes.clone());
        async move {
            // Lets the connection write out what it has before the next piece, or the break, comes.
            tokio::task::yield_now().await;
            if sent >= end {
                return breaks.then(|| (Err(std::io::Error::other("cut")), usize::MAX));
            }
            let piece = bytes.slice(sent..(sent + PIECE).min(end));
            *shared.inner().served.entry(path).or_default() += piece.len() as u64;
            let next = sent + piece.len();
            Some((Ok(piece), next))
        }
    });
    Body::from_stream(pieces)
}
