//! Real servers for tests: Redis (alone, with TLS, under Sentinels, as a cluster) and Postgres, and an OpenSSH server,
//! started on private ports and ended with the test.
//!
//! A server's program comes from PATH or from where Debian puts it; `cargo xtask test` installs what is missing.
//! A test that cannot have its server fails.

pub mod certificates;
pub mod folder;
pub mod postgres;
pub mod process;
pub mod redis;
pub mod redis_cluster;
pub mod sentinels;
pub mod sshd;

pub use certificates::Certificates;
pub use postgres::Postgres;
pub use redis::Redis;
pub use redis_cluster::RedisCluster;
pub use sentinels::Sentinels;
pub use sshd::Sshd;
