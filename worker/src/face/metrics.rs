//! `GET /metrics`: the node's figures in the text format of Prometheus.

use super::Shared;
use super::error::FaceError;
use crate::node::NodeStatus;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};
use rbee_queue::JobError;

/// The format's name for content negotiation.
const FORMAT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Tells them.
pub async fn get(State(shared): State<Shared>) -> Result<Response, FaceError> {
    let status = shared.face.node.status().borrow().clone();
    let mut text = String::new();
    encode(&mut text, &registry(&status)).map_err(|error| {
        JobError::new(
            "internal_error",
            format!("The figures cannot be told: {error}."),
        )
    })?;
    Ok(([(header::CONTENT_TYPE, FORMAT)], text).into_response())
}

fn registry(status: &NodeStatus) -> Registry {
    let mut registry = Registry::with_prefix("rbee_node");
    let report = &status.report;
    let engine = status.engine.unwrap_or_default();
    let memory: u64 = report
        .devices
        .iter()
        .map(|device| device.memory_bytes)
        .sum();
    let taken: u64 = report.resident.iter().map(|model| model.bytes).sum();
    let counts = [
        ("slots", "Sequences that a model runs at once", report.slots),
        ("slots_used", "Sequences that run", engine.slots_used),
        (
            "jobs_running",
            "Jobs taken and not finished",
            report.running,
        ),
        ("models_resident", "Models in memory", report.resident.len()),
        (
            "models_loading",
            "Models on their way there",
            report.loading.len(),
        ),
        ("models_on_disk", "Models on disk", report.on_disk.len()),
        (
            "draining",
            "1 while no new work is taken",
            usize::from(status.draining),
        ),
        (
            "blocked",
            "1 while results wait for the store",
            usize::from(status.blocked.is_some()),
        ),
    ];
    for (name, help, value) in counts {
        registry.register(name, help, ConstGauge::new(value as i64));
    }
    let bytes = [
        ("memory_budget", "What models may take", memory),
        ("memory_used", "What models in memory take", taken),
    ];
    for (name, help, value) in bytes {
        let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
        registry.register_with_unit(name, help, Unit::Bytes, gauge);
    }
    let rates = [
        ("jobs_per_second", "Jobs a second", status.jobs_per_s),
        (
            "generated_tokens_per_second",
            "Generated tokens a second",
            engine.completion_tokens_per_s,
        ),
        (
            "prompt_tokens_per_second",
            "Prompt tokens a second",
            engine.prompt_tokens_per_s,
        ),
    ];
    for (name, help, value) in rates {
        registry.register(name, help, ConstGauge::new(value));
    }
    registry.register(
        "steps",
        "Steps of the engines since the start",
        ConstCounter::new(report.steps),
    );
    registry
}
