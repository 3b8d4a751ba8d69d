//! The hub's listing of a repository: revision to commit, and each file with its size and digest.
//!
//! `GET /api/models/{repo}/revision/{revision}?blobs=true` gives `sha` (the commit) and `siblings` with `rfilename`,
//! `size`, `blobId` (git object id) and, for large files, `lfs.sha256`. Files are at
//! `/{repo}/resolve/{commit}/{path}`, which redirects large ones to a CDN.

use reqwest::{StatusCode, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::blob::Expected;
use super::error::ModelError;
use super::http::{Http, host_of, root_cause};
use super::manifest::parse_digest;
use super::reference::HubRef;
use super::retry::{Failure, FailureKind, Patience, Retries};
use super::safe_name::is_safe_path;

/// The longest listing that is read; the largest repositories' are a few megabytes.
const LISTING_BYTES_MAX: usize = 32 << 20;
/// The branch of a reference without a revision.
const DEFAULT_REVISION: &str = "main";

/// A repository at a commit.
#[derive(Debug, Clone)]
pub struct Listing {
    pub repo: String,
    pub commit: String,
    pub files: Vec<ListedFile>,
}

#[derive(Debug, Clone)]
pub struct ListedFile {
    /// A safe relative path.
    pub path: String,
    pub bytes: u64,
    pub sha256: Option<[u8; 32]>,
    pub git_oid: Option<String>,
}

#[derive(Deserialize)]
struct RepoAnswer {
    sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    #[serde(rename = "blobId")]
    blob_id: Option<String>,
    lfs: Option<Lfs>,
    /// Absent in the hub's answers; a mirror that lists links says so here.
    #[serde(rename = "type")]
    kind: Option<String>,
}

#[derive(Deserialize)]
struct Lfs {
    #[serde(alias = "oid")]
    sha256: Option<String>,
    size: Option<u64>,
}

/// Asks the hub what the reference stands for now.
pub async fn list(http: &Http, hub: &HubRef, patience: Patience) -> Result<Listing, ModelError> {
    let revision = hub.revision.as_deref().unwrap_or(DEFAULT_REVISION);
    let mut segments = vec!["api", "models"];
    segments.extend(hub.repo.split('/'));
    segments.extend(["revision", revision]);
    let mut url = http.options.url(&segments);
    url.set_query(Some("blobs=true"));
    let what = format!("{}@{revision}", hub.repo);
    let answer: RepoAnswer = get_json(http, &url, &what, patience).await?;
    check_listing(&hub.repo, answer, &host_of(&url))
}

fn check_listing(repo: &str, answer: RepoAnswer, host: &str) -> Result<Listing, ModelError> {
    let protocol = |reason: String| ModelError::Protocol {
        what: format!("the file list of {repo}"),
        host: host.to_owned(),
        reason,
    };
    let commit = answer.sha;
    if commit.len() != 40 || !commit.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(protocol("it names no commit".to_owned()));
    }
    let mut files = Vec::with_capacity(answer.siblings.len());
    for sibling in answer.siblings {
        let unsafe_name = || ModelError::UnsafeName {
            repo: repo.to_owned(),
            name: sibling.rfilename.clone(),
        };
        if !is_safe_path(&sibling.rfilename) {
            return Err(unsafe_name());
        }
        match sibling.kind.as_deref() {
            None | Some("file") => {}
            Some("directory") => continue,
            Some(_) => return Err(unsafe_name()),
        }
        let sha256 = match sibling.lfs.as_ref().and_then(|lfs| lfs.sha256.as_deref()) {
            Some(text) => {
                let digits = text
                    .strip_prefix("sha256:")
                    .unwrap_or(text)
                    .to_ascii_lowercase();
                Some(parse_digest(&digits).ok_or_else(|| {
                    protocol(format!("the sha256 of {} is no sha256", sibling.rfilename))
                })?)
            }
            None => None,
        };
        let bytes = sibling
            .lfs
            .as_ref()
            .and_then(|lfs| lfs.size)
            .or(sibling.size);
        // Files without a size or digest cannot be verified; they only matter when one of them is wanted.
        let (Some(bytes), true) = (bytes, sha256.is_some() || sibling.blob_id.is_some()) else {
            continue;
        };
        files.push(ListedFile {
            path: sibling.rfilename,
            bytes,
            sha256,
            git_oid: sibling.blob_id,
        });
    }
    Ok(Listing {
        repo: repo.to_owned(),
        commit,
        files,
    })
}

impl Listing {
    pub fn find(&self, path: &str) -> Option<&ListedFile> {
        self.files.iter().find(|file| file.path == path)
    }

    /// The URL of a file at this commit.
    pub fn url(&self, http: &Http, path: &str) -> Url {
        file_url(http, &self.repo, &self.commit, path)
    }
}

impl ListedFile {
    pub fn expected(&self) -> Expected {
        Expected {
            what: self.path.clone(),
            sha256: self.sha256,
            git_oid: self.git_oid.clone(),
            bytes: self.bytes,
        }
    }
}

/// Where the hub has a file of a repository at a revision.
pub fn file_url(http: &Http, repo: &str, revision: &str, path: &str) -> Url {
    let mut segments: Vec<&str> = repo.split('/').collect();
    segments.extend(["resolve", revision]);
    segments.extend(path.split('/'));
    http.options.url(&segments)
}

async fn get_json<T: DeserializeOwned>(
    http: &Http,
    url: &Url,
    what: &str,
    patience: Patience,
) -> Result<T, ModelError> {
    let mut retries = Retries::new(patience, &http.options);
    loop {
        match get_json_once(http, url, what, patience).await {
            Ok(value) => return Ok(value),
            Err(failure) => tokio::time::sleep(retries.after(failure)?).await,
        }
    }
}

async fn get_json_once<T: DeserializeOwned>(
    http: &Http,
    url: &Url,
    what: &str,
    patience: Patience,
) -> Result<T, Failure> {
    let host = host_of(url);
    let protocol = |reason: String| -> Failure {
        ModelError::Protocol {
            what: what.to_owned(),
            host: host.clone(),
            reason,
        }
        .into()
    };
    let mut response = http.get(url, None, what, patience).await?;
    if response.status() != StatusCode::OK {
        return Err(protocol(format!(
            "it answered with status {}",
            response.status().as_u16()
        )));
    }
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() > LISTING_BYTES_MAX => {
                return Err(protocol(format!(
                    "its file list is longer than {LISTING_BYTES_MAX} bytes"
                )));
            }
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => break,
            Err(e) => {
                let reason = root_cause(&e.without_url());
                let error = ModelError::Interrupted {
                    what: what.to_owned(),
                    host,
                    failures: 1,
                    reason,
                };
                return Err(Failure {
                    error,
                    kind: FailureKind::Passing { retry_after: None },
                });
            }
        }
    }
    serde_json::from_slice(&body)
        .map_err(|e| protocol(format!("it is not the JSON of a file list ({e})")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(siblings: &str) -> Result<Listing, ModelError> {
        let text = format!(r#"{{"sha":"{}","siblings":[{siblings}]}}"#, "a".repeat(40));
        check_listing("o/r", serde_json::from_str(&text).unwrap(), "hub")
    }

    #[test]
    fn hubs_listing_is_understood() {
        let listing = listing(&format!(
            r#"{{"rfilename":"config.json","size":12,"blobId":"{}"}},
               {{"rfilename":"m.gguf","size":99,"blobId":"x","lfs":{{"sha256":"{}","size":99,"pointerSize":134}}}},
               {{"rfilename":"no-size.bin"}}"#,
            "c".repeat(40),
            "d".repeat(64),
        ))
        .unwrap();
        assert_eq!(listing.files.len(), 2);
        assert_eq!(listing.find("m.gguf").unwrap().sha256, Some([0xdd; 32]));
        assert_eq!(listing.find("config.json").unwrap().sha256, None);
        assert_eq!(listing.find("config.json").unwrap().bytes, 12);
    }

    #[test]
    fn unsafe_names_links_and_bad_digests_are_refused() {
        for sibling in [
            r#"{"rfilename":"../x.gguf","size":1,"blobId":"a"}"#,
            r#"{"rfilename":"/etc/x.gguf","size":1,"blobId":"a"}"#,
            r#"{"rfilename":"a\\..\\x.gguf","size":1,"blobId":"a"}"#,
            r#"{"rfilename":"x.gguf","size":1,"blobId":"a","type":"symlink"}"#,
            r#"{"rfilename":"x.gguf","size":1,"lfs":{"sha256":"zz"}}"#,
        ] {
            assert!(listing(sibling).is_err(), "{sibling} passed");
        }
        let no_commit: RepoAnswer = serde_json::from_str(r#"{"sha":"main"}"#).unwrap();
        assert!(check_listing("o/r", no_commit, "hub").is_err());
    }
}
