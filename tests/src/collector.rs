//! A collector of traces: takes OTLP over HTTP, and reads the protobuf with a reader of its own.

use crate::listening;
use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::routing::post;

/// A span as it came.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Span {
    pub trace: Vec<u8>,
    pub id: Vec<u8>,
    pub parent: Vec<u8>,
    pub name: String,
    pub began_ns: u64,
    pub ended_ns: u64,
    pub attributes: Vec<(String, String)>,
    /// OpenTelemetry's number of it: 2 is an error.
    pub status: u64,
    /// Of the process that sent it.
    pub process: Vec<(String, String)>,
}

impl Span {
    /// An attribute; a number as its digits.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        let found = self.attributes.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }
}

#[derive(Default)]
struct Kept {
    answer: StatusCode,
    spans: Vec<Span>,
    bytes: Vec<u8>,
    requests: u64,
}

/// A collector that listens until the test ends.
pub struct Collector {
    /// What `OTEL_EXPORTER_OTLP_ENDPOINT` is to be.
    pub url: String,
    kept: Arc<Mutex<Kept>>,
}

impl Collector {
    /// Starts one that gives this answer.
    pub fn answering(answer: StatusCode) -> Collector {
        let kept = Arc::new(Mutex::new(Kept {
            answer,
            ..Kept::default()
        }));
        let router = axum::Router::new()
            .route("/v1/traces", post(collect))
            .with_state(Arc::clone(&kept));
        let address = listening::until_the_end(router);
        Collector {
            url: format!("http://{address}"),
            kept,
        }
    }

    /// All spans so far.
    pub fn spans(&self) -> Vec<Span> {
        self.kept.lock().expect("no test panics").spans.clone()
    }

    /// Requests so far.
    pub fn requests(&self) -> u64 {
        self.kept.lock().expect("no test panics").requests
    }

    /// Whether these bytes came in whatever place.
    pub fn has_seen(&self, text: &str) -> bool {
        let kept = self.kept.lock().expect("no test panics");
        let mut windows = kept.bytes.windows(text.len());
        windows.any(|window| window == text.as_bytes())
    }
}

async fn collect(
    State(kept): State<Arc<Mutex<Kept>>>,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, [(HeaderName, &'static str); 1], Vec<u8>) {
    const KIND: &str = "application/x-protobuf";
    let kind = headers
        .get("content-type")
        .and_then(|kind| kind.to_str().ok());
    assert_eq!(kind, Some(KIND));
    let mut kept = kept.lock().expect("no test panics");
    kept.requests += 1;
    kept.bytes.extend_from_slice(&body);
    if kept.answer.is_success() {
        kept.spans.extend(spans_of(&body));
    }
    let kind = [(HeaderName::from_static("content-type"), KIND)];
    (kept.answer, kind, Vec::new())
}

/// ExportTraceServiceRequest: resource_spans = 1; of those resource = 1 and scope_spans = 2; of those spans = 2.
fn spans_of(request: &[u8]) -> Vec<Span> {
    let mut spans = Vec::new();
    for resource_spans in all(request, 1) {
        let resource = all(resource_spans, 1).next().unwrap_or_default();
        let process: Vec<_> = all(resource, 1).map(key_value).collect();
        for scope_spans in all(resource_spans, 2) {
            spans.extend(all(scope_spans, 2).map(|bytes| span(bytes, &process)));
        }
    }
    spans
}

fn span(bytes: &[u8], process: &[(String, String)]) -> Span {
    let mut span = Span {
        process: process.to_vec(),
        ..Span::default()
    };
    for (number, field) in fields(bytes) {
        match (number, field) {
            (1, Field::Bytes(id)) => span.trace = id.to_vec(),
            (2, Field::Bytes(id)) => span.id = id.to_vec(),
            (4, Field::Bytes(id)) => span.parent = id.to_vec(),
            (5, Field::Bytes(name)) => span.name = text(name),
            (7, Field::Number(ns)) => span.began_ns = ns,
            (8, Field::Number(ns)) => span.ended_ns = ns,
            (9, Field::Bytes(pair)) => span.attributes.push(key_value(pair)),
            (15, Field::Bytes(status)) => {
                let code = fields(status).find(|(number, _)| *number == 3);
                if let Some((_, Field::Number(code))) = code {
                    span.status = code;
                }
            }
            _ => {}
        }
    }
    span
}

/// KeyValue: key = 1, value = 2; AnyValue: string_value = 1, int_value = 3.
fn key_value(bytes: &[u8]) -> (String, String) {
    let key = all(bytes, 1).next().map(text).unwrap_or_default();
    let value = all(bytes, 2).next().unwrap_or_default();
    let value = match fields(value).next() {
        Some((1, Field::Bytes(bytes))) => text(bytes),
        Some((3, Field::Number(number))) => number.to_string(),
        _ => String::new(),
    };
    (key, value)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("texts are UTF-8")
}

#[derive(Clone, Copy, Debug)]
enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The fields of one number that hold bytes.
fn all(message: &[u8], wanted: u64) -> impl Iterator<Item = &[u8]> {
    fields(message).filter_map(move |(number, field)| match field {
        Field::Bytes(bytes) if number == wanted => Some(bytes),
        _ => None,
    })
}

/// The fields of a message, in order.
fn fields(mut rest: &[u8]) -> impl Iterator<Item = (u64, Field<'_>)> {
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let tag = varint(&mut rest);
        let field = match tag & 7 {
            0 => Field::Number(varint(&mut rest)),
            1 => Field::Number(u64::from_le_bytes(fixed(&mut rest))),
            2 => {
                let length = varint(&mut rest) as usize;
                Field::Bytes(taken(&mut rest, length))
            }
            5 => Field::Number(u64::from(u32::from_le_bytes(fixed(&mut rest)))),
            kind => panic!("a field of the kind {kind}"),
        };
        Some((tag >> 3, field))
    })
}

fn varint(rest: &mut &[u8]) -> u64 {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let [byte] = fixed(rest);
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return number;
        }
    }
    panic!("a number without an end");
}

fn fixed<const N: usize>(rest: &mut &[u8]) -> [u8; N] {
    taken(rest, N).try_into().expect("it has this length")
}

fn taken<'a>(rest: &mut &'a [u8], length: usize) -> &'a [u8] {
    let (taken, left) = rest.split_at_checked(length).expect("a field is whole");
    *rest = left;
    taken
}
