CREATE TABLE schedules (
    schedule_no BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL UNIQUE,
    plan TEXT NOT NULL,
    paused SMALLINT NOT NULL DEFAULT 0,
    -- The first tick that was not fired; null: there is none any more.
    next_tick_us BIGINT,
    created_at_us BIGINT NOT NULL
) WITH (fillfactor = 50);

CREATE INDEX schedules_due ON schedules (next_tick_us) WHERE paused = 0 AND next_tick_us IS NOT NULL;

-- A tick has one row at most, and with it one batch at most.
CREATE TABLE schedule_runs (
    run_no BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    schedule_no BIGINT NOT NULL,
    tick_us BIGINT NOT NULL,
    cause TEXT NOT NULL,
    state TEXT NOT NULL,
    reason TEXT,
    batch_no BIGINT,
    batch_id TEXT,
    total BIGINT,
    succeeded BIGINT,
    failed BIGINT,
    output TEXT,
    made_at_us BIGINT NOT NULL,
    ended_at_us BIGINT,
    tell_tries BIGINT NOT NULL DEFAULT 0,
    -- Null: nothing (more) is to be told.
    tell_at_us BIGINT,
    UNIQUE (schedule_no, tick_us)
) WITH (fillfactor = 50);

CREATE INDEX schedule_runs_of ON schedule_runs (schedule_no, run_no);
CREATE INDEX schedule_runs_open ON schedule_runs (run_no)
    WHERE state IN ('waiting', 'loading', 'running');
CREATE INDEX schedule_runs_untold ON schedule_runs (tell_at_us) WHERE tell_at_us IS NOT NULL;

-- Prompts that were sent when the schedule was made.
CREATE TABLE schedule_inputs (
    schedule_id TEXT NOT NULL,
    piece BIGINT NOT NULL,
    bytes BYTEA NOT NULL,
    made_at_us BIGINT NOT NULL,
    PRIMARY KEY (schedule_id, piece)
);
