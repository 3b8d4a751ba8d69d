//! A step that hangs cannot be ended from outside the engine: the process is, with evidence against the running jobs.

use super::NodeHandle;
use std::time::Duration;

/// Looks within the time that a step may take.
const LOOKS: u32 = 10;

/// Calls `stalled` once no engine has made a step for `patience` while jobs were running and the store took results. A
/// process that was stopped does not count that time. Blocks its thread until the node has ended.
pub fn watch_for_stalls(node: &NodeHandle, patience: Duration, stalled: impl FnOnce()) {
    let status = node.status();
    let (mut steps, mut still) = (0, 0);
    loop {
        std::thread::sleep(patience / LOOKS);
        if status.has_changed().is_err() {
            return;
        }
        let (now, busy) = {
            let status = status.borrow();
            let running: usize = (status.report.resident.iter())
                .map(|resident| resident.running)
                .sum();
            (status.report.steps, running > 0 && status.blocked.is_none())
        };
        still = if busy && now == steps { still + 1 } else { 0 };
        steps = now;
        if still > LOOKS {
            stalled();
            return;
        }
    }
}
