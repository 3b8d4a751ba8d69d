//! Tests of reading and validating GGUF files.

use std::io::Write as _;

use super::write::GgufWriter;
use super::*;

/// A small valid model with every kind of metadata value and two quantised tensors.
pub(crate) fn sample() -> GgufWriter {
    let mut writer = GgufWriter::new("llama");
    writer
        .set("general.name", Value::String("a small one".into()))
        .set("llama.context_length", Value::U32(128))
        .set("llama.rope.freq_base", Value::F32(10_000.0))
        .set("flag", Value::Bool(true))
        .set("small", Value::I8(-3))
        .set("wide", Value::U64(u64::MAX))
        .set("double", Value::F64(0.5))
        .set(
            "tokenizer.ggml.tokens",
            Value::Array(Array::String(
                (0..40).map(|i| format!("token{i}")).collect(),
            )),
        )
        .set(
            "tokenizer.ggml.scores",
            Value::Array(Array::F32(vec![-1.5; 40])),
        )
        .set(
            "tokenizer.ggml.token_type",
            Value::Array(Array::I32(vec![1; 40])),
        )
        .set(
            "nested",
            Value::Array(Array::Array(vec![
                Array::U8(vec![1, 2]),
                Array::Bool(vec![true]),
            ])),
        )
        .tensor(
            "token_embd.weight",
            BlockType::Q4_1,
            &[64, 4],
            vec![7; 2 * 4 * 20],
        )
        .tensor_f32("output_norm.weight", &[3], &[1.0, 2.0, 3.0])
        .tensor(
            "blk.0.ffn_up.weight",
            BlockType::Q6K,
            &[256, 2],
            vec![9; 2 * 210],
        );
    writer
}

fn open_bytes(bytes: &[u8]) -> Result<Gguf, GgufError> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    Gguf::open(file.path())
}

fn problem_of(bytes: &[u8]) -> Problem {
    open_bytes(bytes).unwrap_err().problem
}

#[test]
fn written_file_reads_back_equal() {
    let gguf = open_bytes(&sample().to_bytes()).unwrap();
    assert_eq!(gguf.architecture().unwrap(), "llama");
    assert_eq!(gguf.get("small").unwrap().as_i64(), Some(-3));
    assert_eq!(gguf.get("small").unwrap().as_u64(), None);
    assert_eq!(gguf.get("wide").unwrap().as_u64(), Some(u64::MAX));
    assert_eq!(gguf.get("double").unwrap().as_f64(), Some(0.5));
    assert_eq!(gguf.get("flag").unwrap().as_bool(), Some(true));
    let tokens = gguf
        .get("tokenizer.ggml.tokens")
        .unwrap()
        .as_array()
        .unwrap()
        .as_strings()
        .unwrap();
    assert_eq!(tokens[39], "token39");
    let norm = gguf.tensor("output_norm.weight").unwrap();
    assert_eq!(norm.data, [1.0f32, 2.0, 3.0].map(f32::to_le_bytes).concat());
    let ffn = gguf.tensor("blk.0.ffn_up.weight").unwrap();
    assert_eq!(
        (ffn.info.shape.as_slice(), ffn.info.dtype, ffn.data.len()),
        (&[256, 2][..], BlockType::Q6K, 420)
    );
    assert!(gguf.tensor("missing").is_none());
    assert_eq!(gguf.tensors().count(), 3);
}

#[test]
fn every_block_type_keeps_ggmls_size_and_number() {
    let sizes: Vec<(u32, usize, usize)> = BlockType::ALL
        .iter()
        .map(|kind| (kind.id(), kind.block_len(), kind.block_bytes()))
        .collect();
    let ggml = [
        (0, 1, 4),
        (1, 1, 2),
        (30, 1, 2),
        (2, 32, 18),
        (3, 32, 20),
        (6, 32, 22),
        (7, 32, 24),
        (8, 32, 34),
        (10, 256, 84),
        (11, 256, 110),
        (12, 256, 144),
        (13, 256, 176),
        (14, 256, 210),
        (15, 256, 292),
    ];
    assert_eq!(sizes, ggml);
    assert_eq!(BlockType::from_id(20), Err("IQ4_NL".to_owned()));
    assert_eq!(BlockType::from_id(99), Err("number 99".to_owned()));
}

#[test]
fn other_versions_and_byte_orders_are_refused_by_name() {
    let mut bytes = sample().to_bytes();
    bytes[4..8].copy_from_slice(&1u32.to_le_bytes());
    assert!(matches!(problem_of(&bytes), Problem::Version(1)));
    bytes[4..8].copy_from_slice(&3u32.to_be_bytes());
    assert!(matches!(problem_of(&bytes), Problem::BigEndian));
    bytes[4..8].copy_from_slice(&2u32.to_le_bytes());
    assert!(open_bytes(&bytes).is_ok());
    assert!(matches!(problem_of(b"GG"), Problem::Magic));
    assert!(matches!(problem_of(b""), Problem::Magic));
    assert!(matches!(problem_of(b"{\"json\": true}"), Problem::Magic));
}

#[test]
fn every_truncation_is_an_error() {
    let bytes = sample().to_bytes();
    let data_end = bytes.len() - 28; // the last tensor's padding may be missing: 420 = 13 * 32 + 4
    for len in 0..data_end {
        assert!(
            open_bytes(&bytes[..len]).is_err(),
            "a file cut to {len} bytes opened"
        );
    }
    assert!(open_bytes(&bytes[..data_end]).is_ok());
}

#[test]
fn huge_claims_are_refused_without_allocating() {
    let bytes = sample().to_bytes();
    for (at, what) in [(8, "tensors"), (16, "keys"), (24, "key length")] {
        for claim in [u64::MAX, u64::MAX / 8, 1 << 40, 1 << 20] {
            let mut bytes = bytes.clone();
            bytes[at..at + 8].copy_from_slice(&claim.to_le_bytes());
            assert!(open_bytes(&bytes).is_err(), "{claim} {what}");
        }
    }
    let mut writer = GgufWriter::new("llama");
    writer.set("list", Value::Array(Array::String(Vec::new())));
    let bytes = writer.to_bytes();
    let count_at = bytes
        .windows(4)
        .position(|window| window == b"list")
        .unwrap()
        + 4
        + 4
        + 4;
    let mut bytes = bytes;
    bytes[count_at..count_at + 8].copy_from_slice(&(1u64 << 60).to_le_bytes());
    assert!(matches!(
        problem_of(&bytes),
        Problem::Truncated { what: "metadata" }
    ));
}

#[test]
fn impossible_tensors_are_refused() {
    let shape = |dims: &[usize], dtype, data: usize| {
        let mut writer = GgufWriter::new("llama");
        writer.tensor("t", dtype, dims, vec![0; data]);
        problem_of(&writer.to_bytes())
    };
    assert!(matches!(
        shape(&[0, 4], BlockType::F32, 0),
        Problem::Shape { .. }
    ));
    assert!(matches!(
        shape(&[], BlockType::F32, 4),
        Problem::Shape { .. }
    ));
    assert!(matches!(
        shape(&[33], BlockType::Q8_0, 34),
        Problem::Shape { .. }
    ));
    assert!(matches!(
        shape(&[1 << 40, 1 << 40], BlockType::F32, 4),
        Problem::Shape { .. }
    ));
    assert!(matches!(
        shape(&[1 << 40], BlockType::F32, 4),
        Problem::OutOfFile { .. }
    ));
    assert!(matches!(
        shape(&[1; 5], BlockType::F32, 4),
        Problem::Limit { .. }
    ));
}

#[test]
fn tensors_on_the_same_bytes_are_refused() {
    let mut bytes = sample().to_bytes();
    let name = b"output_norm.weight";
    let at = bytes
        .windows(name.len())
        .position(|window| window == name)
        .unwrap()
        + name.len()
        + 4
        + 8
        + 4;
    bytes[at..at + 8].fill(0);
    assert!(matches!(problem_of(&bytes), Problem::Overlap { .. }));
    bytes[at] = 1;
    assert!(matches!(problem_of(&bytes), Problem::Misaligned { .. }));
}

#[test]
fn bad_alignments_are_refused() {
    for value in [
        Value::U32(0),
        Value::U32(3),
        Value::U64(1 << 40),
        Value::I32(-32),
        Value::Bool(true),
    ] {
        let mut writer = sample();
        writer.set("general.alignment", value.clone());
        assert!(
            matches!(problem_of(&writer.to_bytes()), Problem::Alignment(_)),
            "{value:?}"
        );
    }
}

#[test]
fn arrays_nested_too_deep_are_refused() {
    let mut array = Array::U8(vec![1]);
    for _ in 0..ARRAY_NESTINGS {
        array = Array::Array(vec![array]);
    }
    let mut writer = sample();
    writer.set("deep", Value::Array(array));
    assert!(matches!(
        problem_of(&writer.to_bytes()),
        Problem::Limit { .. }
    ));
}

/// Deep enough to end the stack of a parser without a limit, not that of the test's own drop.
const ARRAY_NESTINGS: usize = 300;

fn write_split(dir: &Path, parts: &[Vec<u8>]) -> Vec<PathBuf> {
    let name = |i: usize| dir.join(format!("m-{:05}-of-{:05}.gguf", i + 1, parts.len()));
    for (i, bytes) in parts.iter().enumerate() {
        std::fs::write(name(i), bytes).unwrap();
    }
    (0..parts.len()).map(name).collect()
}

#[test]
fn any_part_of_a_split_model_opens_the_whole() {
    let dir = tempfile::tempdir().unwrap();
    let whole = open_bytes(&sample().to_bytes()).unwrap();
    for path in write_split(dir.path(), &sample().to_split(3)) {
        let gguf = Gguf::open(&path).unwrap();
        assert_eq!(gguf.architecture().unwrap(), "llama");
        assert_eq!(gguf.tensors().count(), 3);
        for info in whole.tensors() {
            assert_eq!(
                gguf.tensor(&info.name).unwrap().data,
                whole.tensor(&info.name).unwrap().data
            );
        }
    }
}

#[test]
fn split_model_with_a_missing_or_foreign_part_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let paths = write_split(dir.path(), &sample().to_split(3));
    let second = std::fs::read(&paths[1]).unwrap();
    std::fs::write(&paths[1], std::fs::read(&paths[2]).unwrap()).unwrap();
    assert!(matches!(
        Gguf::open(&paths[0]).unwrap_err().problem,
        Problem::SplitOrder { number: 2, .. }
    ));
    std::fs::remove_file(&paths[1]).unwrap();
    let missing = Gguf::open(&paths[0]).unwrap_err();
    assert!(
        matches!(
            missing.problem,
            Problem::MissingPart {
                number: 2,
                count: 3
            }
        ),
        "{missing}"
    );
    let alone = dir.path().join("renamed.gguf");
    std::fs::write(&alone, second).unwrap();
    assert!(matches!(
        Gguf::open(&alone).unwrap_err().problem,
        Problem::SplitName { count: 3 }
    ));
}

#[test]
fn directory_pipe_and_missing_file_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(
        Gguf::open(dir.path()).unwrap_err().problem,
        Problem::NotAFile
    ));
    assert!(matches!(
        Gguf::open(&dir.path().join("x.gguf")).unwrap_err().problem,
        Problem::Io(_)
    ));
    let pipe = dir.path().join("pipe.gguf");
    let status = std::process::Command::new("mkfifo")
        .arg(&pipe)
        .status()
        .unwrap();
    assert!(status.success());
    assert!(matches!(
        Gguf::open(&pipe).unwrap_err().problem,
        Problem::NotAFile
    ));
}

#[test]
fn file_changed_while_open_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.gguf");
    std::fs::write(&path, sample().to_bytes()).unwrap();
    let gguf = Gguf::open(&path).unwrap();
    gguf.check_unchanged().unwrap();
    std::fs::OpenOptions::new()
        .append(true)
        .open(&path)
        .unwrap()
        .write_all(b"more")
        .unwrap();
    assert!(matches!(
        gguf.check_unchanged().unwrap_err().problem,
        Problem::Changed
    ));
}

/// The seed of the mutations; printed by a failing assertion.
const SEED: u64 = 0x6767_7566;
const MUTANTS: u64 = 1_000;
const TIME_MAX: std::time::Duration = std::time::Duration::from_secs(60);

#[test]
fn thousand_mutated_files_never_panic_and_take_bounded_time() {
    let original = sample().to_bytes();
    let mut opened = 0;
    for number in 0..MUTANTS {
        let bytes = mutate::mutant(&original, SEED + number);
        let started = std::time::Instant::now();
        if let Ok(gguf) = open_bytes(&bytes) {
            opened += 1;
            // What opened keeps its promises.
            for info in gguf.tensors() {
                let tensor = gguf.tensor(&info.name).unwrap();
                assert_eq!(
                    Some(tensor.data.len()),
                    info.dtype.bytes_of(info.elements()),
                    "seed {SEED} + {number}"
                );
            }
            let _ = gguf.architecture();
        }
        assert!(
            started.elapsed() < TIME_MAX,
            "seed {SEED} + {number} took {:?}",
            started.elapsed()
        );
    }
    assert!(
        opened > 0 && opened < MUTANTS,
        "{opened} opened: the mutations are too weak or too strong"
    );
}
