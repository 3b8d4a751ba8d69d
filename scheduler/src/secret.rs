//! Random secrets and their digests.
//!
//! Owns where randomness comes from. What is kept of a secret is its sha256 only.

use sha2::{Digest, Sha256};
use std::io::{self, Read};

/// Random bytes of a secret.
const SECRET_BYTES: usize = 32;

/// A secret that nobody guesses.
pub fn random() -> io::Result<[u8; SECRET_BYTES]> {
    let mut bytes = [0; SECRET_BYTES];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// The same as text: 64 hex digits.
pub fn random_text() -> io::Result<String> {
    random().map(hex::encode)
}

/// What is kept of a secret. Digests have one length, so that comparing them tells nothing about the secret's.
pub fn digest(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}
