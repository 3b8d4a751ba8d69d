//! The settings that a node is given: this cluster's addresses and secrets, and what was said about the node.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Context as _;
use toml_edit::{Array, DocumentMut, value};

use super::DeployArgs;
use crate::client::Client;
use crate::commands::Context;
use crate::failure::Failure;
use crate::home::Shape;
use crate::install::Settings;

/// What all nodes get.
pub struct Common {
    server: String,
    database: String,
    redis: String,
    /// What the settings begin with.
    base: DocumentMut,
}

impl Common {
    /// Takes what holds here.
    pub fn gather(
        context: &Context,
        client: &Client,
        args: &DeployArgs,
    ) -> Result<Common, Failure> {
        let Shape::Cluster { database, redis } = args.home.shape()? else {
            return Err(Failure::usage(
                "a node works for a cluster: set RBEE_DATABASE_URL and RBEE_REDIS_URL as the node shall reach them",
            ));
        };
        let server = client.address().to_owned();
        for address in [&server, &database, &redis] {
            if is_of_this_machine(address) {
                context.talk.warn(&format!(
                    "{} means whichever machine it is read on: a node elsewhere will not find it",
                    crate::home::without_secrets(address)
                ));
            }
        }
        Ok(Common {
            server,
            database,
            redis,
            base: base(args.settings.as_ref())?,
        })
    }

    /// One node's settings. Only files of secrets are named: the configuration itself may be read by others.
    pub fn settings(
        &self,
        name: &str,
        models: &[String],
        token: Option<&str>,
    ) -> Result<Settings, Failure> {
        let mut config = self.base.clone();
        let mut secrets = BTreeMap::new();
        let mut secret = |file: &str, text: &str| {
            secrets.insert(file.to_owned(), text.to_owned());
            value(format!("secrets/{file}"))
        };
        config["server"] = value(&self.server);
        config["database_url_file"] = secret("database-url", &self.database);
        config["redis_url_file"] = secret("redis-url", &self.redis);
        if let Some(token) = token {
            config["token_file"] = secret("token", token);
        }
        config.entry("worker").or_insert(toml_edit::table());
        config["worker"]["name"] = value(name);
        if !models.is_empty() {
            config["worker"]["model"] = value(models.iter().collect::<Array>());
        }
        Ok(Settings {
            config: config.to_string(),
            secrets,
        })
    }
}

fn base(file: Option<&PathBuf>) -> Result<DocumentMut, Failure> {
    let text = match file {
        Some(path) => std::fs::read_to_string(path)
            .with_context(|| format!("cannot read {}", path.display()))?,
        None => String::new(),
    };
    text.parse::<DocumentMut>()
        .map_err(|error| Failure::usage(format!("--settings: {error}")))
}

/// Whether an address names the machine that uses it.
fn is_of_this_machine(url: &str) -> bool {
    let url = crate::home::without_secrets(url);
    let host = url.split_once("://").map_or("", |(_, rest)| rest);
    ["localhost", "127.", "[::1]"]
        .iter()
        .any(|start| host.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_hold_no_secret_and_keep_what_was_given() {
        let common = Common {
            server: "http://server:7835".to_owned(),
            database: "postgres://rbee:canary@db/rbee".to_owned(),
            redis: "redis://:canary@cache".to_owned(),
            base: "log = \"info\"\n[engine]\nslots = 4\n".parse().unwrap(),
        };
        let settings = common
            .settings("desk", &["a".to_owned()], Some("canary"))
            .unwrap();
        assert!(!settings.config.contains("canary"), "{}", settings.config);
        for line in [
            "server = \"http://server:7835\"",
            "log = \"info\"",
            "slots = 4",
            "model = [\"a\"]",
        ] {
            assert!(
                settings.config.contains(line),
                "{line}: {}",
                settings.config
            );
        }
        assert_eq!(settings.secrets.len(), 3);
        let parsed: toml_edit::DocumentMut = settings.config.parse().unwrap();
        assert_eq!(parsed["worker"]["name"].as_str(), Some("desk"));
        assert_eq!(parsed["token_file"].as_str(), Some("secrets/token"));
    }

    #[test]
    fn addresses_of_whoever_reads_them_are_known() {
        assert!(is_of_this_machine("postgres://u:p@localhost/x"));
        assert!(is_of_this_machine("http://127.0.0.1:7835"));
        assert!(!is_of_this_machine("redis://cache:6379"));
    }
}
