//! One machine, reached by the system's `ssh`.

use std::process::Stdio;

use anyhow::{Context, Result, anyhow, bail};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::RemoteArgs;
use crate::failure::Failure;
use crate::progress::ByteProgress;

/// What ssh exits with when it did not get as far as the command.
const NO_CONNECTION: i32 = 255;
/// Bytes that are sent at once, and then told.
const PIECE: usize = 64 << 10;

/// A machine by the name that ssh knows it by.
#[derive(Debug, Clone)]
pub struct Host {
    name: String,
    options: Vec<String>,
}

/// What a command reads.
pub enum Input<'a> {
    Nothing,
    Text(&'a str),
    /// With what shows how far it is.
    Bytes(&'a [u8], ByteProgress),
}

/// How a command ended that could be started.
#[derive(Debug)]
pub struct Answer {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Answer {
    /// What it printed; an error with its words, if it failed.
    pub fn success(self, what: &str) -> Result<String> {
        match self.code {
            0 => Ok(self.stdout),
            code => bail!("{what} ended with {code}: {}", self.stderr.trim()),
        }
    }
}

impl Host {
    /// A name that could be taken for an option is refused.
    pub fn new(name: &str, args: &RemoteArgs) -> Result<Host, Failure> {
        let odd = |letter: char| letter.is_whitespace() || letter.is_control();
        if name.is_empty() || name.starts_with('-') || name.contains(odd) {
            return Err(Failure::usage(format!("{name:?} is no name of a machine")));
        }
        Ok(Host {
            name: name.to_owned(),
            options: args.ssh_option.clone(),
        })
    }

    /// As ssh knows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its name alone, without user and port: what its node is called if nothing else is said.
    pub fn node_name(&self) -> &str {
        let name = self.name.strip_prefix("ssh://").unwrap_or(&self.name);
        let name = name.rsplit_once('@').map_or(name, |(_, host)| host);
        match name.split_once(':') {
            // An address of version 6 has more than one.
            Some((host, port)) if !port.contains(':') => host,
            _ => name,
        }
    }

    /// Runs words there, whatever shell the user has.
    pub async fn run(&self, words: &[&str], input: Input<'_>) -> Result<Answer> {
        let mut ssh = self.ssh(words, &input);
        ssh.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = ssh.spawn().context("cannot start ssh")?;
        let mut stdin = child.stdin.take();
        let sending = async {
            if let Some(stdin) = &mut stdin {
                // Whoever ends early closes the pipe, and says on stderr why.
                let _ = send(stdin, input).await;
            }
            drop(stdin.take());
        };
        let (ended, ()) = tokio::join!(child.wait_with_output(), sending);
        let ended = ended.context("cannot wait for ssh")?;
        let answer = Answer {
            code: ended.status.code().unwrap_or(NO_CONNECTION),
            stdout: String::from_utf8_lossy(&ended.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&ended.stderr).into_owned(),
        };
        if answer.code == NO_CONNECTION {
            let said = answer.stderr.trim();
            return Err(anyhow!("{} cannot be reached: {said}", self.name));
        }
        Ok(answer)
    }

    /// Runs words there with this process's own stdout and stderr; their exit code.
    pub async fn pass(&self, words: &[&str]) -> Result<i32> {
        let status = self.ssh(words, &Input::Nothing).status().await;
        let status = status.context("cannot start ssh")?;
        Ok(status.code().unwrap_or(NO_CONNECTION))
    }

    fn ssh(&self, words: &[&str], input: &Input<'_>) -> Command {
        let there: Vec<String> = words.iter().map(|word| quote(word)).collect();
        let mut ssh = Command::new("ssh");
        ssh.args(&self.options)
            .args(["-T", "--"])
            .arg(&self.name)
            .arg(there.join(" "))
            .stdin(match input {
                Input::Nothing => Stdio::null(),
                _ => Stdio::piped(),
            })
            // Ctrl-C leaves no connection behind.
            .kill_on_drop(true);
        ssh
    }
}

async fn send(stdin: &mut tokio::process::ChildStdin, input: Input<'_>) -> std::io::Result<()> {
    match input {
        Input::Nothing => Ok(()),
        Input::Text(text) => stdin.write_all(text.as_bytes()).await,
        Input::Bytes(bytes, mut progress) => {
            for piece in bytes.chunks(PIECE) {
                stdin.write_all(piece).await?;
                progress.advance(piece.len() as u64);
            }
            Ok(())
        }
    }
}

/// A word that every shell takes as it is.
pub fn quote(word: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./=:,@+".contains(letter);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stay_words_in_a_shell() {
        let words = ["a b", "it's", "$HOME", "`x`", "", "--flag=1", "é\n"];
        let line: Vec<String> = words.iter().map(|word| quote(word)).collect();
        let script = format!("printf '%s|' {}", line.join(" "));
        let said = std::process::Command::new("sh")
            .args(["-c", &script])
            .output()
            .unwrap();
        assert_eq!(
            String::from_utf8_lossy(&said.stdout),
            words.map(|word| word.to_owned() + "|").concat()
        );
    }

    #[test]
    fn a_name_is_no_option_and_nodes_are_called_by_the_machine() {
        let args = RemoteArgs::default();
        for wrong in ["", "-oProxyCommand=x", "a b", "a\n"] {
            assert!(Host::new(wrong, &args).is_err(), "{wrong:?}");
        }
        for (name, node) in [
            ("desk", "desk"),
            ("ann@desk.lan", "desk.lan"),
            ("ssh://ann@desk:2222", "desk"),
            ("fe80::1", "fe80::1"),
        ] {
            assert_eq!(Host::new(name, &args).unwrap().node_name(), node);
        }
    }
}
