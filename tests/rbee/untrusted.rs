//! Model files from strangers: whatever a file holds, reading it ends with a model or an error, soon and without a panic.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use candle_core::quantized::GgmlDType;
use rbee_tests::checkpoint::Checkpoint;
use rbee_tests::driver::Driver;
use rbee_tests::loaded;
use rbee_tests::random::Random;
use rbee_tests::spec::ModelSpec;
use rbee_tests::to_gguf::{BlockTypes, to_gguf};
use rbee_tests::to_safetensors::write_safetensors;
use rbee_worker::model::{LoadOptions, load};

const EACH: Duration = Duration::from_secs(60);

fn options() -> LoadOptions {
    LoadOptions {
        slots: 2,
        memory: Some(256 << 20),
        ..loaded::options()
    }
}

/// Small enough to load a thousand times.
fn tiny(spec: ModelSpec) -> ModelSpec {
    ModelSpec {
        layers: 1,
        hidden: 64,
        heads: 2,
        kv_heads: 1,
        head_dim: 32,
        rope_dims: 32,
        ffn: 64,
        ..spec
    }
}

/// Change some bytes: single bits, whole numbers at their edges, cuts, and copies of other parts.
fn mutate(bytes: &[u8], header: usize, random: &mut Random) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..1 + random.below(3) {
        // Most of what can go wrong is in the header.
        let reach = if random.below(8) == 0 {
            bytes.len()
        } else {
            header.min(bytes.len())
        };
        let at = random.below(reach.max(1));
        match random.below(5) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at] = random.next_u64() as u8,
            2 => bytes.truncate(at.max(4)),
            3 => {
                let edges = [0, 1, u64::MAX, u64::MAX / 2, 1 << 32, 1 << 31, 1 << 62];
                let edge = edges[random.below(edges.len())].to_le_bytes();
                let end = (at + 8).min(bytes.len());
                let length = end - at;
                bytes[at..end].copy_from_slice(&edge[..length]);
            }
            _ => {
                let length = 16.min(bytes.len() - at);
                let from = random.below(bytes.len() - length + 1);
                bytes.copy_within(from..from + length, at);
            }
        }
        if bytes.len() < 8 {
            break;
        }
    }
    bytes
}

/// Load and, where that works, compute a step.
fn try_model(model: &rbee_worker::model_files::ResolvedModel, what: &str) -> bool {
    let start = Instant::now();
    let outcome = catch_unwind(AssertUnwindSafe(|| match load(model, &options()) {
        Ok(loaded) => {
            let _ = loaded.tokenizer.encode(
                "Hello <|im_end|> world",
                rbee_worker::tokenizer::ParseSpecial::Yes,
            );
            let mut driver = Driver::new(loaded.model);
            if driver.vocab_size() > 3 {
                driver.run(
                    &[rbee_tests::driver::Task {
                        prompt: vec![1, 2, 3],
                        generate: 1,
                    }],
                    rbee_tests::driver::Schedule::single(8),
                );
            }
            true
        }
        Err(error) => {
            assert!(error.to_string().len() > 8, "{error}");
            false
        }
    }));
    assert!(start.elapsed() < EACH, "{what} took {:?}", start.elapsed());
    outcome.unwrap_or_else(|_| panic!("{what} panicked"))
}

#[test]
fn mutated_gguf_files_end_with_a_model_or_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    let mut loaded = 0;
    for (family, spec) in [ModelSpec::llama3(), ModelSpec::gemma3(), ModelSpec::phi3()]
        .into_iter()
        .enumerate()
    {
        let file = to_gguf(
            &Checkpoint::random(&tiny(spec)),
            BlockTypes::All(GgmlDType::Q4_0),
        );
        let data: usize = file.tensors.iter().map(|tensor| tensor.bytes.len()).sum();
        let bytes = file.bytes();
        for seed in 0..340 {
            let mut random = Random::new(seed + 1000 * family as u64);
            std::fs::write(&path, mutate(&bytes, bytes.len() - data, &mut random)).unwrap();
            loaded += usize::from(try_model(
                &loaded::gguf(&path),
                &format!("family {family}, seed {seed}"),
            ));
        }
    }
    assert!(
        (50..1000).contains(&loaded),
        "{loaded} of 1020 load: the mutations are too harsh or too mild"
    );
}

#[test]
fn mutated_safetensors_and_tokenizers_end_with_a_model_or_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let checkpoint = Checkpoint::random(&tiny(ModelSpec::qwen2()));
    write_safetensors(&checkpoint, dir.path(), candle_core::DType::F32, 1);
    for name in [
        "model.safetensors",
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ] {
        let path = dir.path().join(name);
        let whole = std::fs::read(&path).unwrap();
        for seed in 0..60 {
            let mut random = Random::new(seed);
            std::fs::write(&path, mutate(&whole, 3000, &mut random)).unwrap();
            try_model(
                &loaded::safetensors(dir.path()),
                &format!("{name}, seed {seed}"),
            );
        }
        std::fs::write(&path, whole).unwrap();
    }
}
