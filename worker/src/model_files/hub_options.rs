//! How the hub is reached: its address, the token and the patience of the network code.

use std::fmt;
use std::time::Duration;

use reqwest::Url;
use reqwest::header::HeaderValue;

use super::error::ModelError;

/// Where models come from when `HF_ENDPOINT` says nothing else.
const DEFAULT_ENDPOINT: &str = "https://huggingface.co";

/// A secret that prints as nothing.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// `None` for an empty text, and for one that cannot stand in a header.
    pub fn new(text: &str) -> Option<Token> {
        let text = text.trim();
        let usable = !text.is_empty() && HeaderValue::from_str(text).is_ok();
        usable.then(|| Token(text.to_owned()))
    }

    /// The secret itself, for the one header it stands in.
    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// How to reach the hub.
#[derive(Debug, Clone)]
pub struct HubOptions {
    pub endpoint: Url,
    pub token: Option<Token>,
    pub connect_timeout: Duration,
    /// Longest silence within an answer.
    pub read_timeout: Duration,
    /// First wait after a failure; it doubles each time.
    pub backoff: Duration,
}

impl HubOptions {
    /// The hub at `endpoint`, with the timeouts that fit the open internet.
    ///
    /// # Errors
    /// The endpoint is no http or https URL.
    pub fn new(endpoint: &str, token: Option<Token>) -> Result<HubOptions, ModelError> {
        let bad = |reason: &str| ModelError::BadReference {
            reference: endpoint.to_owned(),
            reason: format!("HF_ENDPOINT must be an http or https URL: {reason}"),
        };
        let url = Url::parse(endpoint).map_err(|e| bad(&e.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err(bad("it is another kind of URL"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(ModelError::BadReference {
                reference: "HF_ENDPOINT".to_owned(),
                reason: "it holds a user name or password; use HF_TOKEN".to_owned(),
            });
        }
        Ok(HubOptions {
            endpoint: url,
            token,
            connect_timeout: Duration::from_secs(5),
            read_timeout: Duration::from_secs(30),
            backoff: Duration::from_millis(500),
        })
    }

    /// From `HF_ENDPOINT` and `HF_TOKEN`.
    ///
    /// # Errors
    /// As [`HubOptions::new`].
    pub fn from_env() -> Result<HubOptions, ModelError> {
        let endpoint = std::env::var("HF_ENDPOINT")
            .ok()
            .filter(|text| !text.trim().is_empty());
        let token = std::env::var("HF_TOKEN")
            .ok()
            .and_then(|text| Token::new(&text));
        HubOptions::new(
            endpoint.as_deref().unwrap_or(DEFAULT_ENDPOINT).trim(),
            token,
        )
    }

    /// A URL below the endpoint; every segment is percent-encoded, so a revision may hold a `/`.
    pub fn url(&self, segments: &[&str]) -> Url {
        let mut url = self.endpoint.clone();
        url.path_segments_mut()
            .expect("an http URL, which HubOptions::new requires, has a path")
            .pop_if_empty()
            .extend(segments);
        url
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_encoded_and_the_endpoints_path_is_kept() {
        let options = HubOptions::new("https://mirror.example/hf/", None).unwrap();
        let url = options.url(&["org", "repo", "resolve", "refs/pr/1", "a b?.gguf"]);
        assert_eq!(
            url.as_str(),
            "https://mirror.example/hf/org/repo/resolve/refs%2Fpr%2F1/a%20b%3F.gguf"
        );
    }

    #[test]
    fn endpoint_with_secret_or_other_scheme_is_refused() {
        for endpoint in ["ftp://x", "file:///x", "not a url", "https://user:secret@x"] {
            let error = HubOptions::new(endpoint, None).unwrap_err();
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }

    #[test]
    fn token_is_not_printed() {
        let token = Token::new("hf_secret").unwrap();
        let options = HubOptions::new("https://hub.example", Some(token)).unwrap();
        assert!(!format!("{options:?}").contains("hf_secret"));
        assert!(Token::new("  ").is_none() && Token::new("a\nb").is_none());
    }
}
