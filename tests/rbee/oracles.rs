//! The oracles hold each other: candle's f32 models of a checkpoint give the logits of the plain forward pass over the
//! same weights as GGUF. What then differs from both is the engine's doing.

use candle_core::quantized::GgmlDType;
use rbee_tests::checkpoint::Checkpoint;
use rbee_tests::logits::distance;
use rbee_tests::oracle::Oracle;
use rbee_tests::random::Random;
use rbee_tests::reference::Reference;
use rbee_tests::spec::{ModelSpec, RopeScaling};
use rbee_tests::to_gguf::{BlockTypes, to_gguf};

/// f32 against f64 sums over a few layers.
const SAME: f64 = 1e-4;

fn compare(spec: &ModelSpec, length: usize) {
    let checkpoint = Checkpoint::random(spec);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    to_gguf(&checkpoint, BlockTypes::All(GgmlDType::F32))
        .write(&path)
        .unwrap();
    let mut random = Random::new(11);
    let tokens: Vec<u32> = (0..length)
        .map(|_| random.below(checkpoint.vocabulary.len()) as u32)
        .collect();
    let right = Reference::open(&path).last_logits(&tokens);
    let found = distance(&Oracle::of(&checkpoint).logits(&tokens, 0), &right);
    assert!(found.relative < SAME, "{}: {found:?}", spec.name);
}

#[test]
fn plain_forward_equals_candles_f32_models() {
    for spec in [
        ModelSpec::llama3(),
        ModelSpec::mistral(),
        ModelSpec::qwen2(),
        ModelSpec::qwen3(),
        ModelSpec::phi3(),
    ] {
        compare(&spec, 90);
    }
}

#[test]
fn plain_forward_equals_candles_gemma3_within_its_window() {
    let spec = ModelSpec::gemma3();
    compare(&spec, spec.window);
}

#[test]
fn plain_forward_equals_candles_phi3_with_partly_rotated_heads() {
    let spec = ModelSpec {
        rope_scaling: RopeScaling::None,
        ..ModelSpec::phi3_longrope()
    };
    compare(&spec, 60);
}
