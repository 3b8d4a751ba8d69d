//! Real servers for tests: Redis and Postgres, started on private ports and ended with the test.
//!
//! A server's program comes from PATH or from where Debian puts it; `cargo xtask test` installs what is missing.
//! A test that cannot have its server fails.

pub mod postgres;
pub mod process;
pub mod redis;

pub use postgres::Postgres;
pub use redis::Redis;
