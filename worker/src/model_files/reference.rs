//! Model references: the forms in which a user names a model, parsed without touching disk or network.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::error::ModelError;
use super::safe_name::is_safe_path;

/// References longer than this are refused.
const REFERENCE_BYTES_MAX: usize = 4_096;
/// The hub's own limit for each part of a repository's name.
const REPO_PART_BYTES_MAX: usize = 96;
/// Longer than any branch, tag or commit in use.
const REVISION_BYTES_MAX: usize = 255;

/// How a model is named.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ModelRef {
    /// A name of the catalog, such as `smollm2-135m`.
    Alias(String),
    /// `hf:org/repo[@revision][::file]`.
    Hub(HubRef),
    /// `file:/path`, or a path: to a `.gguf` file, to any part of a split one, or to a directory with safetensors.
    Path(PathBuf),
}

/// A model on the hub.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HubRef {
    /// `org/repo`, or one name for the hub's oldest models.
    pub repo: String,
    /// Branch, tag or commit; `main` when absent.
    pub revision: Option<String>,
    /// A `.gguf` file of the repository.
    pub file: Option<String>,
}

impl ModelRef {
    /// Parses a reference. What begins with `hf:` is the hub's, with `file:` a path; what holds a `/`, begins with `.`
    /// or ends in `.gguf` is a path; anything else is an alias.
    ///
    /// # Errors
    /// [`ModelError::BadReference`] says what is wrong with it.
    pub fn parse(text: &str) -> Result<ModelRef, ModelError> {
        let bad = |reason: &str| ModelError::BadReference {
            reference: shortened(text),
            reason: reason.to_owned(),
        };
        if text.trim() != text || text.is_empty() {
            return Err(bad("it is empty or has spaces around it"));
        }
        if text.len() > REFERENCE_BYTES_MAX {
            return Err(bad("it is too long"));
        }
        if text.chars().any(char::is_control) {
            return Err(bad("it has control characters in it"));
        }
        if let Some(rest) = text.strip_prefix("hf:") {
            return HubRef::parse(rest).map(ModelRef::Hub).map_err(bad);
        }
        if let Some(rest) = text.strip_prefix("file:") {
            let path = rest.strip_prefix("//").unwrap_or(rest);
            return match path {
                "" => Err(bad("file: wants a path behind it")),
                path => Ok(ModelRef::Path(PathBuf::from(path))),
            };
        }
        if text.contains('/') || text.starts_with('.') || text.ends_with(".gguf") {
            return Ok(ModelRef::Path(PathBuf::from(text)));
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if !text.chars().all(plain) {
            return Err(bad(
                "an alias has only letters, digits and -_. in it; a path wants a / in it (./name)",
            ));
        }
        Ok(ModelRef::Alias(text.to_owned()))
    }
}

impl HubRef {
    fn parse(text: &str) -> Result<HubRef, &'static str> {
        let (rest, file) = match text.split_once("::") {
            Some((rest, file)) => (rest, Some(file)),
            None => (text, None),
        };
        let (repo, revision) = match rest.split_once('@') {
            Some((repo, revision)) => (repo, Some(revision)),
            None => (rest, None),
        };
        if !is_repo(repo) {
            return Err(
                "a model of the hub is hf:org/name, with letters, digits and -_. in both names",
            );
        }
        if revision.is_some_and(|revision| !is_revision(revision)) {
            return Err("what follows @ must be a branch, tag or commit");
        }
        if file.is_some_and(|file| !is_safe_path(file)) {
            return Err("what follows :: must be the plain path of a file in the repository");
        }
        let owned = |part: Option<&str>| part.map(str::to_owned);
        Ok(HubRef {
            repo: repo.to_owned(),
            revision: owned(revision),
            file: owned(file),
        })
    }
}

fn is_repo(repo: &str) -> bool {
    let part_is_fine = |part: &str| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        !part.is_empty()
            && part.len() <= REPO_PART_BYTES_MAX
            && part.chars().all(plain)
            && !part.contains("..")
            && !part.starts_with(['.', '-'])
            && !part.ends_with(['.', '-'])
    };
    repo.split('/').count() <= 2 && repo.split('/').all(part_is_fine)
}

fn is_revision(revision: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./+".contains(c);
    !revision.is_empty()
        && revision.len() <= REVISION_BYTES_MAX
        && revision.chars().all(plain)
        && revision
            .split('/')
            .all(|part| !part.is_empty() && part != "." && !part.contains(".."))
}

fn shortened(text: &str) -> String {
    const SHOWN_CHARS: usize = 120;
    match text.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

impl FromStr for ModelRef {
    type Err = ModelError;

    fn from_str(text: &str) -> Result<ModelRef, ModelError> {
        ModelRef::parse(text)
    }
}

impl fmt::Display for ModelRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ModelRef::Alias(alias) => f.write_str(alias),
            ModelRef::Hub(hub) => hub.fmt(f),
            ModelRef::Path(path) => {
                let text = path.display().to_string();
                let needs_prefix = !matches!(ModelRef::parse(&text), Ok(ModelRef::Path(_)));
                write!(f, "{}{text}", if needs_prefix { "file:" } else { "" })
            }
        }
    }
}

impl fmt::Display for HubRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "hf:{}", self.repo)?;
        if let Some(revision) = &self.revision {
            write!(f, "@{revision}")?;
        }
        if let Some(file) = &self.file {
            write!(f, "::{file}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hub(repo: &str, revision: Option<&str>, file: Option<&str>) -> ModelRef {
        let owned = |part: Option<&str>| part.map(str::to_owned);
        ModelRef::Hub(HubRef {
            repo: repo.to_owned(),
            revision: owned(revision),
            file: owned(file),
        })
    }

    #[test]
    fn every_form_of_reference_parses() {
        let parse = |text| ModelRef::parse(text).unwrap();
        assert_eq!(
            parse("smollm2-135m"),
            ModelRef::Alias("smollm2-135m".into())
        );
        assert_eq!(parse("hf:org/repo"), hub("org/repo", None, None));
        assert_eq!(
            parse("hf:org/repo@v1.0"),
            hub("org/repo", Some("v1.0"), None)
        );
        assert_eq!(
            parse("hf:org/repo::a/b.gguf"),
            hub("org/repo", None, Some("a/b.gguf"))
        );
        assert_eq!(
            parse("hf:o/r@refs/pr/3::m.gguf"),
            hub("o/r", Some("refs/pr/3"), Some("m.gguf"))
        );
        assert_eq!(parse("hf:gpt2"), hub("gpt2", None, None));
        assert_eq!(parse("file:/m/x.gguf"), ModelRef::Path("/m/x.gguf".into()));
        assert_eq!(
            parse("file:///m/x.gguf"),
            ModelRef::Path("/m/x.gguf".into())
        );
        assert_eq!(parse("./dir"), ModelRef::Path("./dir".into()));
        assert_eq!(parse("../dir"), ModelRef::Path("../dir".into()));
        assert_eq!(parse("x.gguf"), ModelRef::Path("x.gguf".into()));
        assert_eq!(parse("/abs/dir"), ModelRef::Path("/abs/dir".into()));
    }

    #[test]
    fn references_print_as_they_parse() {
        for text in [
            "smollm2-135m",
            "hf:org/repo",
            "hf:o/r@main::d/f.gguf",
            "/a/b.gguf",
            "./dir",
            "file:plain",
        ] {
            let parsed = ModelRef::parse(text).unwrap();
            assert_eq!(parsed.to_string(), text);
            assert_eq!(ModelRef::parse(&parsed.to_string()).unwrap(), parsed);
        }
    }

    #[test]
    fn hostile_references_are_refused() {
        for text in [
            "",
            " ",
            " a",
            "a b",
            "hf:",
            "hf:/x",
            "hf:a/b/c",
            "hf:../x",
            "hf:a/..",
            "hf:a/b@",
            "hf:a/b@../..",
            "hf:a/b@x/../y",
            "hf:a/b::",
            "hf:a/b::../m.gguf",
            "hf:a/b::/etc/m.gguf",
            "hf:a/b::x\\y.gguf",
            "file:",
            "a\nb",
            "a\0b",
            "hf:a/b?x=1",
            "hf:a/b#f",
            "hf:a%2Fb/c",
            "hf:a/b@main?x",
        ] {
            assert!(ModelRef::parse(text).is_err(), "{text:?} passed");
        }
        assert!(ModelRef::parse(&"x".repeat(5_000)).is_err());
    }
}
