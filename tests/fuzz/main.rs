//! The fuzz targets on stable: the committed corpus and seeded mutations of it, as many as are named here, in bounded
//! memory. cargo-fuzz runs the same functions for as long as one likes (CONTRIBUTING.md).

#[path = "../../fuzz/targets.rs"]
mod targets;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rbee_tests::random::Random;
use rustix::process::{Resource, Rlimit, setrlimit};
use targets::TARGETS;

/// Mutations of each target; `RBEE_TEST_FULL` has ten times as many.
const MUTATIONS: usize = 1_500;
/// The longest that one input may take on a slow, shared machine.
const PATIENCE: Duration = Duration::from_secs(5);
/// Address space of the whole process: an allocation by a number that a file names ends it.
const ADDRESS_SPACE: u64 = 4 << 30;
/// The largest input that is made.
const MAX_BYTES: usize = 64 << 10;
/// Numbers and texts at which careless code breaks.
const WORDS: [&[u8]; 14] = [
    b"0",
    b"-1",
    b"1e999",
    b"18446744073709551616",
    b"null",
    b"\\ud800",
    b"\x00",
    b"\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\x00\x00\x00\x00\x00\x00\x00\x80",
    b"[[[[[[[[[[[[[[[[",
    b"{\"a\":",
    b"{% for a in range(100000) %}",
    b"{{ 'x' * 1000000000 }}",
    b"\xf0\x9f\x99\x82",
];

fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
    let folder = root.join(target);
    let entries = std::fs::read_dir(&folder).expect("every target has a corpus");
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.expect("the corpus can be listed").path())
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", folder.display());
    let read = |path: PathBuf| {
        let bytes = std::fs::read(&path).expect("the corpus can be read");
        (path, bytes)
    };
    files.into_iter().map(read).collect()
}

/// A copy with one to eight damages; now and then a piece comes from another file of the corpus.
fn mutant(original: &[u8], other: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = original.to_vec();
    for _ in 0..=random.below(8) {
        let at = random.below(bytes.len() + 1);
        let len = random.below(32).min(bytes.len() - at);
        match random.below(7) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            1 if at < bytes.len() => bytes[at] = random.next_u64() as u8,
            2 => {
                let word = WORDS[random.below(WORDS.len())];
                bytes.splice(at..at + len.min(word.len()), word.iter().copied());
            }
            3 => {
                let piece = bytes[at..at + len].to_vec();
                let copies = 1 + random.below(40);
                bytes.splice(at..at, piece.repeat(copies));
            }
            4 if random.below(4) == 0 => bytes.truncate(at),
            5 => drop(bytes.drain(at..at + len)),
            _ if !other.is_empty() => {
                let from = random.below(other.len());
                let until = (from + random.below(200)).min(other.len());
                bytes.splice(at..at + len, other[from..until].iter().copied());
            }
            _ => {}
        }
        bytes.truncate(MAX_BYTES);
    }
    bytes
}

/// Runs one input; what it was is named where it fails.
fn run(target: fn(&[u8]), bytes: &[u8], what: &str) {
    let start = Instant::now();
    let ended = std::panic::catch_unwind(|| target(bytes));
    let took = start.elapsed();
    assert!(
        ended.is_ok(),
        "{what} panics: {:?}",
        String::from_utf8_lossy(bytes)
    );
    assert!(
        took < PATIENCE,
        "{what} took {took:?}: {:?}",
        String::from_utf8_lossy(bytes)
    );
}

#[test]
fn corpus_and_its_mutations_end_soon_in_bounded_memory() {
    limit_memory();
    let full = std::env::var_os("RBEE_TEST_FULL").is_some();
    let mutations = if full { 10 * MUTATIONS } else { MUTATIONS };
    for (name, target) in TARGETS {
        let corpus = corpus(name);
        for (path, bytes) in &corpus {
            run(target, bytes, &path.display().to_string());
        }
        let mut random = Random::named(1, name);
        for number in 0..mutations {
            let (_, original) = &corpus[random.below(corpus.len())];
            let (_, other) = &corpus[random.below(corpus.len())];
            let bytes = mutant(original, other, &mut random);
            run(target, &bytes, &format!("mutation {number} of {name}"));
        }
    }
}

/// This process is this test's own, so that it may be held to it.
fn limit_memory() {
    let limit = Rlimit {
        current: Some(ADDRESS_SPACE),
        maximum: Some(ADDRESS_SPACE),
    };
    setrlimit(Resource::As, limit).expect("a process may limit itself");
}
