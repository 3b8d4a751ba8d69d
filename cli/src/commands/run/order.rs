//! What is wanted of a run beside what its batch is made with: nothing here changes a byte of a result.

use std::path::PathBuf;

use rbee_queue::Batch;
use rbee_queue::jsonl::Shape;

use super::args::RunArgs;
use super::input::Input;
use crate::batch_args::FormatChoice;
use crate::engine_args::EngineArgs;
use crate::failure::Failure;
use crate::living::LivingArgs;
use crate::output::{DASH, default_results_path};
use crate::results::Destinations;

/// How an input is run, and what becomes of its results.
pub struct Order {
    /// Where results go, if it was said.
    pub output: Option<PathBuf>,
    pub errors: Option<PathBuf>,
    /// One form for all results.
    pub shape: Option<Shape>,
    pub fresh: bool,
    pub json: bool,
    pub with_stats: bool,
    pub engine: EngineArgs,
    /// When it may compute.
    pub living: LivingArgs,
    pub pilot: Option<PilotWish>,
    /// The batch whose answers are taken over.
    pub takes_over: Option<Batch>,
}

/// A pilot.
#[derive(Debug, Clone, Copy)]
pub struct PilotWish {
    pub jobs: u64,
    /// The rest is consented to already.
    pub consent: bool,
}

impl From<RunArgs> for Order {
    fn from(args: RunArgs) -> Order {
        let mut engine = args.engine;
        engine.machine.memory = args.living.memory(engine.machine.memory);
        Order {
            output: args.output,
            errors: args.errors,
            shape: args.batch.format.and_then(FormatChoice::shape),
            fresh: args.fresh,
            json: args.json,
            with_stats: args.with_stats,
            engine,
            living: args.living,
            pilot: args.pilot.map(|jobs| PilotWish {
                jobs,
                consent: args.yes,
            }),
            takes_over: None,
        }
    }
}

impl Order {
    /// Where the results of an input go.
    pub fn destinations(&self, input: &Input) -> Result<Destinations, Failure> {
        let output = match (&self.output, input.path()) {
            (Some(given), _) => given.clone(),
            (None, Some(path)) => default_results_path(path),
            (None, None) => PathBuf::from(DASH),
        };
        Destinations::choose(&output, self.errors.as_deref(), input.path())
    }
}
