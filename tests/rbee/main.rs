//! The integration tests, one file a subject.

mod bench;
mod cluster;
mod deploy;
mod disk;
mod engine;
mod face;
mod faults;
mod hub;
mod infer;
mod input;
mod invariance;
mod kept;
mod lifecycle;
mod logits;
mod models;
mod oracles;
mod output;
mod real_models;
mod real_run;
mod redis;
mod resume;
mod schedules;
mod server;
mod untrusted;
mod watch;
mod webhooks;
