//! `rbee bench`: the speed of a model on this machine.

use rbee_tests::process::Home;
use rbee_tests::test_models;
use serde_json::Value as Json;

#[test]
fn bench_tells_rates_and_memory_of_each_batch_size_as_json() {
    let home = Home::new();
    let model = test_models::smollm2();
    let model = model.to_str().unwrap();
    let ended = home
        .rbee([
            "bench",
            model,
            "--batch",
            "1,4",
            "--prompt-tokens",
            "40",
            "--new-tokens",
            "6",
            "--json",
        ])
        .exits(0);
    let told = ended.json();
    assert_eq!(told["architecture"], "llama");
    assert_eq!(told["sha256"].as_str().unwrap().len(), 64);
    let batches = told["batches"].as_array().unwrap();
    let sizes: Vec<&Json> = batches.iter().map(|batch| &batch["size"]).collect();
    assert_eq!(sizes, [1, 4]);
    for batch in batches {
        for name in [
            "prompt_tokens_per_s",
            "answer_tokens_per_s",
            "mixed_tokens_per_s",
        ] {
            assert!(batch[name].as_f64().unwrap() > 1.0, "{name} of {batch}");
        }
        assert!(batch["peak_bytes"].as_u64().unwrap() > 90_000_000);
    }
    let memory = &told["memory"];
    // The packed weights are the file's bytes, give or take a few: no type takes more than 1.15 times as much.
    let weights = memory["weights_bytes"].as_u64().unwrap();
    assert!((90_000_000..98_400_000 * 115 / 100).contains(&weights));
    assert!(memory["sequences_that_fit"].as_u64().unwrap() >= 4);
    ended.says("measuring batches of 4");
}

#[test]
fn bench_prints_a_table_and_keeps_nothing() {
    let home = Home::new();
    let ended = home
        .rbee([
            "bench", "any", "--engine", "stub", "--batch", "2", "--quiet",
        ])
        .exits(0);
    let text = ended.text();
    assert!(text.contains("BATCH") && text.contains("fits: "), "{text}");
    assert_eq!(ended.stderr, "");
    assert!(home.rbee(["list", "--json"]).exits(0).text().is_empty());
}

#[test]
fn batch_larger_than_the_slots_is_refused() {
    let home = Home::new();
    let arguments = [
        "bench", "any", "--engine", "stub", "--batch", "8", "--slots", "2",
    ];
    home.rbee(arguments).exits(2).says("--slots 2");
    home.rbee(["bench", "any", "--engine", "stub", "--batch", "0"])
        .exits(2);
}
