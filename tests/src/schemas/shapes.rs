//! Families of schemas by the parts of the language that they use: references, alternatives, maps, recursion.

use super::{object, one, some};
use crate::random::Random;
use serde_json::{Value as Json, json};

pub fn function(random: &mut Random) -> Json {
    let names = some(
        random,
        &["get_weather", "search", "send_mail", "convert", "open_file"],
    );
    let calls: Vec<Json> = names
        .iter()
        .map(|name| {
            let arguments = object(
                &[
                    ("query", json!({"type": "string", "maxLength": 30})),
                    (
                        "limit",
                        json!({"type": "integer", "minimum": 1, "maximum": 50}),
                    ),
                    ("unit", json!({"enum": ["celsius", "fahrenheit"]})),
                ],
                1,
                random,
            );
            json!({
                "type": "object",
                "properties": {"name": {"const": name}, "arguments": arguments},
                "required": ["name", "arguments"],
                "additionalProperties": false,
            })
        })
        .collect();
    json!({"anyOf": calls})
}

pub fn inherited(random: &mut Random) -> Json {
    json!({
        "components": {"schemas": {}},
        "$defs": {
            "Pet": {
                "type": "object",
                "properties": {
                    "name": {"type": "string", "maxLength": 16},
                    "species": {"enum": some(random, &["cat", "dog", "bird", "fish"])},
                },
                "required": ["name", "species"],
            },
        },
        "allOf": [
            {"$ref": "#/$defs/Pet"},
            {
                "type": "object",
                "properties": {"age": {"type": "integer", "minimum": 0, "maximum": 40}, "indoor": {"type": "boolean"}},
                "required": ["age"],
            },
        ],
    })
}

pub fn event(random: &mut Random) -> Json {
    let kinds = some(random, &["created", "updated", "deleted", "archived"]);
    let variant = |kind: &&str| {
        json!({
            "type": "object",
            "properties": {
                "type": {"const": kind},
                "at": {"type": "string", "format": "date-time"},
                format!("{kind}By"): {"type": "string", "maxLength": 16},
            },
            "required": ["type", format!("{kind}By")],
            "additionalProperties": false,
        })
    };
    let word = one(random, &["anyOf", "oneOf"]);
    json!({
        "type": "object",
        "properties": {"event": {word: kinds.iter().map(variant).collect::<Vec<_>>()}},
        "required": ["event"],
        "additionalProperties": false,
    })
}

pub fn tree(random: &mut Random) -> Json {
    let most = 1 + random.below(2);
    let value = [
        json!({"type": "integer", "minimum": 0, "maximum": 99}),
        json!({"type": "string", "maxLength": 10}),
    ];
    let word = one(random, &["$defs", "definitions"]);
    json!({
        word: {"Node": {
            "type": "object",
            "properties": {
                "value": value[random.below(2)],
                "children": {"type": "array", "items": {"$ref": format!("#/{word}/Node")}, "maxItems": most},
            },
            "required": ["value"],
            "additionalProperties": false,
        }},
        "$ref": format!("#/{word}/Node"),
    })
}

pub fn list(random: &mut Random) -> Json {
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "object",
        "properties": {
            "head": {"type": "string", "enum": some(random, &["a", "b", "c", "d"])},
            "tail": {"anyOf": [{"$ref": "#"}, {"type": "null"}]},
        },
        "required": ["head", "tail"],
        "additionalProperties": false,
    })
}

pub fn map(random: &mut Random) -> Json {
    let value = [
        json!({"type": "string", "maxLength": 12}),
        json!({"type": "number", "minimum": 0, "maximum": 10}),
        json!({"type": "boolean"}),
        json!({"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 9}, "maxItems": 2}),
    ];
    json!({
        "type": "object",
        "properties": {"default": value[random.below(4)]},
        "additionalProperties": value[random.below(4)],
        "required": ["default"],
        "maxProperties": 3,
    })
}

pub fn pattern_map(random: &mut Random) -> Json {
    let key = one(
        random,
        &["^[a-z]{2}$", "^[a-z]{2}-[A-Z]{2}$", "^x-[a-z]{1,8}$"],
    );
    json!({
        "type": "object",
        "properties": {"en": {"type": "string", "maxLength": 20}},
        "patternProperties": {key: {"type": "string", "maxLength": 10 + random.below(10)}},
        "additionalProperties": false,
        "required": ["en"],
        "maxProperties": 4,
    })
}

pub fn nullable(random: &mut Random) -> Json {
    object(
        &[
            (
                "title",
                json!({"type": ["string", "null"], "maxLength": 20}),
            ),
            (
                "year",
                json!({"anyOf": [{"type": "integer", "minimum": 1900, "maximum": 2100}, {"type": "null"}]}),
            ),
            (
                "rating",
                json!({"type": ["number", "null"], "minimum": 0, "maximum": 5}),
            ),
            ("seen", json!({"type": ["boolean", "null"]})),
            (
                "tags",
                json!({"anyOf": [{"type": "null"}, {"type": "array", "items": {"type": "string", "maxLength": 8}, "maxItems": 3}]}),
            ),
        ],
        2,
        random,
    )
}

pub fn tuple(random: &mut Random) -> Json {
    let kinds = [
        json!({"type": "integer", "minimum": 0, "maximum": 255}),
        json!({"type": "boolean"}),
        json!({"enum": ["on", "off"]}),
        json!({"type": "null"}),
    ];
    let items: Vec<&Json> = (0..2 + random.below(4))
        .map(|_| &kinds[random.below(4)])
        .collect();
    let count = items.len();
    json!({"type": "array", "prefixItems": items, "items": false, "minItems": count})
}

pub fn constants(random: &mut Random) -> Json {
    let mixed = [
        json!(1),
        json!("one"),
        json!(null),
        json!(true),
        json!(2.5),
        json!({"a": [1]}),
        json!("Straße \"x\""),
    ];
    let from = random.below(4);
    object(
        &[
            ("kind", json!({"const": mixed[from]})),
            ("choice", json!({"enum": mixed[from..from + 3]})),
            ("version", json!({"const": 1 + from})),
        ],
        2,
        random,
    )
}

pub fn modelled(random: &mut Random) -> Json {
    let levels = some(random, &["low", "medium", "high", "urgent"]);
    json!({
        "$defs": {
            "Priority": {"enum": levels, "title": "Priority", "type": "string"},
            "Owner": {
                "properties": {
                    "name": {"title": "Name", "type": "string", "maxLength": 16},
                    "team": {"anyOf": [{"type": "string", "maxLength": 10}, {"type": "null"}], "default": null, "title": "Team"},
                },
                "required": ["name"],
                "title": "Owner",
                "type": "object",
                "additionalProperties": false,
            },
        },
        "properties": {
            "title": {"title": "Title", "type": "string", "maxLength": 30},
            "priority": {"allOf": [{"$ref": "#/$defs/Priority"}], "default": levels[0]},
            "owner": {"anyOf": [{"$ref": "#/$defs/Owner"}, {"type": "null"}]},
            "done": {"default": false, "title": "Done", "type": "boolean"},
        },
        "required": ["title", "priority", "owner"],
        "title": "Ticket",
        "type": "object",
        "additionalProperties": false,
    })
}

pub fn nested(random: &mut Random) -> Json {
    let names = ["region", "country", "city", "street", "house", "room"];
    let leaf = json!({"type": "string", "maxLength": 10});
    (0..2 + random.below(4)).fold(leaf, |inner, level| {
        let name = names[level];
        json!({
            "type": "object",
            "properties": {name: inner, "id": {"type": "integer", "minimum": 1, "maximum": 9}},
            "required": [name],
            "additionalProperties": false,
        })
    })
}

/// What says more than a grammar can.
pub fn ungrammatical(random: &mut Random) -> Json {
    let mut schema = json!({
        "type": "object",
        "properties": {"a": {"type": "string"}, "b": {"type": "array", "items": {"type": "integer"}}},
    });
    match random.below(5) {
        0 => schema["properties"]["b"]["uniqueItems"] = json!(true),
        1 => {
            schema["if"] = json!({"properties": {"a": {"const": "x"}}});
            schema["then"] = json!({"required": ["b"]});
        }
        2 => schema["dependentRequired"] = json!({"a": ["b"]}),
        3 => schema["properties"]["b"]["contains"] = json!({"const": 3}),
        _ => schema["properties"]["a"]["not"] = json!({"const": "x"}),
    }
    schema
}
