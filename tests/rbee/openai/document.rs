//! The OpenAPI document: what it says holds, and its page needs nobody else.

use super::{TOKEN, stub};
use rbee_tests::cluster::ends_well;
use rbee_tests::process::Home;
use rbee_tests::python::{module, passes};

/// Requests that are made up for each route.
const EXAMPLES: &str = "15";

#[test]
fn document_and_its_page_need_nobody_else() {
    let home = Home::new();
    let server = stub(&home, &[]);
    passes(&home, "openai/document.py", &server.url, &[]);
    ends_well(server.process);
}

#[test]
fn made_up_requests_get_what_the_document_says() {
    let home = Home::new();
    let server = stub(&home, &[]);
    let document = format!("{}/openapi.json", server.url);
    let token = format!("Authorization: Bearer {TOKEN}");
    let settings = concat!(env!("CARGO_MANIFEST_DIR"), "/rbee/openai/schemathesis.toml");
    let arguments = [
        "--config-file",
        settings,
        "run",
        &document,
        "--header",
        &token,
        "--max-examples",
        EXAMPLES,
        "--phases",
        "examples,coverage,fuzzing",
        "--checks",
        "all",
        "--seed",
        "1",
        "--no-color",
        // Two at once meet in a cache of its own now and then.
        "--workers",
        "1",
        "--request-timeout",
        "180",
    ];
    let ended = module(&home, "schemathesis.cli", &arguments).run();
    assert_eq!(ended.code, Some(0), "{ended}");
    ends_well(server.process);
}
