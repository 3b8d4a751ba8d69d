//! The engine's logits against the plain forward pass and candle's own models, on the same files.
//!
//! The bounds: a file of f32 weights differs from the right logits by what f16 keys and values cost, a quantised one by
//! what 8-bit activations cost. Both are relative to the deviation of the logits over the vocabulary.

use candle_core::DType;
use candle_core::quantized::GgmlDType;
use rbee_tests::driver::{Driver, Schedule, Task};
use rbee_tests::loaded::{self, OnDisk};
use rbee_tests::logits::{Distance, distance, greedy, regret, worst};
use rbee_tests::oracle::Oracle;
use rbee_tests::random::Random;
use rbee_tests::reference::Reference;
use rbee_tests::spec::{ModelSpec, RopeScaling};
use rbee_tests::to_gguf::{BlockTypes, WEIGHT_TYPES};
use rbee_tests::to_safetensors::write_safetensors;
use rbee_worker::model::LoadOptions;
use rbee_worker::model::memory::KvType;

/// f32 weights, f32 keys and values.
const DENSE: f64 = 1e-4;
/// f32 weights, f16 keys and values.
const DENSE_F16_KV: f64 = 2e-3;
/// Quantised weights: activations are rounded to 8 bits for each block of 32.
const QUANTISED: f64 = 0.08;
/// Against a plain forward pass with the same rounding: only values on the edge between two roundings may fall apart.
const SAME_ROUNDING: f64 = 0.02;
/// Against the same, where no value fell apart.
const SAME_ROUNDINGS_EXACTLY: f64 = 1e-4;
/// Generated tokens may differ from the right ones where the right logits hardly prefer one: by this share of the largest
/// difference of any logit.
const NEAR_TIE: f64 = 1.0;

const QUANTISATIONS: [BlockTypes; 3] = [
    BlockTypes::All(GgmlDType::Q8_0),
    BlockTypes::All(GgmlDType::Q4_0),
    BlockTypes::EveryType,
];

fn tokens(vocabulary: usize, length: usize, seed: u64) -> Vec<u32> {
    let mut random = Random::new(seed);
    (0..length)
        .map(|_| random.below(vocabulary) as u32)
        .collect()
}

/// The distance of the engine's logits after a prompt of this length, and after eight more tokens.
fn engine_distance(model: &OnDisk, options: &LoadOptions, length: usize) -> Distance {
    let reference = Reference::open(&model.path);
    let mut driver = model.driver(options);
    judged(
        &mut driver,
        &reference,
        &tokens(model.checkpoint.vocabulary.len(), length, 3),
    )
}

/// Generate, then compare each row of logits with the right one for the same tokens; generated tokens must be the right
/// ones but for near-ties.
fn judged(driver: &mut Driver, reference: &Reference, prompt: &[u32]) -> Distance {
    const GENERATE: usize = 9;
    let answer = driver.alone(prompt, GENERATE);
    let mut all = prompt.to_vec();
    all.extend(&answer.tokens);
    let positions: Vec<usize> = (0..GENERATE).map(|at| prompt.len() - 1 + at).collect();
    let right = reference.logits(&all, &positions);
    let found = worst(
        answer
            .logits
            .iter()
            .zip(&right)
            .map(|(logits, right)| distance(logits, right)),
    );
    for (token, right) in answer.tokens.iter().zip(&right) {
        let regret = regret(right, *token);
        assert!(
            regret <= NEAR_TIE * found.largest,
            "token {token} instead of {}: worse by {regret}, logits differ by at most {}",
            greedy(right),
            found.largest
        );
    }
    found
}

#[test]
fn dense_models_of_every_family_give_the_right_logits() {
    let exact = LoadOptions {
        kv: KvType::F32,
        ..loaded::options()
    };
    for spec in ModelSpec::zoo() {
        let model = OnDisk::new(&spec, BlockTypes::All(GgmlDType::F32));
        let found = engine_distance(&model, &exact, 70);
        assert!(
            found.relative < DENSE,
            "{} with f32 KV: {found:?}",
            spec.name
        );
        let found = engine_distance(&model, &loaded::options(), 70);
        assert!(
            found.relative < DENSE_F16_KV,
            "{} with f16 KV: {found:?}",
            spec.name
        );
    }
}

#[test]
fn quantised_models_of_every_family_give_the_right_logits() {
    for spec in ModelSpec::zoo() {
        for types in QUANTISATIONS {
            let model = OnDisk::new(&spec, types);
            let found = engine_distance(&model, &loaded::options(), 50);
            assert!(
                found.relative < QUANTISED,
                "{} {types:?}: {found:?}",
                spec.name
            );
        }
    }
}

#[test]
fn quantised_models_differ_from_the_right_logits_by_the_rounding_of_activations_and_nothing_else() {
    let exact = LoadOptions {
        kv: KvType::F32,
        ..loaded::options()
    };
    let mut equal = 0;
    for spec in ModelSpec::zoo() {
        for types in QUANTISATIONS {
            let model = OnDisk::new(&spec, types);
            let prompt = tokens(model.checkpoint.vocabulary.len(), 50, 3);
            let rounding = Reference::open(&model.path).rounding_activations();
            let engine = model.driver(&exact).alone(&prompt, 1).logits.remove(0);
            let found = distance(&engine, &rounding.last_logits(&prompt));
            assert!(
                found.relative < SAME_ROUNDING,
                "{} {types:?}: {found:?}",
                spec.name
            );
            equal += usize::from(found.relative < SAME_ROUNDINGS_EXACTLY);
        }
    }
    assert!(
        equal >= 6,
        "only {equal} models are exactly the plain forward pass with rounding"
    );
}

#[test]
fn every_block_type_gives_the_right_logits() {
    for dtype in WEIGHT_TYPES {
        let model = OnDisk::new(&ModelSpec::mistral(), BlockTypes::All(dtype));
        let found = engine_distance(&model, &loaded::options(), 40);
        assert!(found.relative < QUANTISED, "{dtype:?}: {found:?}");
    }
}

#[test]
fn longrope_takes_its_long_factors_for_contexts_beyond_the_original_one() {
    let spec = ModelSpec::phi3_longrope();
    let RopeScaling::LongRope {
        original_context, ..
    } = &spec.rope_scaling
    else {
        panic!("it is a longrope model");
    };
    let model = OnDisk::new(&spec, BlockTypes::All(GgmlDType::F32));
    let prompt = tokens(300, 60, 3);
    let mut rows = Vec::new();
    for context in [*original_context, spec.context] {
        let options = LoadOptions {
            kv: KvType::F32,
            context: Some(context),
            ..loaded::options()
        };
        let reference = Reference::open(&model.path).for_context(context);
        let found = judged(&mut model.driver(&options), &reference, &prompt);
        assert!(found.relative < DENSE, "context {context}: {found:?}");
        rows.push(reference.last_logits(&prompt));
    }
    let apart = distance(&rows[0], &rows[1]);
    assert!(
        apart.relative > 0.1,
        "the factors make no difference, so this test shows nothing: {apart:?}"
    );
}

#[test]
fn safetensors_give_the_right_logits() {
    let exact = LoadOptions {
        kv: KvType::F32,
        ..loaded::options()
    };
    for (at, spec) in ModelSpec::zoo().into_iter().enumerate() {
        let model = OnDisk::new(&spec, BlockTypes::All(GgmlDType::F32));
        let dir = model.dir().join("safetensors");
        write_safetensors(&model.checkpoint, &dir, DType::F32, 1 + at % 2);
        let mut driver = Driver::new(loaded::open(&loaded::safetensors(&dir), &exact).model);
        let prompt = tokens(model.checkpoint.vocabulary.len(), 60, 5);
        let found = judged(&mut driver, &Reference::open(&model.path), &prompt);
        assert!(found.relative < DENSE, "{}: {found:?}", spec.name);
    }
}

#[test]
fn half_precision_safetensors_give_the_logits_of_the_same_rounded_weights() {
    let exact = LoadOptions {
        kv: KvType::F32,
        ..loaded::options()
    };
    for (dtype, stored) in [(DType::F16, GgmlDType::F16), (DType::BF16, GgmlDType::BF16)] {
        let spec = ModelSpec::qwen2();
        let model = OnDisk::new(&spec, BlockTypes::All(stored));
        let dir = model.dir().join("safetensors");
        write_safetensors(&model.checkpoint, &dir, dtype, 1);
        let mut driver = Driver::new(loaded::open(&loaded::safetensors(&dir), &exact).model);
        let prompt = tokens(model.checkpoint.vocabulary.len(), 60, 5);
        let found = judged(&mut driver, &Reference::open(&model.path), &prompt);
        // Norms and biases are f32 in the GGUF file and rounded in the safetensors, hence not DENSE.
        assert!(found.relative < 0.01, "{dtype:?}: {found:?}");
    }
}

#[test]
fn a_split_file_gives_the_logits_of_the_whole_one() {
    use rbee_tests::to_gguf::to_gguf;
    let types = BlockTypes::EveryType;
    let whole = OnDisk::new(&ModelSpec::qwen3(), types);
    let first = to_gguf(&whole.checkpoint, types)
        .write_split(whole.dir(), "parts", 3)
        .unwrap();
    let parts = (1..=3)
        .map(|part| whole.dir().join(format!("parts-{part:05}-of-00003.gguf")))
        .collect();
    assert!(first.exists());
    let prompt = tokens(200, 33, 9);
    let split = loaded::open(&loaded::split_gguf(parts), &loaded::options());
    let found = Driver::new(split.model).alone(&prompt, 4);
    assert_eq!(
        found.bits(),
        whole.driver(&loaded::options()).alone(&prompt, 4).bits()
    );
}

#[test]
fn engine_is_as_near_to_the_right_logits_as_candles_own_quantised_models() {
    let specs = [
        ModelSpec {
            rope_scaling: RopeScaling::None,
            ..ModelSpec::llama3()
        },
        ModelSpec::mistral(),
        ModelSpec::qwen2(),
        ModelSpec::qwen3(),
        ModelSpec::phi3(),
    ];
    for spec in specs {
        let model = OnDisk::new(&spec, BlockTypes::All(GgmlDType::Q8_0));
        let prompt = tokens(model.checkpoint.vocabulary.len(), 50, 3);
        let right = Reference::open(&model.path).last_logits(&prompt);
        let candle = distance(&Oracle::open(&model.path).logits(&prompt, 0), &right);
        let engine = model
            .driver(&loaded::options())
            .alone(&prompt, 1)
            .logits
            .remove(0);
        let engine = distance(&engine, &right);
        assert!(
            candle.relative < QUANTISED,
            "candle's {}: {candle:?}",
            spec.name
        );
        assert!(
            engine.relative < 2.0 * candle.relative,
            "{}: {engine:?}, candle: {candle:?}",
            spec.name
        );
    }
}

#[test]
fn a_window_smaller_than_the_prompt_hides_what_lies_before_it() {
    let spec = ModelSpec {
        layers: 1,
        ..ModelSpec::gemma3()
    };
    let model = OnDisk::new(&spec, BlockTypes::All(GgmlDType::F32));
    let mut driver = model.driver(&loaded::options());
    let mut prompt = tokens(200, 3 * spec.window, 1);
    let before = driver.alone(&prompt, 1);
    // One layer sees the window only, so a change before it cannot be seen; one inside it can.
    prompt[2 * spec.window - 1] ^= 1;
    assert_eq!(driver.alone(&prompt, 1).bits(), before.bits());
    prompt[2 * spec.window] ^= 1;
    assert_ne!(driver.alone(&prompt, 1).bits(), before.bits());
}

#[test]
fn chunks_of_a_prompt_change_no_bit() {
    let model = OnDisk::new(&ModelSpec::gemma3(), BlockTypes::EveryType);
    let mut driver = model.driver(&loaded::options());
    let task = [Task {
        prompt: tokens(300, 75, 2),
        generate: 3,
    }];
    let whole = driver.run(&task, Schedule::single(usize::MAX));
    for chunk in [1, 7, 32, 33, 64] {
        assert_eq!(
            driver.run(&task, Schedule::single(chunk)),
            whole,
            "chunks of {chunk}"
        );
    }
}
