//! The integration tests, one file a subject.

mod hub;
mod oracles;
