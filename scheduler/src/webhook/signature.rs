//! The secret with which messages are signed, and the signature.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// How a secret begins that is written as Standard Webhooks has it: base64 follows.
const PREFIX: &str = "whsec_";
/// A shorter key could be guessed.
const KEY_BYTES_MIN: usize = 16;

/// What server and receivers share.
#[derive(Clone)]
pub struct Secret(Vec<u8>);

/// Why a text is no secret.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// The part behind the prefix.
    #[error("the webhook secret begins with `whsec_`, and what follows is no base64")]
    NoBase64,
    /// Guessed too easily.
    #[error("the webhook secret has {bytes} bytes: use one of {KEY_BYTES_MIN} or more")]
    Short {
        /// How many there are.
        bytes: usize,
    },
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Secret {
    /// Reads `whsec_` and base64; any other text is the key as it stands.
    pub fn read(text: &str) -> Result<Secret, SecretError> {
        let text = text.trim();
        let key = match text.strip_prefix(PREFIX) {
            Some(rest) => STANDARD.decode(rest).map_err(|_| SecretError::NoBase64)?,
            None => text.as_bytes().to_vec(),
        };
        match key.len() {
            bytes if bytes < KEY_BYTES_MIN => Err(SecretError::Short { bytes }),
            _ => Ok(Secret(key)),
        }
    }

    /// The text of a key, as [`read`](Self::read) takes it.
    pub fn write(key: &[u8]) -> String {
        format!("{PREFIX}{}", STANDARD.encode(key))
    }

    /// The signature of a message, as its header has it.
    pub fn sign(&self, id: &str, timestamp: u64, body: &[u8]) -> String {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        mac.update(format!("{id}.{timestamp}.").as_bytes());
        mac.update(body);
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signature_is_that_of_the_specification() {
        // The example of the specification's reference implementations.
        let secret = Secret::read("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signature = secret.sign(
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            br#"{"test": 2432232314}"#,
        );
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn secrets_are_read_back_and_weak_ones_refused() {
        let text = Secret::write(&[7; 32]);
        assert_eq!(Secret::read(&text).unwrap().0, [7; 32]);
        assert_eq!(Secret::read("0123456789abcdef").unwrap().0.len(), 16);
        assert_eq!(
            Secret::read("short").unwrap_err(),
            SecretError::Short { bytes: 5 }
        );
        assert_eq!(Secret::read("whsec_?").unwrap_err(), SecretError::NoBase64);
        assert!(!format!("{:?}", Secret::read(&text).unwrap()).contains("whsec"));
    }
}
