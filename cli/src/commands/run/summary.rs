//! What a run says when it is over.

use std::time::Duration;

use rbee_queue::Batch;
use rbee_scheduler::http::types::BatchView;
use serde_json::json;

use super::watch::Computed;
use crate::batch_view::{self, Runner, counted};
use crate::failure::Failure;
use crate::output::Target;
use crate::progress::taken;
use crate::results::{Destinations, Written};
use crate::table;
use crate::talk::Talk;

/// The figures of a run beside those of its batch.
pub struct Summary {
    /// Jobs that had a result before this process began.
    resumed: u64,
    /// Jobs that have the answer of an equal job of another batch.
    pub taken_over: u64,
    /// What this process did itself.
    pub computed: Computed,
}

impl Summary {
    /// Before anything is computed.
    pub fn new(resumed: u64) -> Summary {
        Summary {
            resumed,
            taken_over: 0,
            computed: Computed::default(),
        }
    }

    /// Says in a line or two what happened and where the results are.
    pub fn tell(&self, talk: &Talk, batch: &Batch, written: &Written, to: &Destinations) {
        let Computed {
            jobs,
            output_tokens,
            elapsed,
        } = self.computed;
        if jobs > 0 {
            let speed = per_second(output_tokens, elapsed);
            let (jobs, time) = (counted(jobs, "job"), taken(elapsed));
            talk.note(&format!(
                "{jobs} in {time}, {output_tokens} tokens, {speed:.1} tokens/s"
            ));
        }
        if written.failed > 0 {
            let id = &batch.id;
            talk.line(&format!(
                "{} of {} failed: `rbee status {id}` says why",
                written.failed,
                counted(written.results, "job")
            ));
        }
        if let Some(path) = to.results.file() {
            talk.note(&format!("results in {}", path.display()));
        }
        if let Some(path) = to.errors.as_ref().and_then(Target::file) {
            talk.note(&format!("errors in {}", path.display()));
        }
    }

    /// Prints the summary as one JSON object: on stdout, or on stderr when the results went to stdout.
    pub fn print(
        &self,
        talk: &Talk,
        batch: &Batch,
        written: &Written,
        to: &Destinations,
    ) -> Result<(), Failure> {
        let mut value = batch_view::json(&BatchView::from(batch), Runner::Nobody);
        let seconds = self.computed.elapsed.as_secs_f64();
        value["run"] = json!({
            "resumed": self.resumed,
            "taken_over": self.taken_over,
            "computed": self.computed.jobs,
            "seconds": (seconds * 1000.0).round() / 1000.0,
            "tokens_per_s": per_second(self.computed.output_tokens, self.computed.elapsed),
            "results": written.results,
            "failed": written.failed,
            "output": to.results.file(),
            "errors": to.errors.as_ref().and_then(Target::file),
        });
        if to.results == Target::Stdout {
            talk.line(&value.to_string());
            return Ok(());
        }
        table::print([value.to_string()])
    }
}

fn per_second(tokens: u64, elapsed: Duration) -> f64 {
    let seconds = elapsed.as_secs_f64();
    if seconds > 0.0 {
        (tokens as f64 / seconds * 10.0).round() / 10.0
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speed_of_nothing_is_zero() {
        assert_eq!(per_second(0, Duration::ZERO), 0.0);
        assert_eq!(per_second(100, Duration::from_secs(8)), 12.5);
    }
}
