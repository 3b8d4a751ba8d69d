//! The integration tests, one file a subject.

mod oracles;
