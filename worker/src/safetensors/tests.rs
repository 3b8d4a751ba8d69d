//! Tests of reading and validating safetensors models.

use std::time::{Duration, Instant};

use super::*;
use crate::gguf::BlockType;

/// A file with these header entries (JSON) and data.
fn file(entries: &str, data: &[u8]) -> Vec<u8> {
    let header = format!("{{{entries}}}");
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    bytes
}

fn sample() -> Vec<u8> {
    let entries = r#""__metadata__":{"format":"pt"},
        "embed.weight":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},
        "ids":{"dtype":"I64","shape":[1],"data_offsets":[24,32]},
        "scale":{"dtype":"F32","shape":[],"data_offsets":[32,36]},
        "norm.weight":{"dtype":"BF16","shape":[4],"data_offsets":[36,44]}"#;
    file(entries, &(0..44).collect::<Vec<u8>>())
}

fn model(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("config.json"), r#"{"model_type":"llama"}"#).unwrap();
    for (name, bytes) in files {
        std::fs::write(dir.path().join(name), bytes).unwrap();
    }
    dir
}

fn open_bytes(bytes: &[u8]) -> Result<Safetensors, SafetensorsError> {
    Safetensors::open(model(&[("model.safetensors", bytes)]).path())
}

#[test]
fn single_file_model_opens_with_ggml_shapes() {
    let model = open_bytes(&sample()).unwrap();
    let embed = model.tensor("embed.weight").unwrap();
    assert_eq!(
        (embed.info.shape.as_slice(), embed.info.dtype),
        (&[3, 2][..], BlockType::F32)
    );
    assert_eq!(embed.data, (0..24).collect::<Vec<u8>>());
    assert_eq!(
        model.tensor("norm.weight").unwrap().data,
        (36..44).collect::<Vec<u8>>()
    );
    assert_eq!(model.tensor("scale").unwrap().info.shape, [1]);
    assert!(model.tensor("ids").is_none(), "integers are no weights");
    assert_eq!(model.config["model_type"], "llama");
    assert_eq!(model.tensors().count(), 3);
    assert_eq!(model.tensor_bytes(), 24 + 4 + 8);
}

#[test]
fn sharded_model_opens_by_its_index() {
    let first = file(
        r#""a":{"dtype":"F16","shape":[2],"data_offsets":[0,4]}"#,
        &[1; 4],
    );
    let second = file(
        r#""b":{"dtype":"F16","shape":[1],"data_offsets":[0,2]}"#,
        &[2; 2],
    );
    let index = r#"{"weight_map":{"a":"m-1.safetensors","b":"m-2.safetensors"}}"#;
    let files: [(&str, &[u8]); 3] = [
        ("m-1.safetensors", &first),
        ("m-2.safetensors", &second),
        (INDEX_FILE, index.as_bytes()),
    ];
    let dir = model(&files);
    let opened = Safetensors::open(dir.path()).unwrap();
    assert_eq!(opened.tensor("a").unwrap().data, [1; 4]);
    assert_eq!(opened.tensor("b").unwrap().data, [2; 2]);
    std::fs::remove_file(dir.path().join("m-2.safetensors")).unwrap();
    let missing = Safetensors::open(dir.path()).unwrap_err();
    assert!(
        matches!(missing.problem, Problem::MissingShard { .. }),
        "{missing}"
    );
    std::fs::write(dir.path().join("m-2.safetensors"), &first).unwrap();
    assert!(matches!(
        Safetensors::open(dir.path()).unwrap_err().problem,
        Problem::DuplicateTensor { .. }
    ));
}

#[test]
fn index_that_leads_elsewhere_is_refused() {
    for name in [
        "../m.safetensors",
        "/m.safetensors",
        "a/m.safetensors",
        "m.bin",
        "..\\\\m.safetensors",
        "",
    ] {
        let index =
            parse_index(format!(r#"{{"weight_map":{{"a":"{name}"}}}}"#).as_bytes()).unwrap();
        assert!(
            weight_files(&[name], Some(&index)).is_err(),
            "{name} passed"
        );
    }
    assert!(matches!(
        weight_files(&["a.safetensors", "b.safetensors"], None),
        Err(Problem::ManyWeights { .. })
    ));
    assert_eq!(
        weight_files(&["model.safetensors", "b.safetensors"], None).unwrap(),
        ["model.safetensors"]
    );
    assert_eq!(
        weight_files(&["only.safetensors"], None).unwrap(),
        ["only.safetensors"]
    );
}

#[test]
fn impossible_tensors_are_refused() {
    let refused = |entry: &str| open_bytes(&file(entry, &[0; 16])).unwrap_err().problem;
    let tensor = |shape: &str, start: u64, end: u64| {
        format!(r#""t":{{"dtype":"F32","shape":{shape},"data_offsets":[{start},{end}]}}"#)
    };
    assert!(matches!(
        refused(&tensor("[4]", 0, 12)),
        Problem::Offsets { .. }
    ));
    assert!(matches!(
        refused(&tensor("[4]", 4, 20)),
        Problem::Offsets { .. }
    ));
    assert!(matches!(
        refused(&tensor("[4]", 16, 0)),
        Problem::Offsets { .. }
    ));
    assert!(matches!(
        refused(&tensor("[4]", u64::MAX - 15, u64::MAX)),
        Problem::Offsets { .. }
    ));
    assert!(matches!(
        refused(&tensor("[0]", 0, 0)),
        Problem::Shape { .. }
    ));
    assert!(matches!(
        refused(&tensor("[1,1,1,1,4]", 0, 16)),
        Problem::Shape { .. }
    ));
    assert!(matches!(
        refused(&tensor(&format!("[{0},{0}]", u64::MAX), 0, 16)),
        Problem::Shape { .. }
    ));
    let overlap = r#""a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}"#;
    assert!(matches!(refused(overlap), Problem::Overlap { .. }));
    let twice = r#""a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"a":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}"#;
    assert!(matches!(refused(twice), Problem::Header(_)));
    let eight_bit = r#""a":{"dtype":"F8_E4M3","shape":[16],"data_offsets":[0,16]}"#;
    assert!(matches!(refused(eight_bit), Problem::TensorType { .. }));
    let nested = format!(r#""a":{}"#, "[".repeat(100_000));
    assert!(matches!(refused(&nested), Problem::Header(_)));
}

#[test]
fn every_truncation_is_an_error() {
    let bytes = sample();
    for len in 0..bytes.len() {
        assert!(
            open_bytes(&bytes[..len]).is_err(),
            "a file cut to {len} bytes opened"
        );
    }
}

#[test]
fn bad_configurations_are_refused() {
    let with_config = |config: &[u8]| {
        let dir = model(&[("model.safetensors", &sample())]);
        std::fs::write(dir.path().join("config.json"), config).unwrap();
        Safetensors::open(dir.path()).unwrap_err().problem
    };
    assert!(matches!(with_config(b"[]"), Problem::Json { .. }));
    assert!(matches!(with_config(b"{"), Problem::Json { .. }));
    assert!(matches!(
        with_config("[".repeat(100_000).as_bytes()),
        Problem::Json { .. }
    ));
    assert!(matches!(
        with_config(&vec![b' '; 2 << 20]),
        Problem::TooLong { .. }
    ));
    let quantised = with_config(br#"{"quantization_config":{"quant_method":"gptq"}}"#);
    assert!(quantised.to_string().contains("gptq"), "{quantised}");
}

/// The seed of the mutations; printed by a failing assertion.
const SEED: u64 = 0x5afe_7e50;
const MUTANTS: u64 = 1_000;
const TIME_MAX: Duration = Duration::from_secs(60);

#[test]
fn thousand_mutated_files_never_panic_and_take_bounded_time() {
    let original = sample();
    let mut opened = 0;
    for number in 0..MUTANTS {
        let bytes = crate::gguf::mutate::mutant(&original, SEED + number);
        let started = Instant::now();
        if let Ok(model) = open_bytes(&bytes) {
            opened += 1;
            for info in model.tensors() {
                let tensor = model.tensor(&info.name).unwrap();
                assert_eq!(
                    tensor.data.len(),
                    info.dtype.bytes_of(info.elements()).unwrap(),
                    "seed {SEED} + {number}"
                );
            }
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
