//! One request and its answer, as the comparisons need them: plain HTTP/1.0, so that an answer ends where the connection does.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value as Json;

/// A server that is silent for longer is not measured any more.
const PATIENCE: Duration = Duration::from_secs(900);

/// Where a server listens, `host:port`, and what its paths begin with.
#[derive(Clone, Debug)]
pub struct Address {
    pub host: String,
    base: String,
}

impl Address {
    /// Reads `http://host:port[/base]`.
    pub fn parse(url: &str) -> Result<Address> {
        let Some(rest) = url.strip_prefix("http://") else {
            bail!("--peer takes `llama` or a URL such as http://127.0.0.1:8080, not {url}");
        };
        let (host, base) = rest.split_once('/').unwrap_or((rest, ""));
        ensure!(host.contains(':'), "{url} names no port");
        let base = base.trim_end_matches('/').trim_end_matches("v1");
        Ok(Address {
            host: host.to_owned(),
            base: base.trim_end_matches('/').to_owned(),
        })
    }

    /// Asks for `path`; with a body it is posted.
    pub fn ask(&self, path: &str, body: Option<&Json>) -> Result<Json> {
        let mut stream = TcpStream::connect(&self.host)
            .with_context(|| format!("nothing answers at {}", self.host))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        let method = if body.is_some() { "POST" } else { "GET" };
        let body = body.map(Json::to_string).unwrap_or_default();
        let base = match self.base.as_str() {
            "" => String::new(),
            base => format!("/{base}"),
        };
        write!(
            stream,
            "{method} {base}{path} HTTP/1.0\r\nHost: {}\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            self.host,
            body.len()
        )?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let answer = String::from_utf8_lossy(&answer);
        let (head, body) = answer
            .split_once("\r\n\r\n")
            .context("the answer has no head")?;
        let status = head.split_whitespace().nth(1).unwrap_or_default();
        ensure!(status == "200", "{path} was answered with {status}: {body}");
        serde_json::from_str(body).with_context(|| format!("{path} was answered with no JSON"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_may_end_with_the_version() {
        for url in [
            "http://h:1",
            "http://h:1/",
            "http://h:1/v1",
            "http://h:1/v1/",
        ] {
            let address = Address::parse(url).unwrap();
            assert_eq!((address.host.as_str(), address.base.as_str()), ("h:1", ""));
        }
        assert_eq!(Address::parse("http://h:1/a/v1").unwrap().base, "a");
        assert!(Address::parse("llama.cpp").is_err());
    }
}
