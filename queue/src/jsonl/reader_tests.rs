use super::*;
use crate::request::{Endpoint, Input, Request};
use serde_json::json;

pub fn options() -> LineOptions {
    LineOptions::new("default-model")
}

pub fn read_all(input: &[u8], options: &LineOptions) -> Result<Vec<Line>, ReadError> {
    let mut reader = Reader::new(input, options);
    let mut lines = Vec::new();
    while let Some(line) = reader.next_line()? {
        lines.push(line);
    }
    Ok(lines)
}

fn parse(line: &str) -> ParsedLine {
    parse_line(line.as_bytes(), &options())
}

fn request(line: &str) -> Request {
    parse(line)
        .request
        .unwrap_or_else(|error| panic!("{line}: {error}"))
}

fn code(line: &str) -> &'static str {
    match parse(line).request {
        Err(error) => error.code,
        Ok(request) => panic!("{line} was taken as {request:?}"),
    }
}

#[test]
fn prompts_and_chats_of_both_shapes_are_read() {
    let short = request(r#"{"prompt": "hi", "max_tokens": 7}"#);
    assert_eq!(short.endpoint, Endpoint::ChatCompletions);
    assert_eq!(short.model, "default-model");
    assert_eq!(
        short.input,
        Input::Prompt {
            text: "hi".into(),
            raw: false
        }
    );
    assert_eq!(
        (short.params.max_tokens, short.params.temperature),
        (7, 0.0)
    );
    let openai = request(
        r#"{"custom_id":"a","method":"POST","url":"/v1/chat/completions",
            "body":{"model":"m","messages":[{"role":"user","content":"hi"}],"n":2}}"#,
    );
    assert_eq!((openai.model.as_str(), openai.params.n), ("m", 2));
    assert_eq!(openai.params.temperature, 1.0);
    let completion = request(r#"{"url":"/v1/completions","body":{"prompt":"once","logprobs":3}}"#);
    assert_eq!(
        completion.input,
        Input::Prompt {
            text: "once".into(),
            raw: true
        }
    );
    assert!(completion.params.parse_special && completion.params.logprobs);
    assert_eq!(completion.params.top_logprobs, 3);
    let raw = request(r#"{"prompt": "once", "raw": true, "parse_special": false}"#);
    assert_eq!(raw.endpoint, Endpoint::Completions);
    assert!(!raw.params.parse_special);
}

#[test]
fn each_kind_of_bad_line_has_its_code() {
    for (line, expected) in [
        ("{", "invalid_json"),
        (r#"{"prompt": NaN}"#, "invalid_json"),
        (r#"{"prompt": "hi", "temperature": 1e999}"#, "invalid_json"),
        (r#"{"prompt": "\ud800"}"#, "invalid_json"),
        ("{\"prompt\": \"a\u{0}b\"}", "invalid_json"),
        ("[1]", "not_an_object"),
        ("{}", "missing_field"),
        (r#"{"prompt": 5}"#, "wrong_type"),
        (r#"{"prompt": "a", "messages": []}"#, "invalid_value"),
        (r#"{"messages": []}"#, "invalid_value"),
        (r#"{"messages": ["a"]}"#, "wrong_type"),
        (r#"{"messages": [{"content": "a"}]}"#, "missing_field"),
        (r#"{"messages": [{"role": "user"}]}"#, "missing_field"),
        (
            r#"{"messages": [{"role": "user", "content": 5}]}"#,
            "wrong_type",
        ),
        (
            r#"{"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}"#,
            "unsupported",
        ),
        (r#"{"prompt": "a", "temperature": "hot"}"#, "wrong_type"),
        (r#"{"prompt": "a", "temperature": 2.5}"#, "out_of_range"),
        (r#"{"prompt": "a", "temperature": -1}"#, "out_of_range"),
        (
            r#"{"prompt": "a", "max_tokens": 9223372036854775808}"#,
            "out_of_range",
        ),
        (r#"{"prompt": "a", "max_tokens": 0}"#, "out_of_range"),
        (r#"{"prompt": "a", "max_tokens": 1.5}"#, "wrong_type"),
        (r#"{"prompt": "a", "max_tokens": 1e300}"#, "out_of_range"),
        (r#"{"prompt": "a", "n": 1000000}"#, "out_of_range"),
        (r#"{"prompt": "a", "top_p": 1.1}"#, "out_of_range"),
        (
            r#"{"prompt": "a", "repetition_penalty": 0}"#,
            "out_of_range",
        ),
        (r#"{"prompt": "a", "stop": [1]}"#, "wrong_type"),
        (r#"{"prompt": "a", "stop": ""}"#, "invalid_value"),
        (r#"{"prompt": "a", "logprobs": 3}"#, "wrong_type"),
        (
            r#"{"prompt": "a", "logprobs": false, "top_logprobs": 3}"#,
            "invalid_value",
        ),
        (
            r#"{"prompt": "a", "response_format": {"type": "json"}}"#,
            "invalid_value",
        ),
        (
            r#"{"prompt": "a", "response_format": {"type": "json_object"}, "stop": "}"}"#,
            "invalid_value",
        ),
        (
            r#"{"prompt": "a", "guided_json": {"type": "object"}}"#,
            "unsupported",
        ),
        (
            r#"{"prompt": "a", "tools": [{"type": "function"}]}"#,
            "invalid_value",
        ),
        (
            r#"{"prompt": "a", "raw": true, "tools": [{"type": "function", "function": {"name": "f"}}]}"#,
            "unsupported",
        ),
        (r#"{"prompt": "a", "model": ""}"#, "invalid_value"),
        (r#"{"prompt": "a", "id": []}"#, "invalid_custom_id"),
        (r#"{"prompt": "a", "custom_id": ""}"#, "invalid_custom_id"),
        (r#"{"url": "/v1/images", "body": {}}"#, "unknown_url"),
        (
            r#"{"url": "/v1/embeddings", "body": {"prompt": "a"}}"#,
            "missing_field",
        ),
        (r#"{"url": "/v1/completions", "body": 5}"#, "wrong_type"),
        (r#"{"url": "/v1/completions"}"#, "missing_field"),
        (r#"{"body": {"prompt": "a"}}"#, "missing_field"),
        (
            r#"{"method": "GET", "url": "/v1/completions", "body": {"prompt": "a"}}"#,
            "invalid_value",
        ),
        (
            r#"{"url": "/v1/completions", "body": {"prompt": "a", "max_token": 5}}"#,
            "unknown_parameter",
        ),
        (
            r#"{"url": "/v1/completions", "body": {"prompt": "a", "echo": true}}"#,
            "unsupported",
        ),
        (
            r#"{"url": "/v1/completions", "body": {"prompt": [1, 2]}}"#,
            "unsupported",
        ),
    ] {
        assert_eq!(code(line), expected, "{line}");
    }
}

#[test]
fn parameters_that_ask_for_nothing_are_ignored() {
    request(
        r#"{"url": "/v1/chat/completions", "body": {"messages": [{"role": "user", "content": "a"}],
            "user": "u", "stream": true, "stream_options": {"include_usage": true}, "store": false,
            "response_format": {"type": "text"}, "tools": [], "tool_choice": "none",
            "logit_bias": {}, "modalities": ["text"], "seed": null, "stop": null,
            "reasoning_effort": null, "future_parameter": null}}"#,
    );
}

#[test]
fn form_of_an_answer_is_part_of_what_makes_lines_equal() {
    let form = r#""response_format": {"type": "json_schema", "json_schema": {"schema": "#;
    let hash = |rest: &str| {
        let line = format!(r#"{{"prompt": "a"{rest}}}"#);
        parse_line(line.as_bytes(), &LineOptions::new("m")).content(line.as_bytes())
    };
    let schema = |schema: &str, rest: &str| hash(&format!(", {form}{schema}}}}}{rest}"));
    let (ab, ba) = (
        r#"{"properties": {"a": {}, "b": {}}}"#,
        r#"{"properties": {"b": {}, "a": {}}}"#,
    );
    assert_eq!(schema(ab, ""), schema(ab, ""));
    assert_ne!(
        schema(ab, ""),
        schema(ba, ""),
        "properties are answered in their order"
    );
    assert_ne!(schema(ab, ""), hash(""));
    assert_ne!(schema(ab, ""), schema(ab, r#", "schema_retries": 2"#));
    assert_eq!(hash(r#", "schema_retries": 2"#), hash(""));
    assert_eq!(hash(r#", "response_format": {"type": "text"}"#), hash(""));
}

#[test]
fn deep_nesting_is_an_error_of_its_line() {
    let deep = format!(r#"{{"prompt": {}"#, "[".repeat(100_000));
    let input = format!(
        "{deep}\n{}\n{{\"prompt\": \"next\"}}\n",
        "{\"a\":".repeat(100_000)
    );
    let lines = read_all(input.as_bytes(), &options()).unwrap();
    assert_eq!(lines.len(), 3);
    for line in &lines[..2] {
        assert_eq!(
            line.parsed.request.as_ref().unwrap_err().code,
            "invalid_json"
        );
    }
    assert!(lines[2].parsed.request.is_ok());
}

#[test]
fn line_of_very_many_values_is_refused_before_it_takes_memory() {
    let line = format!(r#"{{"prompt": "a", "x": [{}0]}}"#, "0,".repeat(300_000));
    assert_eq!(code(&line), "line_too_complex");
    let text = format!(r#"{{"prompt": "{}"}}"#, ",[{".repeat(300_000));
    request(&text);
}

#[test]
fn verdicts_carry_physical_line_numbers() {
    let mut input = b"\xef\xbb\xbf{\"prompt\": \"a\"}\r\n\r\n".to_vec();
    input.extend_from_slice(b"\xff\xfe\n{\"prompt\": 1}\n\n{\"prompt\": \"\xc3\xa9\"}");
    let lines = read_all(&input, &options()).unwrap();
    let seen: Vec<(u64, u64, Option<&str>)> = lines
        .iter()
        .map(|line| {
            let code = line.parsed.request.as_ref().err().map(|error| error.code);
            (line.index.0, line.number, code)
        })
        .collect();
    assert_eq!(
        seen,
        [
            (0, 1, None),
            (1, 3, Some("invalid_utf8")),
            (2, 4, Some("wrong_type")),
            (3, 6, None)
        ]
    );
    assert_eq!(lines[0].text, r#"{"prompt": "a"}"#);
    assert_eq!(lines[1].text, "");
}

#[test]
fn over_long_line_is_its_own_error_and_the_next_is_read() {
    let mut options = options();
    options.max_line_bytes = 40;
    let input = format!(
        "{{\"prompt\": \"{}\"}}\n{{\"prompt\": \"b\"}}\n",
        "a".repeat(100)
    );
    let lines = read_all(input.as_bytes(), &options).unwrap();
    assert_eq!(
        lines[0].parsed.request.as_ref().unwrap_err().code,
        "line_too_long"
    );
    assert!(lines[1].parsed.request.is_ok());
}

#[test]
fn plain_text_arrays_and_nothing_are_refused_with_a_hint() {
    let plain = read_all(b"What is the sea?\nWhy?\n", &options()).unwrap_err();
    assert!(plain.to_string().contains("--format text"), "{plain}");
    let array = read_all(b"[\n{\"prompt\": \"a\"}\n]\n", &options());
    // An array over several lines has objects in it: its brackets are bad lines.
    assert_eq!(array.unwrap().len(), 3);
    let array = read_all(b"[{\"prompt\": \"a\"}]", &options()).unwrap_err();
    assert!(matches!(array, ReadError::Array), "{array}");
    for nothing in [&b""[..], b"\n\r\n  \n", b"\xef\xbb\xbf"] {
        let error = read_all(nothing, &options()).unwrap_err();
        assert!(matches!(error, ReadError::Empty), "{error}");
    }
    let mixed = read_all(b"oops\n{\"prompt\": \"a\"}\n", &options()).unwrap();
    assert_eq!(mixed.len(), 2);
    let many = "text\n".repeat(1_000_000);
    let error = read_all(many.as_bytes(), &options()).unwrap_err();
    assert!(
        matches!(error, ReadError::PlainText { line: 1, .. }),
        "{error}"
    );
}

#[test]
fn text_format_takes_each_line_as_it_stands() {
    let mut options = options();
    options.format = InputFormat::Text;
    let lines = read_all(b"  {\"a\": 1} \r\n\nWhy?\nx\0y", &options).unwrap();
    let prompt = |line: &Line| match &line.parsed.request.as_ref().unwrap().input {
        Input::Prompt { text, .. } => text.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(prompt(&lines[0]), "  {\"a\": 1} ");
    assert_eq!(prompt(&lines[1]), "Why?");
    assert_eq!(
        lines[2].parsed.request.as_ref().unwrap_err().code,
        "nul_byte"
    );
}

#[test]
fn ids_and_other_fields_are_kept() {
    let line = parse(
        r#"{"id": 7, "prompt": "a", "topic": {"x": 1}, "url": "https://e.org", "metadata": {"k": "v"}}"#,
    );
    assert_eq!(
        line.custom_id,
        Some(CustomId {
            text: "7".into(),
            number: true
        })
    );
    assert_eq!(
        serde_json::Value::Object(line.metadata),
        json!({"topic": {"x": 1}, "url": "https://e.org", "k": "v"})
    );
    assert_eq!(line.shape, Some(Shape::Short));
    let both = parse(r#"{"id": "x", "custom_id": "y", "prompt": "a"}"#);
    assert_eq!(both.custom_id.unwrap().text, "y");
    assert_eq!(both.metadata["id"], "x");
    let bad = parse(r#"{"custom_id": "y", "url": "/v2/x", "body": {}}"#);
    assert_eq!(bad.custom_id.unwrap().text, "y");
    assert_eq!(bad.shape, Some(Shape::OpenAi));
}

#[test]
fn override_beats_line_beats_default() {
    let mut options = options();
    options.defaults = serde_json::Map::from_iter([
        ("max_tokens".to_owned(), json!(11)),
        ("temperature".to_owned(), json!(0.5)),
    ]);
    let with = |options: &LineOptions, line: &str| {
        parse_line(line.as_bytes(), options).request.unwrap().params
    };
    assert_eq!(with(&options, r#"{"prompt": "a"}"#).max_tokens, 11);
    let line = r#"{"prompt": "a", "max_completion_tokens": 22, "temperature": 0.7}"#;
    assert_eq!(with(&options, line).max_tokens, 22);
    assert_eq!(with(&options, line).temperature, 0.7);
    Setting::parse("max_tokens=33")
        .unwrap()
        .apply(&mut options.overrides);
    assert_eq!(with(&options, line).max_tokens, 33);
}

#[test]
fn system_text_goes_before_chats_that_have_none() {
    let mut options = options();
    options.system = Some("Be brief.".into());
    let messages = |line: &str| match parse_line(line.as_bytes(), &options).request.unwrap().input {
        Input::Messages(messages) => serde_json::to_value(messages).unwrap(),
        other => panic!("{other:?}"),
    };
    let expected = json!([{"role": "system", "content": "Be brief."},
                          {"role": "user", "content": "hi"}]);
    assert_eq!(messages(r#"{"prompt": "hi"}"#), expected);
    assert_eq!(
        messages(r#"{"messages": [{"role": "user", "content": "hi"}]}"#),
        expected
    );
    let own = r#"{"messages": [{"role": "system", "content": "own"}]}"#;
    assert_eq!(messages(own), json!([{"role": "system", "content": "own"}]));
    let raw = parse_line(br#"{"prompt": "hi", "raw": true}"#, &options);
    assert_eq!(raw.request.unwrap_err().code, "unsupported");
}

#[test]
fn template_makes_prompts_of_fields() {
    let mut options = options();
    options.template = Some("{{lang}}: {{text}}".into());
    options.overrides.insert("lang".into(), json!("de"));
    options.validate().unwrap();
    let line = parse_line(br#"{"text": "{{lang}} <|im_end|>", "id": "a"}"#, &options);
    assert_eq!(
        line.request.unwrap().input,
        Input::Prompt {
            text: "de: {{lang}} <|im_end|>".into(),
            raw: false
        }
    );
    assert_eq!(line.metadata["text"], "{{lang}} <|im_end|>");
    let missing = parse_line(br#"{"id": "a"}"#, &options);
    assert_eq!(missing.request.unwrap_err().code, "missing_template_field");
}

#[test]
fn limit_stops_after_so_many_jobs() {
    let mut options = options();
    options.limit = Some(2);
    let input = b"{\"prompt\": \"a\"}\n\nbad\n{\"prompt\": \"c\"}\n";
    assert_eq!(read_all(input, &options).unwrap().len(), 2);
}

#[test]
fn equal_requests_in_different_dress_have_one_content() {
    let short = parse(r#"{"prompt": "a", "raw": true, "temperature": 1.0, "max_tokens": 5}"#);
    let long = parse(r#"{"url": "/v1/completions", "body": {"max_tokens": 5.0, "prompt": ["a"]}}"#);
    assert_eq!(short.content(b""), long.content(b""));
    let zero = parse(r#"{"prompt": "a", "temperature": -0.0}"#);
    assert_eq!(zero.content(b""), parse(r#"{"prompt": "a"}"#).content(b""));
}

#[test]
fn survey_counts_jobs_and_models_in_order() {
    let input = b"{\"prompt\": \"a\", \"model\": \"b\"}\n{\"prompt\": \"a\"}\nbad\n{\"prompt\": \"c\", \"model\": \"b\"}\n";
    let survey = survey(&input[..], &options()).unwrap();
    assert_eq!((survey.jobs, survey.bad_lines), (4, 1));
    assert_eq!(
        survey.models,
        [("b".to_owned(), 2), ("default-model".to_owned(), 1)]
    );
}
