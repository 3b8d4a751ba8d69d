//! The batch inference engine: step planner, KV blocks, sequences, sampler, and the thread that runs them.
//!
//! It turns jobs into results through a [`step::StepModel`]. It owns no tensor and reads no file. The way of a job:
//! [`Engine::submit`] -> [`prepare`] (template, tokenizer; own threads) -> the step thread, which plans, computes, samples
//! and collects step by step -> [`EngineEvent`]s.

pub mod blocks;
pub mod candidates;
pub mod embedding;
pub mod forward;
pub mod grammar;
mod handle;
mod inbox;
pub mod job;
mod live_job;
mod meter;
pub mod options;
pub mod planner;
pub mod prefix;
pub mod prepare;
mod preparer;
pub mod randomness;
mod run;
pub mod sampler;
pub mod sequence;
mod shared;
pub mod speed;
pub mod step;
pub mod stop;
pub mod stub;
pub mod weights;

pub use handle::Engine;
pub use job::{EngineEvent, EngineJob, MAX_LIVE_JOBS, Priority, SubmitError};
pub use options::{EngineOptions, EngineStats};
pub use prepare::TextFace;

#[cfg(test)]
mod tests;
