//! The models that are waited for, by number.
//!
//! A look asks for the numbers of many thousand hashes, so they are found without hashing anew.

use rbee_queue::ModelSha;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Takes a digest as it is: its bytes are as good as random.
#[derive(Default)]
pub(super) struct DigestHasher(u64);

impl Hasher for DigestHasher {
    fn write(&mut self, bytes: &[u8]) {
        let mut first = [0; 8];
        let taken = bytes.len().min(first.len());
        first[..taken].copy_from_slice(&bytes[..taken]);
        // Spread over all bits, for digests that tests make up.
        self.0 = (self.0 ^ u64::from_le_bytes(first)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }
}

/// Something by model.
pub(super) type ByModel<T> = HashMap<ModelSha, T, BuildHasherDefault<DigestHasher>>;

/// The number of each model that is waited for.
pub(super) type Names = ByModel<usize>;
