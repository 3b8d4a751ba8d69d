//! Measures one engine on one file and prints its figures as JSON: `engine_speed candle|rbee FILE THREADS SEQUENCES PROMPT
//! GENERATE`. `cargo xtask bench engine` runs it, one process a figure.

use std::path::Path;
use std::time::Instant;

use rbee_queue::Params;
use rbee_tests::engine::{Answering, error, job};
use rbee_tests::loaded;
use rbee_tests::logits::greedy;
use rbee_tests::oracle::Oracle;
use rbee_tests::prompts::words;
use rbee_tests::random::Random;
use rbee_worker::engine::{EngineJob, EngineOptions, TextFace};
use rbee_worker::model::LoadOptions;
use rbee_worker::tokenizer::{ParseSpecial, Tokenizer};
use serde_json::json;

struct Asked {
    threads: usize,
    sequences: usize,
    prompt: usize,
    generate: usize,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [engine, file, numbers @ ..] = arguments.as_slice() else {
        panic!("engine_speed candle|rbee FILE THREADS SEQUENCES PROMPT GENERATE");
    };
    let numbers: Vec<usize> = numbers
        .iter()
        .map(|number| number.parse().expect("a whole number"))
        .collect();
    let [threads, sequences, prompt, generate] = numbers[..] else {
        panic!("THREADS SEQUENCES PROMPT GENERATE are four numbers");
    };
    let asked = Asked {
        threads,
        sequences,
        prompt,
        generate,
    };
    let figures = match engine.as_str() {
        "candle" => candle(Path::new(file), &asked),
        "rbee" => rbee(Path::new(file), &asked),
        other => panic!("{other} is neither candle nor rbee"),
    };
    println!("{figures}");
}

/// Seconds to first tokens and to last tokens, as rates over all sequences.
fn rates(asked: &Asked, first_s: f64, all_s: f64) -> (f64, f64) {
    let prefill = (asked.sequences * asked.prompt) as f64 / first_s;
    let decode = (asked.sequences * (asked.generate - 1)) as f64 / (all_s - first_s);
    (prefill, decode)
}

fn candle(file: &Path, asked: &Asked) -> serde_json::Value {
    assert_eq!(asked.sequences, 1, "candle's model runs one sequence");
    let mut model = Oracle::open(file);
    let mut random = Random::new(1);
    let prompt: Vec<u32> = (0..asked.prompt)
        .map(|_| 100 + random.below(40_000) as u32)
        .collect();
    // Once to warm up: pages, packed weights, threads.
    let _ = model.logits(&prompt[..8], 0);
    let start = Instant::now();
    let mut token = greedy(&model.logits(&prompt, 0));
    let first_s = start.elapsed().as_secs_f64();
    for position in 0..asked.generate - 1 {
        token = greedy(&model.logits(&[token], asked.prompt + position));
    }
    let (prefill, decode) = rates(asked, first_s, start.elapsed().as_secs_f64());
    json!({"prefill_tokens_per_s": prefill, "decode_tokens_per_s": decode, "peak_bytes": peak_bytes()})
}

fn rbee(file: &Path, asked: &Asked) -> serde_json::Value {
    let options = LoadOptions {
        threads: asked.threads,
        slots: asked.sequences,
        ..loaded::options()
    };
    let loaded = loaded::open(&loaded::gguf(file), &options);
    let planned = loaded.memory.total();
    let text = TextFace {
        tokenizer: loaded.tokenizer,
        template: loaded.template,
    };
    let tokenizer = text.tokenizer.clone();
    let options = EngineOptions {
        slots: asked.sequences,
        // The prompts are equal in many places, and what is measured is computing them.
        share_prefixes: false,
        ..EngineOptions::default()
    };
    let mut engine = Answering::start(loaded.model, text, options);
    let mut seconds = |asked: &Asked, generate: usize| {
        let jobs = jobs(&tokenizer, asked, generate);
        let start = Instant::now();
        let answers = engine.answers(jobs);
        let seconds = start.elapsed().as_secs_f64();
        for (_, record) in answers {
            assert!(error(&record).is_none(), "{:?}", error(&record));
        }
        seconds
    };
    // Once to warm up: pages, threads, the measured speed that sizes the chunks.
    seconds(
        &Asked {
            prompt: 64,
            ..*asked
        },
        8,
    );
    let first_s = seconds(asked, 1);
    let all_s = seconds(asked, asked.generate);
    let (prefill, decode) = rates(asked, first_s, all_s);
    json!({"prefill_tokens_per_s": prefill, "decode_tokens_per_s": decode, "peak_bytes": peak_bytes(),
           "planned_bytes": planned})
}

/// Prompts of exactly the asked length in tokens, each different.
fn jobs(tokenizer: &Tokenizer, asked: &Asked, generate: usize) -> Vec<EngineJob> {
    let params = Params {
        max_tokens: generate as u32,
        ignore_eos: true,
        ..Params::default()
    };
    (0..asked.sequences as u64)
        .map(|id| {
            let mut random = Random::new(id);
            let mut text = words(&mut random, asked.prompt);
            let length = |text: &str| tokenizer.encode(text, ParseSpecial::No).len();
            while length(&text) > asked.prompt {
                let cut = text.rfind(' ').expect("a long text has spaces");
                text.truncate(cut);
            }
            job(id, &text, params.clone())
        })
        .collect()
}

/// The most memory this process ever held, as the kernel counted it.
fn peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok())
        .map_or(0, |kib| kib * 1024)
}
