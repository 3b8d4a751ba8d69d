//! The OpenAPI document at `/openapi.json`, and the page at `/docs` that tries it.
//!
//! Owns what is said about routes; what they do is theirs. Each route has a function here that is never called and carries
//! its description. The page is embedded and loads
//! nothing from elsewhere.

mod batches;
mod bodies;
mod cluster;
mod embeddings;
mod forms;
mod openai;
mod schedules;
mod tokens;

use super::Server;
use super::types::{ErrorBody, ErrorWords};
use axum::Router;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{OpenApi as Spec, SecurityRequirement};
use utoipa::{IntoResponses, Modify, OpenApi};
use utoipa_swagger_ui::{Config, SwaggerUi};

/// Where the document is.
const DOCUMENT: &str = "/openapi.json";
/// Where the page is.
const PAGE: &str = "/docs";
/// The name of the one way to show who asks.
const TOKEN: &str = "token";

/// What every route may answer beside what it is there for.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "it describes answers and is never made")]
enum Refused {
    /// The request was refused; `code` says why.
    #[response(status = "4XX")]
    Client(ErrorBody),
    /// The server cannot do it now.
    #[response(status = "5XX")]
    Server(ErrorBody),
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "rbee",
        description = "OpenAI's routes for files, batches, chats, completions and models, and rbee's own for results while \
                       they come, nodes and schedules."
    ),
    paths(
        openai::chat_completions,
        openai::completions,
        openai::embeddings,
        openai::list_models,
        openai::show_model,
        openai::upload_file,
        openai::list_files,
        openai::show_file,
        openai::delete_file,
        openai::file_content,
        batches::create_batch,
        batches::list_batches,
        batches::show_batch,
        batches::delete_batch,
        batches::cancel_batch,
        batches::pause_batch,
        batches::resume_batch,
        batches::retry_batch,
        batches::batch_results,
        batches::batch_events,
        batches::batch_jobs,
        batches::show_job,
        batches::job_events,
        cluster::infer,
        cluster::list_nodes,
        cluster::drain_node,
        cluster::undrain_node,
        cluster::node_logs,
        cluster::server_logs,
        cluster::list_schedules,
        cluster::add_schedule,
        cluster::calendar,
        cluster::show_schedule,
        cluster::remove_schedule,
        cluster::pause_schedule,
        cluster::resume_schedule,
        cluster::run_schedule,
        cluster::schedule_runs,
        cluster::show_blob,
        cluster::head_blob,
        cluster::put_blob,
        tokens::list_tokens,
        tokens::own_token,
        tokens::create_token,
        tokens::revoke_token,
        tokens::make_link,
        tokens::activity,
        tokens::metrics,
        cluster::health,
        cluster::ready,
    ),
    components(schemas(ErrorBody, ErrorWords)),
    modifiers(&Token),
    tags(
        (name = "openai", description = "As OpenAI's clients know them"),
        (name = "batches", description = "Batches and their jobs"),
        (name = "cluster", description = "Nodes, schedules, model files, logs"),
    )
)]
struct Document;

/// All routes but two want a token.
struct Token;

impl Modify for Token {
    fn modify(&self, document: &mut Spec) {
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme(TOKEN, SecurityScheme::Http(bearer));
        document.security = Some(vec![SecurityRequirement::new(TOKEN, Vec::<String>::new())]);
    }
}

/// The document and its page.
pub fn routes() -> Router<Server> {
    // The page would ask a stranger's server to judge the document.
    let config = Config::new([DOCUMENT]).validator_url("none");
    let page = SwaggerUi::new(PAGE)
        .url(DOCUMENT, Document::openapi())
        .config(config);
    page.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn every_reference_of_the_document_leads_somewhere() {
        fn references(value: &Value, found: &mut Vec<String>) {
            match value {
                Value::Object(members) => {
                    for (name, value) in members {
                        match (name.as_str(), value) {
                            ("$ref", Value::String(to)) => found.push(to.clone()),
                            _ => references(value, found),
                        }
                    }
                }
                Value::Array(items) => items.iter().for_each(|item| references(item, found)),
                _ => {}
            }
        }
        let document = serde_json::to_value(Document::openapi()).unwrap();
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(!found.is_empty());
        for reference in found {
            let pointer = reference.trim_start_matches('#');
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
    }

    #[test]
    fn every_operation_says_what_it_is_for() {
        let document = serde_json::to_value(Document::openapi()).unwrap();
        let paths = document["paths"].as_object().unwrap();
        assert!(paths.len() > 30);
        for (path, operations) in paths {
            for (method, operation) in operations.as_object().unwrap() {
                assert!(operation["summary"].is_string(), "{method} {path}");
            }
        }
    }
}
