//! Byte-level BPE: words of bytes, merged pair by pair in the order of the merge list.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use super::TokenizerError;
use super::byte_alphabet::ByteAlphabet;
use super::pretokenizer::PreTokenizer;
use super::vocab::{MAX_TOKEN_BYTES, TokenKind, VocabSpec, invalid};

/// The most merges a vocabulary may have.
const MAX_MERGES: usize = 8_000_000;
/// Marks the end of the list of symbols.
const NONE: u32 = u32::MAX;

/// A byte-level BPE vocabulary.
///
/// A symbol is a token id, or a number from `vocab_size` up for byte strings that occur in merges
/// but are no tokens.
pub(super) struct Bpe {
    pre: PreTokenizer,
    vocab_size: u32,
    /// The symbol of each single byte.
    bytes: [u32; 256],
    /// Two neighbouring symbols to (rank, merged symbol).
    merges: HashMap<(u32, u32), (u32, u32)>,
    /// Byte strings to tokens; only kept where whole words are looked up.
    words: HashMap<Vec<u8>, u32>,
    /// What symbols that are no tokens consist of, byte by byte.
    spelled: HashMap<u32, Vec<u8>>,
}

/// Gives symbols to byte strings.
struct Symbols {
    known: HashMap<Vec<u8>, u32>,
    next: u32,
    spelled: HashMap<u32, Vec<u8>>,
}

impl Symbols {
    fn of(&mut self, bytes: Vec<u8>) -> u32 {
        if let Some(symbol) = self.known.get(&bytes) {
            return *symbol;
        }
        let symbol = self.next;
        self.next += 1;
        self.spelled.insert(symbol, bytes.clone());
        self.known.insert(bytes, symbol);
        symbol
    }
}

impl Bpe {
    /// Builds the merge table; `spec` has been validated.
    pub(super) fn new(spec: &VocabSpec, pre: PreTokenizer) -> Result<Bpe, TokenizerError> {
        if spec.merges.len() > MAX_MERGES {
            return Err(invalid(
                "merges",
                format!(
                    "{} merges; at most {MAX_MERGES} are possible",
                    spec.merges.len()
                ),
            ));
        }
        let alphabet = ByteAlphabet::new();
        let vocab_size = spec.tokens.len() as u32;
        let mut symbols = Symbols {
            known: HashMap::new(),
            next: vocab_size,
            spelled: HashMap::new(),
        };
        for (id, (text, kind)) in spec.tokens.iter().zip(&spec.kinds).enumerate() {
            if matches!(kind, TokenKind::Control | TokenKind::Unknown) {
                continue;
            }
            if let Some(bytes) = alphabet.decode(text) {
                symbols.known.insert(bytes, id as u32);
            }
        }
        let bytes = std::array::from_fn(|byte| symbols.of(vec![byte as u8]));
        let mut merges = HashMap::with_capacity(spec.merges.len());
        for (rank, merge) in spec.merges.iter().enumerate() {
            // A merge that does not spell two byte strings can never apply: symbols are byte strings.
            let Some((left, right)) = sides(&alphabet, merge) else {
                continue;
            };
            let merged = symbols.of([left.as_slice(), right.as_slice()].concat());
            let pair = (symbols.of(left), symbols.of(right));
            merges.entry(pair).or_insert((rank as u32, merged));
        }
        let words = if pre.ignores_merges() {
            symbols.known
        } else {
            HashMap::new()
        };
        Ok(Bpe {
            pre,
            vocab_size,
            bytes,
            merges,
            words,
            spelled: symbols.spelled,
        })
    }

    /// Appends the tokens of a text without special tokens. Bytes that no token spells are dropped.
    pub(super) fn encode(&self, text: &str, out: &mut Vec<u32>) {
        let mut scratch = Merger::default();
        self.pre.split(text, &mut |word| {
            let bytes = word.as_bytes();
            if let Some(id) = self.words.get(bytes).filter(|id| **id < self.vocab_size) {
                out.push(*id);
                return;
            }
            scratch.merge(self, bytes);
            let mut at = if bytes.is_empty() { NONE } else { 0 };
            while at != NONE {
                let node = scratch.nodes[at as usize];
                self.emit(node.symbol, out);
                at = node.next;
            }
        });
    }

    fn emit(&self, symbol: u32, out: &mut Vec<u32>) {
        if symbol < self.vocab_size {
            out.push(symbol);
            return;
        }
        let spelled = self.spelled.get(&symbol).map_or(&[][..], Vec::as_slice);
        let tokens = spelled.iter().map(|byte| self.bytes[usize::from(*byte)]);
        out.extend(tokens.filter(|token| *token < self.vocab_size));
    }
}

/// The two byte strings of a merge entry. The search for the space begins behind the first
/// character, because a left side may itself begin with one in odd files.
fn sides(alphabet: &ByteAlphabet, merge: &str) -> Option<(Vec<u8>, Vec<u8>)> {
    let space = merge.bytes().skip(1).position(|byte| byte == b' ')? + 1;
    let (left, right) = (
        alphabet.decode(&merge[..space])?,
        alphabet.decode(&merge[space + 1..])?,
    );
    let length = left.len() + right.len();
    (!left.is_empty() && !right.is_empty() && length <= MAX_TOKEN_BYTES).then_some((left, right))
}

/// A symbol of a word, linked to its neighbours.
#[derive(Clone, Copy)]
struct Node {
    symbol: u32,
    previous: u32,
    next: u32,
}

/// A possible merge. It is stale if the symbols at its place have changed since.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    rank: u32,
    left: u32,
    symbols: (u32, u32),
}

/// The working memory of merging, kept between words.
#[derive(Default)]
struct Merger {
    nodes: Vec<Node>,
    queue: BinaryHeap<Reverse<Candidate>>,
}

impl Merger {
    /// Merges one word: the lowest rank first, and of equals the leftmost. O(n log n).
    fn merge(&mut self, bpe: &Bpe, bytes: &[u8]) {
        let last = bytes.len().wrapping_sub(1);
        self.nodes.clear();
        self.nodes
            .extend(bytes.iter().enumerate().map(|(index, byte)| Node {
                symbol: bpe.bytes[usize::from(*byte)],
                previous: (index as u32).wrapping_sub(1),
                next: if index == last {
                    NONE
                } else {
                    index as u32 + 1
                },
            }));
        self.queue.clear();
        for left in 0..last.min(bytes.len()) {
            self.propose(bpe, left as u32);
        }
        while let Some(Reverse(candidate)) = self.queue.pop() {
            let left = self.nodes[candidate.left as usize];
            if left.symbol != candidate.symbols.0 || left.next == NONE {
                continue;
            }
            let right = self.nodes[left.next as usize];
            if right.symbol != candidate.symbols.1 {
                continue;
            }
            let Some((_, merged)) = bpe.merges.get(&candidate.symbols) else {
                continue;
            };
            // The absorbed node keeps no symbol, so that candidates that start at it are stale.
            self.nodes[left.next as usize].symbol = NONE;
            let node = &mut self.nodes[candidate.left as usize];
            node.symbol = *merged;
            node.next = right.next;
            if right.next != NONE {
                self.nodes[right.next as usize].previous = candidate.left;
            }
            self.propose(bpe, candidate.left);
            if left.previous != NONE {
                self.propose(bpe, left.previous);
            }
        }
    }

    /// Queues the merge of the symbol at `left` with its right neighbour, if there is one.
    fn propose(&mut self, bpe: &Bpe, left: u32) {
        let node = self.nodes[left as usize];
        if node.next == NONE {
            return;
        }
        let symbols = (node.symbol, self.nodes[node.next as usize].symbol);
        if let Some((rank, _)) = bpe.merges.get(&symbols) {
            self.queue.push(Reverse(Candidate {
                rank: *rank,
                left,
                symbols,
            }));
        }
    }
}
