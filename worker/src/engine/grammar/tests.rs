//! Masks are those of the grammar engine, whatever else is compiled; bad forms cost their own job a bounded time.

use super::*;
use crate::engine::randomness::mix;
use llguidance::api::TopLevelGrammar;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use toktrie::ApproximateTokEnv;

/// Bytes and one end token.
const VOCABULARY: usize = 257;
const END: u32 = 256;
/// The longest that a form may hold up the thread that prepares jobs, on a slow and busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

fn grammars() -> Grammars {
    Grammars::new(Arc::new(Tokenizer::bytes()))
}

fn stops(last_resort: bool) -> Arc<Stops> {
    Arc::new(Stops {
        tokens: vec![END],
        last_resort,
        vocabulary: VOCABULARY,
    })
}

fn schema(schema: Value) -> ResponseFormat {
    ResponseFormat::JsonSchema(schema)
}

fn person() -> Value {
    json!({
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 8},
            "age": {"type": "integer", "minimum": 0, "maximum": 120},
            "tags": {"type": "array", "items": {"enum": ["a", "bc"]}, "maxItems": 3},
        },
        "required": ["name", "age"],
        "additionalProperties": false,
    })
}

/// Draws a token of a mask, evenly.
fn any_of(mask: &Mask, draw: u64) -> u32 {
    let tokens: Vec<u32> = (0..VOCABULARY as u32).filter(|t| mask.has(*t)).collect();
    tokens[mix(draw) as usize % tokens.len()]
}

/// A text of the form, drawn evenly: the token ids up to the end.
fn walk(constraint: &mut Constraint, seed: u64, most: usize) -> Result<Vec<u32>, JobError> {
    let mut tokens = Vec::new();
    while tokens.len() < most && !constraint.is_complete() {
        let token = any_of(constraint.mask()?, seed ^ (tokens.len() as u64) << 32);
        if token == END {
            break;
        }
        constraint.take(token)?;
        tokens.push(token);
    }
    Ok(tokens)
}

#[test]
fn masks_are_what_the_grammar_engine_says() {
    let environment = ApproximateTokEnv::single_byte_env();
    // Without slices, caches or limits of ours.
    let plain = llguidance::ParserFactory::new(&environment, Default::default(), &[]).unwrap();
    let ours = grammars();
    let regex = r"(ab|\d{2,4}é)+x?";
    for (format, grammar) in [
        (
            ResponseFormat::Regex(regex.into()),
            TopLevelGrammar::from_regex(regex),
        ),
        (
            ResponseFormat::Grammar("start: A B*\nA: \"<\" /[a-z]/ \">\"\nB: /[0-9]/".into()),
            TopLevelGrammar::from_lark("start: A B*\nA: \"<\" /[a-z]/ \">\"\nB: /[0-9]/".into()),
        ),
        (schema(person()), {
            let mut schema = person();
            schema["x-guidance"] = json!({"whitespace_pattern": r"\n?[ ]{1,32}|\n"});
            TopLevelGrammar::from_json_schema(schema)
        }),
    ] {
        for seed in 0..20 {
            let mut oracle = llguidance::Matcher::new(plain.create_parser(grammar.clone()));
            let mut constraint = ours
                .constraints(&format, &stops(false), 1)
                .unwrap()
                .remove(0);
            for step in 0..60u64 {
                if constraint.is_complete() {
                    assert!(oracle.is_stopped());
                    break;
                }
                let expected = oracle.compute_mask().unwrap();
                let mask = constraint.mask().unwrap();
                for byte in 0..=254 {
                    assert_eq!(mask.has(byte), expected.is_allowed(byte), "byte {byte}");
                }
                let may_end = oracle.is_accepting().unwrap();
                assert_eq!(mask.has(END), may_end, "the end at step {step}");
                let token = any_of(mask, seed ^ step << 32);
                if token == END {
                    break;
                }
                constraint.take(token).unwrap();
                oracle.consume_token(token).unwrap();
            }
        }
    }
}

#[test]
fn choices_of_one_form_do_not_see_each_other() {
    let ours = grammars();
    let form = schema(person());
    let alone: Vec<Vec<u32>> = (0..8)
        .map(|seed| {
            let mut fresh = grammars().constraints(&form, &stops(false), 1).unwrap();
            walk(&mut fresh[0], seed, 200).unwrap()
        })
        .collect();
    let mut together = ours.constraints(&form, &stops(false), 8).unwrap();
    let walks: Vec<Vec<u32>> = together
        .iter_mut()
        .enumerate()
        .map(|(seed, constraint)| walk(constraint, seed as u64, 200).unwrap())
        .collect();
    assert_eq!(walks, alone);
    for tokens in walks {
        let bytes: Vec<u8> = tokens.iter().map(|token| *token as u8).collect();
        let value: Value = serde_json::from_slice(&bytes).unwrap();
        assert!(value["age"].as_u64().unwrap() <= 120, "{value}");
    }
}

#[test]
fn answer_is_complete_with_its_last_token_and_ends_as_late_as_it_is_told() {
    let form = schema(json!({"type": "object", "properties": {}, "additionalProperties": false}));
    let mut constraint = grammars()
        .constraints(&form, &stops(false), 1)
        .unwrap()
        .remove(0);
    constraint.take(u32::from(b'{')).unwrap();
    assert!(!constraint.is_complete());
    constraint.mask().unwrap();
    constraint.take(u32::from(b'}')).unwrap();
    assert!(constraint.is_complete(), "no white space follows");
    let digits = ResponseFormat::Regex("[0-9]{1,3}".into());
    for (last_resort, ends_after) in [(false, true), (true, false)] {
        let mut constraint = grammars()
            .constraints(&digits, &stops(last_resort), 1)
            .unwrap()
            .remove(0);
        assert!(!constraint.mask().unwrap().has(END));
        constraint.take(u32::from(b'7')).unwrap();
        assert_eq!(constraint.mask().unwrap().has(END), ends_after);
    }
}

#[test]
fn forms_that_cannot_be_kept_to_are_refused_by_name() {
    let ours = grammars();
    let refused = |format: ResponseFormat| {
        ours.constraints(&format, &stops(false), 1)
            .map(drop)
            .unwrap_err()
    };
    for (format, code, why) in [
        (
            schema(json!({"type": "strin"})),
            INVALID_RESPONSE_FORMAT,
            "strin",
        ),
        (
            schema(json!({"$ref": "#/$defs/none"})),
            INVALID_RESPONSE_FORMAT,
            "none",
        ),
        (
            schema(json!({"$ref": "http://127.0.0.1:1/x.json"})),
            INVALID_RESPONSE_FORMAT,
            "",
        ),
        (
            schema(json!({"type": "string", "format": "no-such"})),
            INVALID_RESPONSE_FORMAT,
            "no-such",
        ),
        (
            schema(json!({"type": "array", "uniqueItems": true})),
            INVALID_RESPONSE_FORMAT,
            "uniqueItems",
        ),
        (
            schema(json!({"type": "integer", "minimum": 5, "maximum": 1})),
            IMPOSSIBLE_RESPONSE_FORMAT,
            "",
        ),
        (schema(json!(false)), IMPOSSIBLE_RESPONSE_FORMAT, ""),
        (
            ResponseFormat::Regex("(".into()),
            INVALID_RESPONSE_FORMAT,
            "",
        ),
        (
            ResponseFormat::Regex("a(?=b)".into()),
            INVALID_RESPONSE_FORMAT,
            "",
        ),
        (
            ResponseFormat::Grammar("start: missing".into()),
            INVALID_RESPONSE_FORMAT,
            "missing",
        ),
        (
            ResponseFormat::Regex("a".repeat(300_000)),
            RESPONSE_FORMAT_TOO_LARGE,
            "300000",
        ),
    ] {
        let error = refused(format.clone());
        println!("{}: {}", error.code, error.message);
        assert_eq!(error.code, code, "{}", error.message);
        assert!(
            error.message.contains(why) && error.message.ends_with('.'),
            "{}",
            error.message
        );
        assert_eq!(refused(format), error, "the same again, from what is kept");
    }
}

/// Schemas made to cost much.
fn hostile() -> Vec<(&'static str, ResponseFormat)> {
    let nested = |levels: usize, inner: Value, wrap: &dyn Fn(Value) -> Value| {
        (0..levels).fold(inner, |schema, _| wrap(schema))
    };
    let alternatives = |name: &str, count: usize| {
        let options: Vec<Value> = (0..count)
            .map(|at| json!({"type": "object", "properties": {format!("{name}{at}"): {"type": "string"}}}))
            .collect();
        json!({"anyOf": options})
    };
    let factors: Vec<Value> = (0..12)
        .map(|at| alternatives(&format!("p{at}_"), 8))
        .collect();
    let many: Vec<String> = (0..9000).map(|at| format!("value number {at}")).collect();
    let wide: serde_json::Map<String, Value> = (0..3000)
        .map(|at| {
            (
                format!("property_{at}"),
                json!({"type": "string", "pattern": "^[a-z]+@[a-z]+$"}),
            )
        })
        .collect();
    vec![
        (
            "a product of alternatives",
            schema(json!({"allOf": factors})),
        ),
        ("a long enumeration", schema(json!({"enum": many}))),
        (
            "wide",
            schema(json!({"type": "object", "properties": wide})),
        ),
        (
            "deep",
            schema(nested(
                60,
                json!({"type": "null"}),
                &|s| json!({"type": "array", "items": s, "minItems": 2, "maxItems": 9}),
            )),
        ),
        (
            "alternatives in alternatives",
            schema(nested(
                11,
                json!({"type": "null"}),
                &|s| json!({"anyOf": [s.clone(), {"type": "array", "items": s}]}),
            )),
        ),
        (
            "a million items",
            schema(json!({"type": "array", "items": {"type": "integer"}, "minItems": 1_000_000})),
        ),
        (
            "a long string",
            schema(json!({"type": "string", "minLength": 500_000, "maxLength": 1_000_000})),
        ),
        (
            "a pattern of patterns",
            schema(json!({"type": "string", "pattern": "^((a{1,1000}){1,1000}){1,1000}$"})),
        ),
        (
            "a pattern that counts",
            ResponseFormat::Regex("(.*a.{200}){8}".into()),
        ),
        (
            "an intersection",
            ResponseFormat::Regex("(a|b)*a(a|b){60}".into()),
        ),
        (
            "an ambiguous grammar",
            ResponseFormat::Grammar("start: x\nx: x x | x x x | \"a\" | \"aa\" |".into()),
        ),
        (
            "references in a circle",
            schema(
                json!({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}),
            ),
        ),
        (
            "a product of references",
            schema(json!({
                "$defs": {"a": alternatives("q", 40), "b": alternatives("r", 40), "c": alternatives("s", 40)},
                "allOf": [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/b"}, {"$ref": "#/$defs/c"}],
            })),
        ),
    ]
}

#[test]
fn hostile_form_takes_a_bounded_time() {
    for (name, format) in hostile() {
        let started = Instant::now();
        let made = grammars().constraints(&format, &stops(false), 1);
        let compiled = started.elapsed();
        let end = match made {
            Err(error) => format!("refused: {}", error.message),
            Ok(mut constraints) => match walk(&mut constraints[0], 1, 300) {
                Ok(tokens) => format!("{} tokens", tokens.len()),
                Err(error) => format!("failed: {}", error.message),
            },
        };
        println!(
            "{name}: compiled in {compiled:?}, all {:?}: {end}",
            started.elapsed()
        );
        assert!(
            started.elapsed() < PATIENCE,
            "{name} took {:?}",
            started.elapsed()
        );
    }
}

#[test]
fn rules_name_the_release_that_is_built_in() {
    let lock = include_str!("../../../../Cargo.lock");
    let release = GRAMMAR_RULES.rsplit(' ').next().unwrap();
    assert!(lock.contains(&format!("name = \"llguidance\"\nversion = \"{release}\"")));
}
