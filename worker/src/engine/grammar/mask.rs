//! Which tokens may come next.

use toktrie::SimpleVob;

/// Tokens of one word of a mask.
const WORD: usize = 32;

/// A set of tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mask {
    words: Vec<u32>,
}

impl Mask {
    /// The tokens of the grammar engine's set, of a vocabulary of `tokens`.
    pub(super) fn new(set: &SimpleVob, tokens: usize) -> Mask {
        let mut words = set.as_slice().to_vec();
        words.truncate(tokens.div_ceil(WORD));
        let mut mask = Mask { words };
        for beyond in tokens..mask.words.len() * WORD {
            mask.set(beyond as u32, false);
        }
        mask
    }

    /// Whether a token is in it.
    pub fn has(&self, token: u32) -> bool {
        let word = self.words.get(token as usize / WORD);
        word.is_some_and(|word| word >> (token as usize % WORD) & 1 == 1)
    }

    /// Takes a token in or out. One that the vocabulary does not have is passed over.
    pub(super) fn set(&mut self, token: u32, allowed: bool) {
        if let Some(word) = self.words.get_mut(token as usize / WORD) {
            let bit = 1 << (token as usize % WORD);
            match allowed {
                true => *word |= bit,
                false => *word &= !bit,
            }
        }
    }

    /// Whether no token is in it.
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// Makes the logits of all other tokens negative infinity.
    pub fn apply(&self, row: &mut [f32]) {
        for (place, logits) in row.chunks_mut(WORD).enumerate() {
            match self.words.get(place).copied().unwrap_or(0) {
                u32::MAX => {}
                0 => logits.fill(f32::NEG_INFINITY),
                word => {
                    for (bit, logit) in logits.iter_mut().enumerate() {
                        if word >> bit & 1 == 0 {
                            *logit = f32::NEG_INFINITY;
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logits_outside_of_a_mask_are_negative_infinity() {
        let mut set = SimpleVob::alloc(70);
        for token in [0, 31, 32, 69] {
            set.allow_token(token);
        }
        // The last token of the set is none of the vocabulary's.
        let mut mask = Mask::new(&set, 69);
        mask.set(5, true);
        mask.set(31, false);
        mask.set(1000, true);
        let mut row = vec![1.0; 80];
        mask.apply(&mut row);
        let left: Vec<usize> = (0..80).filter(|at| row[*at] == 1.0).collect();
        assert_eq!(left, [0, 5, 32]);
        assert!((0..80).all(|token| mask.has(token) == left.contains(&(token as usize))));
        assert!(!mask.is_empty());
    }
}
