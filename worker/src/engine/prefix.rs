//! Names of KV blocks by what they hold, so that sequences with a common beginning compute it once.
//!
//! A block's K and V depend on all tokens up to its end and on nothing else, so those tokens name it.

use super::step::BLOCK_TOKENS;
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// The name of a whole block: a digest of all tokens from the sequence's first to the block's last. Equal names are
/// equal tokens: nobody finds two inputs of one SHA-256, not even on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PrefixKey([u8; 32]);

/// The names of the whole blocks of a prompt, in order.
pub fn prefix_keys(tokens: &[u32]) -> Arc<[PrefixKey]> {
    let mut before = [0; 32];
    let (blocks, _) = tokens.as_chunks::<BLOCK_TOKENS>();
    let keys = blocks.iter().map(|block| {
        let mut hash = Sha256::new_with_prefix(before);
        block
            .iter()
            .for_each(|token| hash.update(token.to_le_bytes()));
        before = hash.finalize().into();
        PrefixKey(before)
    });
    keys.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_beginnings_have_equal_names_up_to_the_first_difference() {
        let long: Vec<u32> = (0..100).collect();
        let mut other = long.clone();
        other[40] = 7;
        let (long, other) = (prefix_keys(&long), prefix_keys(&other));
        assert_eq!(long.len(), 3, "the rest is no whole block");
        assert_eq!(long[0], other[0]);
        assert_ne!(long[1], other[1]);
        assert_ne!(
            long[2], other[2],
            "what comes after a difference differs too"
        );
    }

    #[test]
    fn equal_blocks_at_other_places_have_other_names() {
        let keys = prefix_keys(&[5; 2 * BLOCK_TOKENS]);
        assert_ne!(keys[0], keys[1]);
    }
}
