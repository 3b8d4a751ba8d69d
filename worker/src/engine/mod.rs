//! The batch inference engine: step planner, KV blocks, sequences, sampler, and the thread that runs them.
//!
//! It turns prepared jobs into results through a [`step::StepModel`]. It owns no tensor and reads no file.

pub mod step;
