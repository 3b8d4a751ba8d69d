//! Answers with a form in a batch with free ones: the same bytes as alone, and a bad form is its own job's error.

use super::invariance::batched_equals_single;
use super::*;
use crate::engine::grammar::{INVALID_RESPONSE_FORMAT, RESPONSE_FORMAT_TOO_LARGE};
use rbee_queue::{FinishReason, ResponseFormat, ToolChoice, Tools};
use serde_json::{Value, json};

fn forms() -> Vec<Option<ResponseFormat>> {
    let record = json!({
        "type": "object",
        "properties": {
            "kind": {"enum": ["cat", "dog", "horse"]},
            "name": {"type": "string", "maxLength": 12},
            "age": {"type": "integer", "minimum": 0, "maximum": 30},
            "seen": {"type": "array", "items": {"type": "boolean"}, "maxItems": 4},
        },
        "required": ["kind", "name", "age"],
        "additionalProperties": false,
    });
    vec![
        None,
        Some(ResponseFormat::JsonSchema(record)),
        None,
        Some(ResponseFormat::Regex(r"[a-z]{3,10}( [a-z]+){0,5}\.".into())),
        Some(ResponseFormat::JsonObject),
        Some(ResponseFormat::Grammar(
            "start: WORD (\", \" WORD)*\nWORD: /[a-z]{1,6}/".into(),
        )),
    ]
}

/// Jobs with forms and without, drawn in every way.
fn jobs() -> Vec<EngineJob> {
    let forms = forms();
    (0..24u64)
        .map(|id| {
            let prompt = format!("{} form {id}", "shared words ".repeat(id as usize % 7 * 3));
            let params = Params {
                max_tokens: 60 + (id as u32 % 5) * 20,
                temperature: [0.0, 0.7, 1.5][id as usize % 3],
                top_p: if id % 4 == 1 { 0.9 } else { 1.0 },
                top_k: if id % 4 == 2 { 4 } else { 0 },
                repetition_penalty: if id % 6 == 5 { 1.2 } else { 1.0 },
                ignore_eos: id % 8 == 3,
                logprobs: id % 7 == 0,
                top_logprobs: 2,
                n: 1 + (id as u32 % 11) / 5,
                response_format: forms[id as usize % forms.len()].clone(),
                ..Params::default()
            };
            job(id, &prompt, params)
        })
        .collect()
}

#[test]
fn answers_with_forms_are_those_of_jobs_alone_with_any_slots_chunks_and_kv() {
    let jobs = jobs();
    let single = batched_equals_single(&jobs, 20);
    let stopped = jobs
        .iter()
        .filter(|job| keeps_its_form(job, &single[&job.id].0));
    assert!(stopped.count() > 8, "forms were to be completed");
}

/// Whether the job has a form and an answer that stopped; that it has the form is asserted.
fn keeps_its_form(job: &EngineJob, record: &ResultRecord) -> bool {
    let Outcome::Completed(completed) = &record.outcome else {
        panic!("job {}: {record:?}", job.id);
    };
    let choice = &completed.choices[0];
    let (Some(form), FinishReason::Stop) =
        (&job.request.params.response_format, choice.finish_reason)
    else {
        return false;
    };
    match form {
        ResponseFormat::JsonObject | ResponseFormat::JsonSchema(_) => {
            let value: Value = serde_json::from_str(&choice.text).unwrap();
            assert!(value.is_object(), "{value}");
        }
        ResponseFormat::Regex(_) => assert!(choice.text.ends_with('.'), "{}", choice.text),
        ResponseFormat::Grammar(_) => {
            let word = |word: &str| {
                (1..=6).contains(&word.len()) && word.bytes().all(|b| b.is_ascii_lowercase())
            };
            assert!(choice.text.split(", ").all(word), "{}", choice.text);
        }
    }
    true
}

#[test]
fn bad_forms_fail_their_own_jobs_and_no_other() {
    let form = |format| Params {
        max_tokens: 40,
        response_format: Some(format),
        ..Params::default()
    };
    let mates: Vec<EngineJob> = jobs().into_iter().take(6).collect();
    let expected = records(&run(stub(64), options(4, 0), &mates));
    let mut all = mates;
    all.push(job(100, "bad", form(ResponseFormat::Regex("(".into()))));
    let ambiguous = "start: x\nx: x x | x x x | \"a\" | \"aa\" |";
    all.push(job(
        101,
        "worse",
        form(ResponseFormat::Grammar(ambiguous.into())),
    ));
    let mut finished = run(stub(64), options(4, 0), &all);
    assert_eq!(
        error_code(&finished.remove(&100).unwrap().0),
        INVALID_RESPONSE_FORMAT
    );
    let worse = finished.remove(&101).unwrap().0;
    if let Outcome::Failed(error) = &worse.outcome {
        assert_eq!(error.code, RESPONSE_FORMAT_TOO_LARGE, "{error:?}");
    }
    assert_eq!(records(&finished), expected);
}

#[test]
fn forms_that_take_long_hold_up_no_other_job() {
    // Distinct, so that none is known by what is kept of another.
    let slow = |id: u64| {
        let property = |at: usize| {
            let schema = json!({"type": "string", "pattern": "^[a-z]+@[a-z]+$"});
            (format!("property_{id}_{at}"), schema)
        };
        let properties: serde_json::Map<String, Value> = (0..3000).map(property).collect();
        let schema = json!({"type": "object", "properties": properties});
        let params = Params {
            response_format: Some(ResponseFormat::JsonSchema(schema)),
            ..Params::default()
        };
        job(id, "slow", params)
    };
    let short = || Params {
        max_tokens: 8,
        ..Params::default()
    };
    const SLOW: u64 = 3;
    let plain = (SLOW..30).map(|id| job(id, &format!("plain {id}"), short()));
    let all: Vec<EngineJob> = (0..SLOW).map(slow).chain(plain).collect();
    let (engine, mut events) = start(stub(64), options(4, 0));
    for job in &all {
        engine.submit(job.clone()).unwrap();
    }
    let mut ended = Vec::new();
    while ended.len() < all.len() {
        let event = events.blocking_recv().expect("every job's end is told");
        if let EngineEvent::Finished { id, record, .. } = event {
            if id < SLOW {
                assert_eq!(error_code(&record), RESPONSE_FORMAT_TOO_LARGE);
            }
            ended.push(id);
        }
    }
    let plain = ended.iter().take_while(|id| **id >= SLOW).count();
    assert_eq!(plain, all.len() - SLOW as usize, "{ended:?}");
}

#[test]
fn call_that_must_be_made_stands_in_the_marks_that_the_template_writes() {
    let tools = Tools {
        tools: vec![
            json!({"type": "function", "function": {"name": "now", "parameters": {
                "type": "object", "properties": {"zone": {"enum": ["UTC", "CET"]}}, "required": ["zone"], "additionalProperties": false,
            }}}),
        ],
        choice: ToolChoice::Required,
    };
    for (marked, begins) in [(false, "{"), (true, "<tool_call>\n{")] {
        let tokenizer = Arc::new(Tokenizer::bytes());
        let mark = if marked { "<tool_call>" } else { "" };
        let source = format!("{{{{ tools | tojson }}}}{mark}{{{{ messages[0].content }}}}");
        let text_face = TextFace {
            template: Some(Arc::new(ChatTemplate::new(&source, &tokenizer).unwrap())),
            tokenizer,
        };
        let (sender, mut events) = channel(EVENTS);
        let engine = Engine::start(stub(64), text_face, options(1, 0), sender).unwrap();
        let mut asking = job(1, "what time is it?", Params::default());
        asking.request.params.tools = Some(tools.clone());
        asking.request.input = Input::Prompt {
            text: "what time is it?".into(),
            raw: false,
        };
        engine.submit(asking).unwrap();
        let record = collect(&mut events, 1).remove(&1).unwrap().0;
        let said = text(&record);
        assert!(said.starts_with(begins), "{said}");
        let (rest, calls) = tools.split(said);
        assert_eq!((rest.as_str(), calls.len()), ("", 1), "{said}");
        assert!(calls[0].arguments.contains("zone"), "{said}");
    }
}

#[test]
fn retry_with_more_tokens_is_the_same_answer_gone_on_with() {
    let params = |max_tokens, schema_retries| Params {
        max_tokens,
        schema_retries,
        temperature: 1.0,
        response_format: Some(ResponseFormat::Regex("[a-z]{30,50}!".into())),
        ..Params::default()
    };
    let answer = |max_tokens, retries| {
        let finished = run(
            stub(64),
            options(1, 0),
            &[job(1, "go on", params(max_tokens, retries))],
        );
        let Outcome::Completed(completed) = &finished[&1].0.outcome else {
            panic!("it has an answer");
        };
        completed.choices[0].clone()
    };
    let short = answer(10, 0);
    assert_eq!(short.finish_reason, FinishReason::Length);
    let long = answer(10, 3);
    assert_eq!(long.finish_reason, FinishReason::Stop);
    assert!(long.text.starts_with(&short.text));
    assert_eq!(long.text, answer(80, 0).text);
}
