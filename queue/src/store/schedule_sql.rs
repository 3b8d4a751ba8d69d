//! The SQL of schedules that both kinds of database understand; the store's clock is a parameter.

/// The columns of a schedule.
pub const SCHEDULE_COLUMNS: &str =
    "schedule_no, id, name, plan, paused, next_tick_us, created_at_us";

/// The columns of a run.
pub const RUN_COLUMNS: &str = "run_no, schedule_no, tick_us, cause, state, reason, batch_no, \
     batch_id, total, succeeded, failed, output, made_at_us, ended_at_us";

/// The states of runs that are not at their end.
pub const OPEN: &str = "('waiting', 'loading', 'running')";

pub const COUNT: &str = "SELECT COUNT(*) FROM schedules";

/// id, name, plan, next tick, now.
pub const ADD: &str = "INSERT INTO schedules (id, name, plan, next_tick_us, created_at_us) \
     VALUES ($1, $2, $3, $4, $5) ON CONFLICT (name) DO NOTHING \
     RETURNING schedule_no, id, name, plan, paused, next_tick_us, created_at_us";

/// id, piece, bytes, now.
pub const KEEP: &str = "INSERT INTO schedule_inputs (schedule_id, piece, bytes, made_at_us) \
     VALUES ($1, $2, $3, $4) ON CONFLICT (schedule_id, piece) DO UPDATE SET bytes = excluded.bytes";

/// id, piece.
pub const KEPT: &str = "SELECT bytes FROM schedule_inputs WHERE schedule_id = $1 AND piece = $2";

/// schedule, paused, next tick.
pub const PAUSE: &str = "UPDATE schedules SET paused = $2, next_tick_us = COALESCE($3, next_tick_us) \
     WHERE schedule_no = $1";

/// Each takes the schedule.
pub const REMOVE: [&str; 3] = [
    "DELETE FROM schedule_inputs WHERE schedule_id = \
     (SELECT id FROM schedules WHERE schedule_no = $1)",
    "DELETE FROM schedule_runs WHERE schedule_no = $1",
    "DELETE FROM schedules WHERE schedule_no = $1",
];

/// now.
pub const NEXT: &str = "SELECT MIN(next_tick_us) FROM schedules \
     WHERE paused = 0 AND next_tick_us IS NOT NULL AND next_tick_us > $1";

/// schedule, its next tick as it was seen, the one that follows, now.
pub const MOVE: &str = "UPDATE schedules SET next_tick_us = $3 WHERE schedule_no = $1 \
     AND next_tick_us = $2 AND paused = 0 AND next_tick_us <= $4";

/// schedule.
pub const EXISTS: &str = "SELECT COUNT(*) FROM schedules WHERE schedule_no = $1";

/// schedule, tick, cause, state, reason, now, and the end where it has ended.
pub const NEW_RUN: &str = "INSERT INTO schedule_runs \
     (schedule_no, tick_us, cause, state, reason, made_at_us, ended_at_us) \
     VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (schedule_no, tick_us) DO NOTHING \
     RETURNING run_no";

/// run, batch number, batch id.
pub const GIVE_BATCH: &str =
    "UPDATE schedule_runs SET state = 'loading', batch_no = $2, batch_id = $3 WHERE run_no = $1";

/// run, the batch that it had.
pub const TAKE_RUN: &str = "UPDATE schedule_runs SET state = 'loading' WHERE run_no = $1 \
     AND state IN ('waiting', 'loading') AND COALESCE(batch_no, -1) = $2";

/// run, the batch that it had, state, reason, batch number, batch id, total, succeeded, failed, output, now, whether it
/// has ended, whether its end is told.
pub const NOTE: &str = "UPDATE schedule_runs SET state = COALESCE($3, state), \
     reason = COALESCE($4, reason), batch_no = COALESCE($5, batch_no), \
     batch_id = COALESCE($6, batch_id), total = COALESCE($7, total), \
     succeeded = COALESCE($8, succeeded), failed = COALESCE($9, failed), \
     output = COALESCE($10, output), \
     ended_at_us = CASE WHEN $12 = 1 THEN $11 ELSE ended_at_us END, \
     tell_at_us = CASE WHEN $13 = 1 THEN $11 ELSE tell_at_us END \
     WHERE run_no = $1 AND COALESCE(batch_no, -1) = $2 \
     AND state IN ('waiting', 'loading', 'running')";

/// run, when it is tried again, reason.
pub const TOLD: &str = "UPDATE schedule_runs SET tell_tries = tell_tries + 1, tell_at_us = $2, \
     reason = COALESCE($3, reason) WHERE run_no = $1";

/// keep.
pub const PRUNE_RUNS: &str = "DELETE FROM schedule_runs WHERE tell_at_us IS NULL \
     AND state NOT IN ('waiting', 'loading', 'running') AND run_no < \
     (SELECT newer.run_no FROM schedule_runs newer \
      WHERE newer.schedule_no = schedule_runs.schedule_no \
      ORDER BY newer.run_no DESC LIMIT 1 OFFSET $1)";

/// Kept prompts of no schedule that were written before this.
pub const PRUNE_INPUTS: &str = "DELETE FROM schedule_inputs WHERE made_at_us < $1 \
     AND NOT EXISTS (SELECT 1 FROM schedules WHERE schedules.id = schedule_inputs.schedule_id)";

/// How long prompts may wait for their schedule.
pub const INPUT_WAITS_US: i64 = 3_600 * 1_000_000;

/// A run that has no batch, where a number is compared.
pub const NO_BATCH: i64 = -1;
