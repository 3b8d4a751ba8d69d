//! `GET /v1/models`, `GET /v1/models/{id}`: the names that requests may say.
//!
//! Listed is what some node or this server has on its disk or in memory, and the model of requests that name none.

use super::super::error::ApiError;
use super::super::types::{Listing, ModelView};
use super::super::{NamedModel, Server};
use axum::Json;
use axum::extract::{Path, State};
use rbee_queue::{ModelSha, NodeState};
use std::collections::HashSet;
use std::sync::Arc;

/// `GET /v1/models`.
pub async fn list(State(server): State<Server>) -> Result<Json<Listing<ModelView>>, ApiError> {
    let names = names(&server).await?;
    let nodes = server.batches.store().node_list().await?;
    let there = nodes
        .iter()
        .filter(|node| node.state() != NodeState::Lost)
        .flat_map(|node| {
            let report = &node.report;
            let resident = report.resident.iter().map(|resident| resident.model);
            resident.chain(report.on_disk.iter().map(|disk| disk.model))
        });
    let there: HashSet<ModelSha> = there.collect();
    let data: Vec<ModelView> = names
        .into_iter()
        .filter(|named| {
            named.here || named.name == server.usual_model || there.contains(&named.sha256)
        })
        .map(|named| server.model_view(named.name))
        .collect();
    let id = |model: Option<&ModelView>| model.map(|model| model.id.clone());
    Ok(Json(Listing {
        object: "list".to_owned(),
        first_id: id(data.first()),
        last_id: id(data.last()),
        has_more: false,
        data,
    }))
}

/// `GET /v1/models/{id}`: also one that would be fetched first.
pub async fn show(
    State(server): State<Server>,
    Path(id): Path<String>,
) -> Result<Json<ModelView>, ApiError> {
    let names = names(&server).await?;
    match names.iter().any(|named| named.name == id) {
        true => Ok(Json(server.model_view(id))),
        false => {
            let shown: String = id.chars().take(80).collect();
            let message = format!("there is no model {shown:?} here: GET /v1/models lists them");
            Err(ApiError::no_model(message))
        }
    }
}

async fn names(server: &Server) -> Result<Vec<NamedModel>, ApiError> {
    let models = Arc::clone(&server.models);
    let names = tokio::task::spawn_blocking(move || models.names()).await;
    names.map_err(|error| ApiError::internal(error.to_string()))
}

impl Server {
    fn model_view(&self, id: String) -> ModelView {
        ModelView {
            id,
            object: "model".to_owned(),
            created: self.started_s,
            owned_by: "rbee".to_owned(),
        }
    }
}
