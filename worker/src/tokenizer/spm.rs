//! SentencePiece's BPE as Llama 2 and Gemma use it: characters, merged into the neighbouring pair
//! whose token has the highest score, with bytes for what no token spells.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap};

use super::vocab::{TokenKind, VocabSpec};

/// What stands for a space in token texts.
pub(super) const ESCAPED_SPACE: &str = "\u{2581}";
/// Marks the end of the list of symbols.
const NONE: u32 = u32::MAX;

/// The byte that a token like `<0x0A>` stands for.
pub(super) fn byte_of(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x")?.strip_suffix('>')?;
    (digits.len() == 2)
        .then(|| u8::from_str_radix(digits, 16).ok())
        .flatten()
}

/// An SPM vocabulary.
pub(super) struct Spm {
    tokens: HashMap<Box<str>, (u32, f32)>,
    longest: usize,
    bytes: [Option<u32>; 256],
    unknown: Option<u32>,
    space_prefix: bool,
}

impl Spm {
    /// Builds the lookup; `spec` has been validated.
    pub(super) fn new(spec: &VocabSpec, space_prefix: bool) -> Spm {
        let mut tokens: HashMap<Box<str>, (u32, f32)> = HashMap::with_capacity(spec.tokens.len());
        let mut bytes = [None; 256];
        for (id, (text, kind)) in spec.tokens.iter().zip(&spec.kinds).enumerate() {
            match kind {
                TokenKind::Byte => {
                    if let Some(byte) = byte_of(text) {
                        bytes[usize::from(byte)] = Some(id as u32);
                    }
                }
                TokenKind::Control | TokenKind::Unknown => {}
                TokenKind::Normal | TokenKind::UserDefined | TokenKind::Unused => {
                    let score = spec.scores.get(id).copied().unwrap_or(0.0);
                    tokens.insert(text.as_str().into(), (id as u32, score));
                }
            }
        }
        let longest = tokens.keys().map(|text| text.len()).max().unwrap_or(0);
        Spm {
            tokens,
            longest,
            bytes,
            unknown: spec.ids.unk,
            space_prefix,
        }
    }

    /// Whether a text at the beginning, or after a special token, gets a space in front.
    pub(super) fn space_prefix(&self) -> bool {
        self.space_prefix
    }

    /// Appends the tokens of a text without special tokens; `at_start`: nothing or a special token
    /// stands before it.
    pub(super) fn encode(&self, text: &str, at_start: bool, out: &mut Vec<u32>) {
        let prefix = if at_start && self.space_prefix {
            ESCAPED_SPACE
        } else {
            ""
        };
        let escaped = [prefix, &text.replace(' ', ESCAPED_SPACE)].concat();
        let merger = Merger::merge(self, &escaped);
        let mut at = if escaped.is_empty() { NONE } else { 0 };
        while at != NONE {
            let node = &merger.nodes[at as usize];
            self.emit(merger.text(node), out);
            at = node.next;
        }
    }

    fn emit(&self, text: &str, out: &mut Vec<u32>) {
        if let Some((id, _)) = self.tokens.get(text) {
            out.push(*id);
            return;
        }
        let bytes: Option<Vec<u32>> = text
            .bytes()
            .map(|byte| self.bytes[usize::from(byte)])
            .collect();
        match bytes {
            Some(ids) => out.extend(ids),
            None => out.extend(self.unknown),
        }
    }
}

/// A piece of the text, linked to its neighbours; an absorbed one is empty.
#[derive(Clone, Copy)]
struct Node {
    start: u32,
    length: u32,
    previous: u32,
    next: u32,
}

/// A possible merge; stale if the pair at its place no longer has this length.
struct Candidate {
    score: f32,
    left: u32,
    length: u32,
}

impl Ord for Candidate {
    fn cmp(&self, other: &Candidate) -> Ordering {
        self.score
            .total_cmp(&other.score)
            .then(other.left.cmp(&self.left))
            .then(other.length.cmp(&self.length))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Candidate) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Candidate) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Candidate {}

/// The merging of one text.
struct Merger<'a> {
    spm: &'a Spm,
    source: &'a str,
    nodes: Vec<Node>,
    queue: BinaryHeap<Candidate>,
}

impl<'a> Merger<'a> {
    /// Merges until no neighbouring pair is a token: the highest score first, and of equals the
    /// leftmost. O(n log n) for tokens of bounded length.
    fn merge(spm: &'a Spm, source: &'a str) -> Merger<'a> {
        let mut nodes: Vec<Node> = Vec::with_capacity(source.len());
        for (start, c) in source.char_indices() {
            let index = nodes.len() as u32;
            let (start, length) = (start as u32, c.len_utf8() as u32);
            nodes.push(Node {
                start,
                length,
                previous: index.wrapping_sub(1),
                next: index + 1,
            });
        }
        if let Some(last) = nodes.last_mut() {
            last.next = NONE;
        }
        let mut merger = Merger {
            spm,
            source,
            nodes,
            queue: BinaryHeap::new(),
        };
        for left in 0..merger.nodes.len() {
            merger.propose(left as u32);
        }
        while let Some(candidate) = merger.queue.pop() {
            merger.apply(&candidate);
        }
        merger
    }

    fn text(&self, node: &Node) -> &'a str {
        &self.source[node.start as usize..(node.start + node.length) as usize]
    }

    fn apply(&mut self, candidate: &Candidate) {
        let left = self.nodes[candidate.left as usize];
        if left.length == 0 || left.next == NONE {
            return;
        }
        let right = self.nodes[left.next as usize];
        if left.length + right.length != candidate.length {
            return;
        }
        self.nodes[left.next as usize].length = 0;
        let node = &mut self.nodes[candidate.left as usize];
        node.length = candidate.length;
        node.next = right.next;
        if right.next != NONE {
            self.nodes[right.next as usize].previous = candidate.left;
        }
        self.propose(candidate.left);
        if left.previous != NONE {
            self.propose(left.previous);
        }
    }

    /// Queues the merge of the piece at `left` with its right neighbour, if that is a token.
    fn propose(&mut self, left: u32) {
        let node = self.nodes[left as usize];
        if node.next == NONE {
            return;
        }
        let length = node.length + self.nodes[node.next as usize].length;
        if length as usize > self.spm.longest {
            return;
        }
        let pair = &self.source[node.start as usize..(node.start + length) as usize];
        if let Some((_, score)) = self.spm.tokens.get(pair) {
            self.queue.push(Candidate {
                score: *score,
                left,
                length,
            });
        }
    }
}
