//! Damaged bodies at every route that reads JSON: an answer in words each time, never an error of the server's own.
//!
//! The corpus is that of the fuzz target `body`, with bodies of routes that compute nothing.

use super::*;
use std::path::Path;
use std::time::Duration;

/// Mutations of each body.
const MUTATIONS: u64 = 60;
/// A body that is right waits for an answer, which nobody gives here.
const PATIENCE: Duration = Duration::from_millis(300);

/// SplitMix64: the same damages on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }
}

/// Values that take the place of others.
fn values() -> Vec<Value> {
    let deep = (0..100).fold(Value::Null, |inner, _| json!([inner]));
    vec![
        Value::Null,
        json!(-1),
        json!(u64::MAX),
        json!(1e308),
        json!(0.5),
        json!(""),
        json!("\u{0}"),
        json!("x".repeat(100_000)),
        json!([]),
        json!({}),
        json!([[1], "a"]),
        deep,
    ]
}

/// Puts another value in some place of a body, or takes one away.
fn damage(value: &mut Value, random: &mut Random) {
    match value {
        Value::Object(members) if !members.is_empty() => {
            let at = random.below(members.len());
            let name = members.keys().nth(at).unwrap().clone();
            match random.below(4) {
                0 => drop(members.shift_remove(&name)),
                1 => drop(members.insert("stranger".to_owned(), json!(1))),
                _ => damage(&mut members[&name], random),
            }
        }
        Value::Array(items) if !items.is_empty() && random.below(3) > 0 => {
            let at = random.below(items.len());
            damage(&mut items[at], random);
        }
        value => {
            let mut values = values();
            *value = values.swap_remove(random.below(values.len()));
        }
    }
}

fn bodies() -> Vec<(&'static str, Value)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/body");
    let read = |name: &str| {
        let text = std::fs::read_to_string(folder.join(name)).expect("the corpus can be read");
        serde_json::from_str::<Value>(&text).expect("the corpus is JSON")
    };
    let lines = json!([{"prompt": "a", "max_tokens": 2}]);
    let source = json!({"kind": "kept", "name": "a", "lines": lines});
    vec![
        ("/v1/chat/completions", read("chat")),
        ("/v1/completions", read("completion")),
        ("/v1/embeddings", read("embedding")),
        (
            "/v1/infer",
            json!({"prompt": "a", "model": "m", "node": "n", "stream": true, "top_k": 1}),
        ),
        (
            "/v1/batches",
            json!({"input_file_id": "file_1", "endpoint": "/v1/completions", "completion_window": "24h",
                   "metadata": {"a": "b"}, "output_expires_after": {"anchor": "created_at", "seconds": 3600}}),
        ),
        (
            "/v1/schedules",
            json!({"name": "a", "cron": "@daily", "tz": "UTC", "overlap": "skip", "missed": "all", "missed_window_s": 1,
                   "source": source, "model": "m", "priority": "batch", "node": "n", "output": "/a", "command": "c"}),
        ),
        (
            "/v1/tokens",
            json!({"name": "a", "role": "read", "owner": "o", "max_queued": 1, "requests_per_s": 1, "expires_in_s": 9}),
        ),
    ]
}

#[tokio::test]
async fn damaged_bodies_are_answered_in_words() {
    let site = site().await;
    for (path, body) in bodies() {
        let mut random = Random(1);
        let mut refused = 0;
        for number in 0..MUTATIONS {
            let mut damaged = body.clone();
            damage(&mut damaged, &mut random);
            let mut text = damaged.to_string();
            if number % 10 == 9 {
                let mut cut = random.below(text.len());
                while !text.is_char_boundary(cut) {
                    cut -= 1;
                }
                text.truncate(cut);
            }
            let shown: String = text.chars().take(300).collect();
            let request = site.request(Method::POST, path).timeout(PATIENCE);
            let request = request.header("content-type", "application/json");
            let answer = match request.body(text).send().await {
                Ok(answer) => answer,
                Err(error) => {
                    assert!(error.is_timeout(), "{path} {shown}: {error:?}");
                    continue;
                }
            };
            let status = answer.status();
            assert_ne!(status, StatusCode::INTERNAL_SERVER_ERROR, "{path} {shown}");
            if status.is_client_error() {
                refused += 1;
                let error: Value = answer.json().await.expect("an error is JSON");
                assert!(
                    error["error"]["message"].is_string(),
                    "{path} {shown}: {error}"
                );
            }
        }
        assert!(
            refused > MUTATIONS / 4,
            "{path}: {refused} of {MUTATIONS} were refused"
        );
    }
}
