//! The secrets of a server: its token and the key of its webhooks, in files that only their owner can read.

use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use rbee_scheduler::secret;
use rbee_scheduler::webhook::Secret;

use crate::failure::Failure;
use crate::paths::DataDir;
use crate::secrets;

/// The variable with the webhook secret.
pub const WEBHOOK_VARIABLE: &str = "RBEE_WEBHOOK_SECRET";
/// A secret's file is one line; a longer one is none.
const FILE_BYTES_MAX: u64 = 4096;

/// Where the token of a server of this user lies.
pub fn token_path(data: &DataDir) -> PathBuf {
    data.root().join("api-token")
}

/// The token that a server of this user made, if there is one.
pub fn read(data: &DataDir) -> Result<Option<String>> {
    read_secret(&token_path(data))
}

/// Where the webhook secret of a server of this user lies.
pub fn webhook_path(data: &DataDir) -> PathBuf {
    data.root().join("webhook-secret")
}

/// What webhooks are signed with: the variable's secret, else one made at the first time.
pub fn webhook_secret(data: &DataDir) -> Result<Secret, Failure> {
    match secrets::read(WEBHOOK_VARIABLE)? {
        Some(text) => Ok(Secret::read(&text)?),
        None => {
            let path = webhook_path(data);
            let text = made_once(&path, &|key| Secret::write(key))?;
            let secret = Secret::read(&text);
            Ok(secret.with_context(|| format!("{} cannot be used", path.display()))?)
        }
    }
}

/// The token in a file, made at the first time.
pub fn read_or_make(path: &Path) -> Result<String> {
    made_once(path, &|bytes| hex::encode(bytes))
}

/// The secret in a file, made of random bytes at the first time.
fn made_once(path: &Path, write: &dyn Fn(&[u8]) -> String) -> Result<String> {
    if let Some(secret) = read_secret(path)? {
        return Ok(secret);
    }
    let secret = write(&secret::random().context("cannot make a random secret")?);
    let made = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    match made {
        Ok(mut file) => {
            file.write_all(format!("{secret}\n").as_bytes())
                .and_then(|()| file.sync_all())
                .with_context(|| format!("cannot write {}", path.display()))?;
            Ok(secret)
        }
        // Another server of this user was faster.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => read_secret(path)?
            .with_context(|| format!("{} was there and is gone: try again", path.display())),
        Err(error) => Err(error).with_context(|| format!("cannot make {}", path.display())),
    }
}

/// The secret in a file, if the file is there and not empty. One that others can read is refused.
pub fn read_secret(path: &Path) -> Result<Option<String>> {
    let mut file = match OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
        .open(path)
    {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(error).with_context(|| format!("cannot read {}", path.display()));
        }
    };
    let found = file
        .metadata()
        .with_context(|| format!("cannot read {}", path.display()))?;
    if found.mode() & 0o077 != 0 {
        bail!(
            "{} can be read by others: run `chmod 600` on it, or remove it to have a new one made",
            path.display()
        );
    }
    let mut text = String::new();
    (&mut file)
        .take(FILE_BYTES_MAX)
        .read_to_string(&mut text)
        .with_context(|| format!("cannot read {}", path.display()))?;
    let text = text.trim();
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_secret_is_made_once_and_only_its_owner_reads_it() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(Some(dir.path())).unwrap();
        assert_eq!(read(&data).unwrap(), None);
        let path = token_path(&data);
        let made = read_or_make(&path).unwrap();
        assert_eq!(made.len(), 64);
        assert_eq!(read_or_make(&path).unwrap(), made);
        assert_eq!(read(&data).unwrap(), Some(made));
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(read(&data).is_err());
    }
}
