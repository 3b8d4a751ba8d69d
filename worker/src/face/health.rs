//! `GET /health`: whether the node lives and what it has in memory.

use super::Shared;
use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

/// Tells it.
pub async fn get(State(shared): State<Shared>) -> Json<Value> {
    let status = shared.face.node.status().borrow().clone();
    let report = &status.report;
    let resident: Vec<String> = status.resident.iter().map(|model| model.to_hex()).collect();
    let busy = report.slots > 0 && report.running >= report.slots;
    let state = match () {
        () if status.draining => "draining",
        () if resident.is_empty() && !report.loading.is_empty() => "starting",
        () if busy => "busy",
        () => "ready",
    };
    Json(json!({
        "status": "healthy",
        "model_loaded": !resident.is_empty(),
        "name": report.name,
        "version": report.version,
        "state": state,
        "resident": resident,
        "loading": report.loading,
        "slots": report.slots,
        "running": report.running,
    }))
}
