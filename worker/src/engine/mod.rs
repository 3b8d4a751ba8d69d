//! The batch inference engine: step planner, KV blocks, sequences, sampler, and the thread that runs them.
//!
//! It turns jobs into results through a [`step::StepModel`]. It owns no tensor and reads no file.

pub mod blocks;
pub mod job;
pub mod options;
pub mod planner;
pub mod speed;
pub mod step;

pub use job::{EngineEvent, EngineJob, MAX_LIVE_JOBS, Priority, SubmitError};
pub use options::{EngineOptions, EngineStats};
