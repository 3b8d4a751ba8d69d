//! Faults at full size under `cargo xtask test faults`; a small version of each runs always.

mod clocks;
mod cut;
mod embedded;
mod failpoints;
mod input;
mod nodes;
mod real_model;
mod room;
mod schedulers;
mod schedules;
mod stores;
mod streams;
mod submits;
