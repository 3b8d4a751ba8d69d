//! Families of schemas for what is read out of texts: records, labels, numbers, codes.

use super::{object, one, some};
use crate::random::Random;
use serde_json::{Value as Json, json};

pub fn contact(random: &mut Random) -> Json {
    let address = object(
        &[
            ("street", json!({"type": "string", "maxLength": 40})),
            ("city", json!({"type": "string", "maxLength": 30})),
            (
                "postalCode",
                json!({"type": "string", "pattern": "^[0-9]{5}$"}),
            ),
        ],
        2,
        random,
    );
    let longest = 20 + random.below(40);
    object(
        &[
            (
                "name",
                json!({"type": "string", "minLength": 1, "maxLength": longest}),
            ),
            (
                "age",
                json!({"type": "integer", "minimum": 0, "maximum": 130}),
            ),
            (
                "email",
                json!({"type": "string", "format": "email", "description": "Where to write to"}),
            ),
            ("address", address),
        ],
        2,
        random,
    )
}

pub fn invoice(random: &mut Random) -> Json {
    let item = object(
        &[
            ("description", json!({"type": "string", "maxLength": 30})),
            (
                "quantity",
                json!({"type": "integer", "minimum": 1, "maximum": 99}),
            ),
            (
                "unitPrice",
                json!({"type": "number", "minimum": 0, "maximum": 9999.99}),
            ),
        ],
        3,
        random,
    );
    let most = 2 + random.below(3);
    object(
        &[
            (
                "invoiceNumber",
                json!({"type": "string", "pattern": "^INV-[0-9]{4,6}$"}),
            ),
            (
                "currency",
                json!({"type": "string", "enum": some(random, &["EUR", "USD", "GBP", "CHF", "JPY"])}),
            ),
            (
                "items",
                json!({"type": "array", "items": item, "minItems": 1, "maxItems": most}),
            ),
            ("paid", json!({"type": "boolean"})),
            ("dueDate", json!({"type": "string", "format": "date"})),
        ],
        3,
        random,
    )
}

pub fn classification(random: &mut Random) -> Json {
    let labels = some(
        random,
        &[
            "positive", "negative", "neutral", "mixed", "unclear", "spam",
        ],
    );
    let topics = some(
        random,
        &["billing", "delivery", "quality", "service", "other"],
    );
    let most = topics.len();
    object(
        &[
            ("sentiment", json!({"type": "string", "enum": labels})),
            (
                "confidence",
                json!({"type": "number", "minimum": 0, "maximum": 1}),
            ),
            (
                "topics",
                json!({"type": "array", "items": {"enum": topics}, "maxItems": most}),
            ),
        ],
        1,
        random,
    )
}

pub fn place(random: &mut Random) -> Json {
    object(
        &[
            (
                "lat",
                json!({"type": "number", "minimum": -90, "maximum": 90}),
            ),
            (
                "lon",
                json!({"type": "number", "minimum": -180, "exclusiveMaximum": 180}),
            ),
            (
                "altitude",
                json!({"type": ["number", "null"], "minimum": -500, "maximum": 9000}),
            ),
            (
                "kind",
                json!({"enum": some(random, &["city", "village", "peak", "lake", "island"])}),
            ),
        ],
        2,
        random,
    )
}

pub fn codes(random: &mut Random) -> Json {
    object(
        &[
            (
                "phone",
                json!({"type": "string", "pattern": "^\\+[1-9][0-9]{6,14}$"}),
            ),
            (
                "sku",
                json!({"type": "string", "pattern": "^[A-Z]{2,4}-\\d{3}$"}),
            ),
            (
                "version",
                json!({"type": "string", "pattern": "^(0|[1-9]\\d*)\\.(0|[1-9]\\d*)\\.(0|[1-9]\\d*)$", "maxLength": 12}),
            ),
            (
                "colour",
                json!({"type": "string", "pattern": "^#[0-9a-fA-F]{6}$"}),
            ),
            (
                "slug",
                json!({"type": "string", "pattern": "^[a-z0-9]+(-[a-z0-9]+)*$", "maxLength": 30}),
            ),
            (
                "plate",
                json!({"type": "string", "pattern": "^[A-Z]{1,3} [A-Z]{1,2} [0-9]{1,4}$"}),
            ),
        ],
        1,
        random,
    )
}

pub fn formats(random: &mut Random) -> Json {
    let of = |format: &str| json!({"type": "string", "format": format});
    object(
        &[
            ("id", of("uuid")),
            ("createdAt", of("date-time")),
            ("day", of("date")),
            ("at", of("time")),
            ("address", of(one(random, &["ipv4", "ipv6"]))),
            ("host", of("hostname")),
            ("length", of("duration")),
        ],
        2,
        random,
    )
}

pub fn numbers(random: &mut Random) -> Json {
    let low = random.below(50) as i64 - 25;
    let high = low + 1 + random.below(2000) as i64;
    let step = [1, 2, 5, 10, 25][random.below(5)];
    object(
        &[
            (
                "count",
                json!({"type": "integer", "minimum": low, "maximum": high}),
            ),
            (
                "share",
                json!({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}),
            ),
            (
                "price",
                json!({"type": "number", "minimum": 0.5, "maximum": 99.95}),
            ),
            (
                "stepped",
                json!({"type": "integer", "multipleOf": step, "minimum": 0, "maximum": 1000}),
            ),
            (
                "percent",
                json!({"type": "integer", "minimum": 0, "maximum": 100}),
            ),
        ],
        2,
        random,
    )
}

pub fn steps(random: &mut Random) -> Json {
    let most = 2 + random.below(3);
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "MathReasoning",
        "type": "object",
        "properties": {
            "steps": {"type": "array", "maxItems": most, "items": {
                "type": "object",
                "properties": {
                    "explanation": {"type": "string", "maxLength": 60},
                    "output": {"type": "string", "maxLength": 30},
                },
                "required": ["explanation", "output"],
                "additionalProperties": false,
            }},
            "final_answer": {"type": "string", "maxLength": 40},
        },
        "required": ["steps", "final_answer"],
        "additionalProperties": false,
    })
}

pub fn page(random: &mut Random) -> Json {
    let row = object(
        &[
            ("id", json!({"type": "integer", "minimum": 1})),
            ("name", json!({"type": "string", "maxLength": 24})),
            ("active", json!({"type": "boolean", "default": true})),
        ],
        2,
        random,
    );
    let most = 1 + random.below(3);
    json!({
        "type": "object",
        "properties": {
            "data": {"type": "array", "items": row, "maxItems": most},
            "meta": {
                "type": "object",
                "properties": {
                    "page": {"type": "integer", "minimum": 1, "maximum": 500},
                    "total": {"type": "integer", "minimum": 0},
                    "next": {"anyOf": [{"type": "string", "format": "uri"}, {"type": "null"}]},
                },
                "required": ["page", "total"],
                "additionalProperties": false,
            },
        },
        "required": ["data", "meta"],
        "additionalProperties": false,
    })
}

pub fn quiz(random: &mut Random) -> Json {
    let answers = 2 + random.below(3);
    json!({
        "type": "object",
        "properties": {
            "question": {"type": "string", "minLength": 5, "maxLength": 80},
            "answers": {"type": "array", "items": {"type": "string", "maxLength": 30}, "minItems": answers, "maxItems": answers},
            "correct": {"type": "integer", "minimum": 0, "exclusiveMaximum": answers},
            "difficulty": {"enum": some(random, &["easy", "medium", "hard", "expert"])},
        },
        "required": ["question", "answers", "correct"],
        "additionalProperties": false,
    })
}

pub fn manifest(random: &mut Random) -> Json {
    let replicas = 1 + random.below(10);
    json!({
        "type": "object",
        "properties": {
            "apiVersion": {"const": one(random, &["v1", "apps/v1", "batch/v1"])},
            "kind": {"type": "string", "enum": some(random, &["Deployment", "StatefulSet", "Job", "CronJob"])},
            "metadata": {
                "type": "object",
                "properties": {
                    "name": {"type": "string", "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", "maxLength": 20},
                    "labels": {"type": "object", "additionalProperties": {"type": "string", "maxLength": 12}, "maxProperties": 3},
                },
                "required": ["name"],
                "additionalProperties": false,
            },
            "spec": {
                "type": "object",
                "properties": {
                    "replicas": {"type": "integer", "minimum": 0, "maximum": replicas},
                    "paused": {"type": "boolean"},
                },
                "required": ["replicas"],
                "additionalProperties": false,
            },
        },
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "additionalProperties": false,
    })
}

pub fn package(random: &mut Random) -> Json {
    object(
        &[
            (
                "name",
                json!({"type": "string", "pattern": "^[a-z][a-z0-9-]{1,20}$"}),
            ),
            (
                "version",
                json!({"type": "string", "pattern": "^\\d{1,2}\\.\\d{1,2}\\.\\d{1,2}$"}),
            ),
            ("private", json!({"type": "boolean"})),
            (
                "license",
                json!({"enum": some(random, &["MIT", "Apache-2.0", "BSD-3-Clause", "MPL-2.0"])}),
            ),
            (
                "keywords",
                json!({"type": "array", "items": {"type": "string", "maxLength": 10}, "maxItems": 3}),
            ),
            (
                "engines",
                json!({"type": "object", "properties": {"node": {"type": "string", "maxLength": 8}}, "additionalProperties": false}),
            ),
        ],
        2,
        random,
    )
}
