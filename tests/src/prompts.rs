//! Prompt files for tests.

use serde_json::{Value as Json, json};

use crate::random::Random;

const WORDS: [&str; 24] = [
    "river", "letter", "garden", "winter", "copper", "window", "island", "market", "silver",
    "thunder", "meadow", "candle", "harbour", "number", "orchard", "paper", "quiet", "ribbon",
    "shadow", "travel", "valley", "whistle", "yellow", "zebra",
];

/// JSON values as the lines of a file.
pub fn jsonl<'a>(lines: impl IntoIterator<Item = &'a Json>) -> String {
    lines.into_iter().map(|line| format!("{line}\n")).collect()
}

/// Short lines, each different, a few words long, answered with at most `max_tokens` tokens.
pub fn short(count: usize, max_tokens: u32) -> String {
    let mut random = Random::new(count as u64);
    let lines: Vec<Json> = (0..count)
        .map(|at| json!({"prompt": format!("{at}: {}", words(&mut random, 4)), "max_tokens": max_tokens}))
        .collect();
    jsonl(&lines)
}

/// Short lines whose answers go on for thousands of tokens.
pub fn endless(count: usize) -> String {
    let lines: Vec<Json> = (0..count)
        .map(|at| json!({"prompt": format!("{at}: on and on"), "max_tokens": 4000, "ignore_eos": true}))
        .collect();
    jsonl(&lines)
}

/// This many random words.
pub fn words(random: &mut Random, count: usize) -> String {
    let words: Vec<&str> = (0..count)
        .map(|_| WORDS[random.below(WORDS.len())])
        .collect();
    words.join(" ")
}

/// Lines of both shapes with many parameters, short and long prompts: what a real file mixes.
pub fn varied(count: usize, max_tokens: u32) -> String {
    let mut random = Random::new(17);
    let lines: Vec<Json> = (0..count)
        .map(|at| {
            let length = [2, 5, 12, 40, 90][at % 5];
            let text = words(&mut random, length);
            match at % 6 {
                0 => json!({"prompt": text, "max_tokens": max_tokens}),
                1 => json!({"prompt": text, "raw": true, "max_tokens": max_tokens, "temperature": 0.9, "top_p": 0.9}),
                2 => json!({"messages": [{"role": "system", "content": "Answer briefly."},
                            {"role": "user", "content": text}], "max_tokens": max_tokens, "temperature": 1.1, "top_k": 40,
                            "seed": at}),
                3 => json!({"custom_id": format!("line-{at}"), "method": "POST", "url": "/v1/chat/completions",
                            "body": {"model": "m", "messages": [{"role": "user", "content": text}],
                            "max_tokens": max_tokens, "frequency_penalty": 0.5, "presence_penalty": 0.2}}),
                4 => json!({"id": format!("line-{at}"), "prompt": text, "max_tokens": max_tokens, "n": 2,
                            "temperature": 0.8, "logprobs": true, "top_logprobs": 3, "topic": "kept"}),
                _ => json!({"prompt": text, "max_tokens": max_tokens, "repetition_penalty": 1.2, "min_p": 0.05,
                            "temperature": 0.7, "ignore_eos": true}),
            }
        })
        .map(|mut line| {
            // The model of the command line, whatever the line of OpenAI's shape must name.
            if let Some(body) = line.get_mut("body").and_then(Json::as_object_mut) {
                body.remove("model");
            }
            line
        })
        .collect();
    jsonl(&lines)
}
