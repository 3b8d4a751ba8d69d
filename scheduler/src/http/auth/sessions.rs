//! Browsers that have shown a token once: one-time links, and the cookie that follows.
//!
//! Owns both, in memory: a server that starts again asks browsers again. A session stands for a token's digest, which is
//! looked up at each request, so that a revoked token ends its sessions.

use crate::secret;
use axum::http::{HeaderMap, header};
use std::collections::HashMap;
use std::io;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// The cookie's name.
const COOKIE: &str = "rbee_session";
/// How long a browser need not show the token again.
const SESSION_LIVES: Duration = Duration::from_secs(12 * 3_600);
/// How long a one-time link is good.
const LINK_LIVES: Duration = Duration::from_secs(24 * 3_600);
/// Sessions, and links, of one server; the oldest goes when there is one more.
const MAX_KEPT: usize = 1_000;

/// What a link or a session stands for: the digest of the token that was shown.
type Shown = [u8; 32];

/// The links and sessions of one server.
#[derive(Default)]
pub struct Sessions {
    links: Mutex<Kept>,
    sessions: Mutex<Kept>,
}

/// Secrets by their digests, with what they stand for.
#[derive(Default)]
struct Kept(HashMap<[u8; 32], (Instant, Shown)>);

impl Kept {
    fn add(&mut self, shown: Shown) -> io::Result<String> {
        if self.0.len() >= MAX_KEPT
            && let Some(oldest) = (self.0.iter()).min_by_key(|(_, (at, _))| *at)
        {
            let oldest = *oldest.0;
            self.0.remove(&oldest);
        }
        let text = secret::random_text()?;
        self.0
            .insert(secret::digest(&text), (Instant::now(), shown));
        Ok(text)
    }
}

impl Sessions {
    /// A link's secret, good for one use.
    pub fn new_link(&self, shown: Shown) -> io::Result<String> {
        let links = self.links.lock();
        links
            .expect("nothing panics while it holds this")
            .add(shown)
    }

    /// Takes a link's secret for what it stands for.
    pub fn take_link(&self, text: &str) -> Option<Shown> {
        let mut links = self
            .links
            .lock()
            .expect("nothing panics while it holds this");
        let (at, shown) = links.0.remove(&secret::digest(text))?;
        (at.elapsed() < LINK_LIVES).then_some(shown)
    }

    /// Begins a session; the text is the value of `Set-Cookie`.
    pub fn begin(&self, shown: Shown) -> io::Result<String> {
        let sessions = self.sessions.lock();
        let text = (sessions.expect("nothing panics while it holds this")).add(shown)?;
        Ok(cookie(&text, SESSION_LIVES))
    }

    /// Ends the session of a request; the text is the value of `Set-Cookie`.
    pub fn end(&self, headers: &HeaderMap) -> String {
        if let Some(text) = shown_cookie(headers) {
            let mut sessions = (self.sessions.lock()).expect("nothing panics while it holds this");
            sessions.0.remove(&secret::digest(text));
        }
        cookie("", Duration::ZERO)
    }

    /// What the session of a request stands for.
    pub fn find(&self, headers: &HeaderMap) -> Option<Shown> {
        let digest = secret::digest(shown_cookie(headers)?);
        let sessions = self.sessions.lock();
        let sessions = sessions.expect("nothing panics while it holds this");
        let (at, shown) = sessions.0.get(&digest)?;
        (at.elapsed() < SESSION_LIVES).then_some(*shown)
    }
}

fn cookie(text: &str, lives: Duration) -> String {
    let seconds = lives.as_secs();
    format!("{COOKIE}={text}; Path=/; HttpOnly; SameSite=Strict; Max-Age={seconds}")
}

fn shown_cookie(headers: &HeaderMap) -> Option<&str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(name, _)| *name == COOKIE)
        .map(|(_, text)| text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_cookie(set: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let pair = set.split(';').next().unwrap();
        headers.append(header::COOKIE, "other=1; x=y".parse().unwrap());
        headers.append(header::COOKIE, format!("a=b; {pair}").parse().unwrap());
        headers
    }

    #[test]
    fn a_link_is_good_once_and_a_session_until_it_is_ended() {
        let sessions = Sessions::default();
        let link = sessions.new_link([7; 32]).unwrap();
        assert_eq!(sessions.take_link("guess"), None);
        assert_eq!(sessions.take_link(&link), Some([7; 32]));
        assert_eq!(sessions.take_link(&link), None);
        let set = sessions.begin([7; 32]).unwrap();
        assert!(set.contains("HttpOnly") && set.contains("SameSite=Strict"));
        let headers = with_cookie(&set);
        assert_eq!(sessions.find(&headers), Some([7; 32]));
        sessions.end(&headers);
        assert_eq!(sessions.find(&headers), None);
        assert_eq!(sessions.find(&HeaderMap::new()), None);
    }

    #[test]
    fn the_oldest_session_makes_room() {
        let mut kept = Kept::default();
        let first = kept.add([0; 32]).unwrap();
        for number in 0..MAX_KEPT {
            kept.add([number as u8; 32]).unwrap();
        }
        assert_eq!(kept.0.len(), MAX_KEPT);
        assert!(!kept.0.contains_key(&secret::digest(&first)));
    }
}
