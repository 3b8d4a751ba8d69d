//! Which schedule is meant: by its name, its id, or the beginning of its id.

use super::super::Server;
use super::super::error::ApiError;
use rbee_queue::schedule::Schedule;

/// What every schedule's id begins with.
const PREFIX: &str = "sched_";

impl Server {
    /// The schedule that a path names.
    pub(super) async fn schedule(&self, wanted: &str) -> Result<Schedule, ApiError> {
        let mut all = self.batches.store().schedule_list().await?;
        if let Some(at) = all
            .iter()
            .position(|one| one.name == wanted || one.id.as_str() == wanted)
        {
            return Ok(all.swap_remove(at));
        }
        let digits = wanted.strip_prefix(PREFIX).unwrap_or(wanted);
        all.retain(|one| {
            let id = one.id.as_str().trim_start_matches(PREFIX);
            !digits.is_empty() && id.starts_with(digits)
        });
        let shown: String = wanted.chars().take(80).collect();
        match all.len() {
            1 => Ok(all.remove(0)),
            0 => Err(ApiError::not_found(format!(
                "there is no schedule {shown}: `rbee schedule list` shows those that there are"
            ))),
            _ => {
                let names: Vec<&str> = all.iter().take(5).map(|one| one.name.as_str()).collect();
                let message = format!(
                    "{shown} is the beginning of several ids: {}",
                    names.join(", ")
                );
                Err(ApiError::conflict("ambiguous_id", message))
            }
        }
    }
}
