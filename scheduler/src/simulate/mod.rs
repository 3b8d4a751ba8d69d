//! A simulator of the cluster: nodes, models and jobs by the thousand, placed by the very function
//! that places real ones.
//!
//! Owns a world in which only time is pretended. `scenario` says what is there and what is asked
//! for, `bound` what no schedule can beat, `node` how nodes run and load, `world` what happens when,
//! `policy` who decides, `measure` what is reported.
//!
//! What is simulated: slots, speeds, loads by bytes (one at a time; meanwhile the node computes
//! nothing, since packing weights takes all its threads), evictions under a memory budget, inboxes,
//! the interval between two looks, preemption by interactive jobs, lost nodes and their leases, and
//! speeds that are measured as nodes measure them. What is not: reports are never late, and the
//! store and the queue take no time.

mod bound;
mod measure;
mod node;
mod policy;
pub(crate) mod random;
mod scenario;
#[cfg(test)]
mod tests;
mod world;

pub use bound::lower_bound_s;
pub use measure::{Outcome, Verdict};
pub use policy::Policy;
pub use scenario::{Machine, Model, Request, Scenario, all};
pub use world::{LOOK_S, play};

/// The shipped policy may take so many times the lower bound.
pub const MOST_TIMES_BOUND: f64 = 1.15;
