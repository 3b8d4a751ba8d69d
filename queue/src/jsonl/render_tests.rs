use super::*;
use crate::embedding::Embedding;
use crate::ids::{ContentHash, JobIndex, JobKey, ModelSha};
use crate::record::{
    Choice, Completed, FinishReason, JobStats, ResultRecord, TokenLogprob, TopLogprob, Usage,
};
use serde_json::{Value, json};

fn token(text: &str, logprob: f32) -> TokenLogprob {
    TokenLogprob {
        token: text.into(),
        bytes: text.as_bytes().to_vec(),
        logprob,
        top: vec![TopLogprob {
            token: text.into(),
            bytes: text.as_bytes().to_vec(),
            logprob,
        }],
    }
}

fn answer(texts: &[&str], logprobs: bool) -> ResultRecord {
    let choices = texts
        .iter()
        .enumerate()
        .map(|(index, text)| Choice {
            index: index as u32,
            text: (*text).into(),
            finish_reason: FinishReason::Stop,
            logprobs: logprobs.then(|| vec![token("ä", -0.1), token("b", -2.5)]),
        })
        .collect();
    ResultRecord::completed(Completed {
        choices,
        usage: Usage {
            prompt_tokens: 5,
            completion_tokens: 2,
        },
        ..Completed::default()
    })
}

fn render_as(line: &str, record: &ResultRecord, rendering: Rendering) -> Value {
    let stats = JobStats {
        node: "here".into(),
        ..JobStats::default()
    };
    let renderer = Renderer::new(LineOptions::new("m"), 0, Shape::OpenAi, rendering);
    let rendered = renderer.render(&Answer {
        index: JobIndex(3),
        number: 9,
        text: line,
        key: JobKey::new(&ContentHash([1; 32]), 0),
        model: Some(ModelSha([2; 32])),
        numerics: Some("v1-0123456789abcdef"),
        record,
        stats: Some(&stats),
        finished_at_s: 1_700_000_000,
    });
    assert!(!rendered.line.contains('\n'));
    serde_json::from_str(&rendered.line).unwrap()
}

fn render(line: &str, record: &ResultRecord) -> Value {
    render_as(line, record, Rendering::default())
}

#[test]
fn short_line_has_text_usage_and_metadata() {
    let line = r#"{"prompt": "hi", "id": "a", "topic": "x"}"#;
    assert_eq!(
        render(line, &answer(&["yes"], false)).to_string(),
        json!({"id": "a", "index": 3, "text": "yes", "finish_reason": "stop",
               "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7},
               "error": null, "metadata": {"topic": "x"}})
        .to_string()
    );
}

#[test]
fn short_line_has_choices_and_logprobs_when_asked() {
    let value = render(
        r#"{"prompt": "hi", "n": 2, "logprobs": true}"#,
        &answer(&["x", "y"], true),
    );
    assert_eq!(value["text"], "x");
    assert_eq!(value["choices"][1]["text"], "y");
    assert_eq!(value["id"], "3");
    // The number is the shortest that reads back as the same f32.
    assert_eq!(
        value["logprobs"][0].to_string(),
        json!({"token": "ä", "logprob": -0.1, "bytes": [195, 164],
               "top_logprobs": [{"token": "ä", "logprob": -0.1, "bytes": [195, 164]}]})
        .to_string()
    );
}

#[test]
fn numeric_id_stays_a_number() {
    assert_eq!(
        render(r#"{"prompt": "hi", "id": 17}"#, &answer(&["x"], false))["id"],
        17
    );
}

#[test]
fn openai_chat_line_is_a_chat_completion() {
    let line = r#"{"custom_id": "a", "method": "POST", "url": "/v1/chat/completions",
        "body": {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}}"#;
    let value = render(line, &answer(&["yes"], false));
    let body = &value["response"]["body"];
    assert_eq!(value["custom_id"], "a");
    assert!(value["id"].as_str().unwrap().starts_with("batch_req_"));
    assert!(
        value["response"]["request_id"]
            .as_str()
            .unwrap()
            .starts_with("req_")
    );
    assert_eq!(value["response"]["status_code"], 200);
    assert_eq!(value["error"], Value::Null);
    assert_eq!(body["object"], "chat.completion");
    assert_eq!(
        (&body["created"], &body["model"]),
        (&json!(0), &json!("tiny"))
    );
    assert_eq!(
        body["choices"][0],
        json!({"index": 0, "message": {"role": "assistant", "content": "yes", "refusal": null},
               "logprobs": null, "finish_reason": "stop"})
    );
    assert_eq!(body["system_fingerprint"], "fp_v1-012345678_020202020202");
}

#[test]
fn openai_completion_line_has_parallel_logprobs() {
    let line = r#"{"url": "/v1/completions", "body": {"prompt": "hi", "logprobs": 1}}"#;
    let value = render(line, &answer(&["äb"], true));
    let body = &value["response"]["body"];
    assert_eq!(body["object"], "text_completion");
    assert!(body["id"].as_str().unwrap().starts_with("cmpl-"));
    let logprobs = &body["choices"][0]["logprobs"];
    assert_eq!(logprobs["tokens"], json!(["ä", "b"]));
    assert_eq!(logprobs["text_offset"], json!([0, 1]));
    assert_eq!(logprobs["token_logprobs"], json!([-0.1, -2.5]));
    assert_eq!(logprobs["top_logprobs"], json!([{"ä": -0.1}, {"b": -2.5}]));
}

#[test]
fn errors_carry_code_sentence_and_line() {
    let record = ResultRecord::failed("out_of_range", "too hot");
    let short = render(
        r#"{"prompt": "hi", "id": "a", "temperature": 9, "topic": "x"}"#,
        &record,
    );
    assert_eq!(
        short.to_string(),
        json!({"id": "a", "index": 3, "text": null, "finish_reason": null, "usage": null,
               "error": {"code": "out_of_range", "message": "too hot", "line": 9},
               "metadata": {"topic": "x"}})
        .to_string()
    );
    // An unreadable line has the shape that is usual in its batch.
    let openai = render("", &record);
    assert_eq!(
        (&openai["custom_id"], &openai["response"]),
        (&json!("3"), &Value::Null)
    );
    assert_eq!(openai["error"]["code"], "out_of_range");
}

#[test]
fn shape_can_be_forced_either_way() {
    let record = answer(&["yes"], false);
    let shape = |shape| Rendering {
        shape: Some(shape),
        ..Rendering::default()
    };
    let line = r#"{"prompt": "hi"}"#;
    let openai = render_as(line, &record, shape(Shape::OpenAi));
    assert_eq!(
        openai["response"]["body"]["choices"][0]["message"]["content"],
        "yes"
    );
    let line = r#"{"custom_id": "a", "url": "/v1/completions", "body": {"prompt": "hi"}}"#;
    let short = render_as(line, &record, shape(Shape::Short));
    assert_eq!((&short["id"], &short["text"]), (&json!("a"), &json!("yes")));
}

#[test]
fn statistics_are_shown_only_when_asked() {
    let record = answer(&["yes"], false);
    let line = r#"{"url": "/v1/completions", "body": {"prompt": "hi"}}"#;
    assert!(render(line, &record).get("stats").is_none());
    let rendering = Rendering {
        with_stats: true,
        ..Rendering::default()
    };
    let value = render_as(line, &record, rendering);
    assert_eq!(value["stats"]["node"], "here");
    assert_eq!(value["response"]["body"]["created"], 1_700_000_000);
}

#[test]
fn keys_are_shown_only_when_asked() {
    let record = answer(&["yes"], false);
    let line = r#"{"prompt": "hi"}"#;
    assert!(render(line, &record).get("job_key").is_none());
    let rendering = Rendering {
        with_keys: true,
        ..Rendering::default()
    };
    let key = render_as(line, &record, rendering)["job_key"].clone();
    assert_eq!(key.as_str().map(str::len), Some(64));
}

#[test]
fn vectors_are_shown_as_their_request_asks() {
    let record = ResultRecord::completed(Completed {
        usage: Usage {
            prompt_tokens: 7,
            completion_tokens: 0,
        },
        embeddings: vec![Embedding(vec![0.1, -2.0]), Embedding(vec![1.0, 0.5])],
        ..Completed::default()
    });
    let line = |form: &str| {
        let body = json!({"input": ["a", "b"], "encoding_format": form});
        json!({"custom_id": "c", "url": "/v1/embeddings", "body": body}).to_string()
    };
    let shown = render_as(&line("float"), &record, Rendering::default());
    let body = &shown["response"]["body"];
    let data = json!([
        {"object": "embedding", "index": 0, "embedding": [0.1, -2.0]},
        {"object": "embedding", "index": 1, "embedding": [1.0, 0.5]},
    ]);
    let usage = json!({"prompt_tokens": 7, "total_tokens": 7});
    assert_eq!(
        *body,
        json!({"object": "list", "data": data, "model": "m", "usage": usage})
    );
    let shown = render_as(&line("base64"), &record, Rendering::default());
    assert_eq!(
        shown["response"]["body"]["data"][1]["embedding"],
        "AACAPwAAAD8="
    );
    let short = Rendering {
        shape: Some(Shape::Short),
        ..Rendering::default()
    };
    let shown = render_as(&line("float"), &record, short);
    assert_eq!(shown["text"], Value::Null);
    assert_eq!(shown["embedding"], json!([0.1, -2.0]));
    assert_eq!(shown["embeddings"], json!([[0.1, -2.0], [1.0, 0.5]]));
}
