//! What the tests of rbee stand on: generated models, oracles for their logits, and the harness that drives the binary.
//!
//! It holds no test. The one integration binary in `tests/rbee/` does, one file a subject.

pub mod alone;
pub mod checkpoint;
pub mod clocks;
pub mod cluster;
pub mod collector;
pub mod driver;
pub mod engine;
pub mod events;
pub mod fake_hub;
pub mod fleet;
pub mod gguf_file;
pub mod http;
pub mod listening;
pub mod loaded;
pub mod logits;
pub mod namespace;
pub mod oracle;
pub mod process;
pub mod prompts;
pub mod python;
pub mod random;
pub mod receiver;
pub mod reference;
pub mod run;
pub mod schedules;
pub mod schemas;
pub mod server;
pub mod small_disk;
pub mod spec;
pub mod test_models;
pub mod to_gguf;
pub mod to_safetensors;
pub mod tree;
pub mod vocabulary;
pub mod wait;
pub mod way;
pub mod workload;
