//! What the user means by the prompts of a schedule: files of the server, what is sent now, or a file that was sent before.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use rbee_queue::FileId;
use rbee_scheduler::http::types::{FileView, WantedSource};
use reqwest::{Method, Url};

use crate::client::Client;
use crate::failure::Failure;
use crate::output::DASH;

/// What stands before the id in the URL of a file that was sent.
const FILES: &str = "/v1/files/";
/// What may stand behind it.
const CONTENT: &str = "/content";

/// The prompts, and what the schedule is called after.
pub struct Source {
    pub wanted: WantedSource,
    pub name: String,
}

/// How the user said that the prompts are to be taken.
pub struct Said<'a> {
    pub input: &'a Path,
    pub freeze: bool,
    pub on_server: bool,
}

impl Said<'_> {
    /// What the server is to read, as far as this side can tell.
    pub async fn source(&self, client: &Client) -> Result<Source, Failure> {
        if let Some(file) = uploaded(self.input, client)? {
            let request = client.request(Method::GET, &["v1", "files", file.as_str()]);
            let view: FileView = client.json(request).await?;
            return Ok(Source {
                name: usual_name(Path::new(&view.filename)),
                wanted: WantedSource::Uploaded { file },
            });
        }
        let stdin = self.input.as_os_str() == DASH;
        let wanted = match self.on_server {
            true => files(self.input)?,
            false if !stdin && !self.freeze && client.is_here() => files(&absolute(self.input)?)?,
            false => kept(self.input),
        };
        Ok(Source {
            name: usual_name(self.input),
            wanted,
        })
    }
}

fn files(path: &Path) -> Result<WantedSource, Failure> {
    let pattern = text(path)?;
    Ok(WantedSource::Files { pattern })
}

/// The prompts as they are now.
pub fn kept(input: &Path) -> WantedSource {
    let name = match input.as_os_str() == DASH {
        true => "stdin".to_owned(),
        false => input
            .file_name()
            .unwrap_or(input.as_os_str())
            .to_string_lossy()
            .into_owned(),
    };
    WantedSource::Kept { name }
}

/// The file of the server that a URL or an id names; `None`: it names none, but a path.
fn uploaded(input: &Path, client: &Client) -> Result<Option<FileId>, Failure> {
    let Some(text) = input.to_str() else {
        return Ok(None);
    };
    if !text.starts_with("http://") && !text.starts_with("https://") {
        let id = text.parse().ok().filter(|_| !input.exists());
        return Ok(id);
    }
    let id = Url::parse(text)
        .ok()
        .filter(|url| is_at(url, client))
        .and_then(|url| file_of(url.path()));
    let address = client.address();
    id.map(Some).ok_or_else(|| {
        Failure::usage(format!(
            "{text} is no file of the server: a schedule reads {address}{FILES}file_…, and files and patterns on its disk"
        ))
    })
}

/// Whether a URL leads to the client's server: loopback has several names.
fn is_at(url: &Url, client: &Client) -> bool {
    let Ok(server) = Url::parse(client.address()) else {
        return false;
    };
    let both_here = client.is_here() && crate::client::is_here(url);
    (both_here || url.host_str() == server.host_str())
        && url.port_or_known_default() == server.port_or_known_default()
}

/// `file_…` of `/v1/files/file_…` and `/v1/files/file_…/content`.
fn file_of(path: &str) -> Option<FileId> {
    let (_, id) = path.rsplit_once(FILES)?;
    id.strip_suffix(CONTENT).unwrap_or(id).parse().ok()
}

/// A path as it is sent.
pub fn text(path: &Path) -> Result<String, Failure> {
    let text = path.to_str().map(str::to_owned);
    text.ok_or_else(|| Failure::usage(format!("{} is not valid UTF-8", path.display())))
}

/// From the root of the file system on, and without `..`.
pub fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    let absolute = std::path::absolute(path)
        .with_context(|| format!("cannot make sense of {}", path.display()))?;
    if !absolute.components().any(|part| part.as_os_str() == "..") {
        return Ok(absolute);
    }
    let parent = absolute.parent().unwrap_or(Path::new("/"));
    let parent = std::fs::canonicalize(parent)
        .map_err(|error| Failure::usage(format!("{}: {error}", parent.display())))?;
    Ok(parent.join(absolute.file_name().unwrap_or_default()))
}

/// The file's name without its ending; of a pattern its folder's name.
fn usual_name(input: &Path) -> String {
    let plain = |name: &std::ffi::OsStr| {
        let name = name.to_string_lossy();
        let signs = name.chars().map(|sign| match sign {
            sign if sign.is_ascii_alphanumeric() || matches!(sign, '-' | '_' | '.') => sign,
            _ => '-',
        });
        let name: String = signs.collect();
        name.trim_matches(['-', '.', '_']).to_owned()
    };
    let own = input.file_stem().filter(|_| input.as_os_str() != DASH);
    let own = own.filter(|stem| !stem.to_string_lossy().contains(['*', '?', '[']));
    let folder = || input.parent().and_then(Path::file_name);
    let name = own.or_else(folder).map(plain).unwrap_or_default();
    match name.is_empty() {
        true => "prompts".to_owned(),
        false => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_are_called_like_their_prompts() {
        for (input, name) in [
            ("nightly.jsonl", "nightly"),
            ("/a/b c.jsonl", "b-c"),
            ("inbox/*.jsonl", "inbox"),
            ("*.jsonl", "prompts"),
            ("-", "prompts"),
            (".hidden", "hidden"),
        ] {
            assert_eq!(usual_name(Path::new(input)), name, "{input}");
        }
    }

    #[test]
    fn files_are_found_in_their_urls() {
        let id = FileId::generate();
        for path in [
            format!("/v1/files/{id}"),
            format!("/v1/files/{id}/content"),
            format!("/below/v1/files/{id}"),
        ] {
            assert_eq!(file_of(&path).as_ref(), Some(&id), "{path}");
        }
        for path in ["/v1/files", "/v1/files/", "/v1/batches/x", "/file.jsonl"] {
            assert_eq!(file_of(path), None, "{path}");
        }
    }
}
