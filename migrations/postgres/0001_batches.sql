-- Texts that users write and that may hold a NUL (lines, ids, names of models in lines) are BYTEA,
-- since TEXT refuses it. Everything that changes with a job's state is apart from what never does.

CREATE FUNCTION rbee_now_us() RETURNS BIGINT LANGUAGE sql VOLATILE AS
    'SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::BIGINT';

CREATE TABLE batches (
    batch_no BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    owner TEXT NOT NULL,
    name TEXT,
    priority TEXT NOT NULL,
    pinned_node TEXT,
    on_done TEXT,
    -- The key that the batch wants while it is hidden, and the one that it holds once shown.
    wanted_key TEXT,
    idempotency_key TEXT,
    visible SMALLINT NOT NULL DEFAULT 0,
    status TEXT NOT NULL,
    paused_reason TEXT,
    spec TEXT NOT NULL,
    any_numerics SMALLINT NOT NULL,
    shape TEXT,
    total BIGINT NOT NULL DEFAULT 0,
    succeeded BIGINT NOT NULL DEFAULT 0,
    failed BIGINT NOT NULL DEFAULT 0,
    last_finish_no BIGINT NOT NULL DEFAULT 0,
    input_tokens BIGINT NOT NULL DEFAULT 0,
    output_tokens BIGINT NOT NULL DEFAULT 0,
    created_at_us BIGINT NOT NULL,
    -- When it was last loaded into, while it is hidden.
    touched_at_us BIGINT NOT NULL,
    finished_at_us BIGINT,
    tell_tries BIGINT NOT NULL DEFAULT 0,
    -- Null: nothing (more) is to be told.
    tell_at_us BIGINT
) WITH (fillfactor = 50);

CREATE UNIQUE INDEX batches_key ON batches (owner, idempotency_key)
    WHERE idempotency_key IS NOT NULL;
CREATE INDEX batches_open ON batches (batch_no)
    WHERE visible = 1 AND status IN ('in_progress', 'cancelling');
CREATE INDEX batches_hidden ON batches (batch_no) WHERE visible = 0;
CREATE INDEX batches_untold ON batches (tell_at_us) WHERE tell_at_us IS NOT NULL;

CREATE TABLE batch_models (
    batch_no BIGINT NOT NULL,
    model_no BIGINT NOT NULL,
    requested BYTEA NOT NULL,
    sha256 BYTEA,
    revision TEXT,
    numerics TEXT,
    PRIMARY KEY (batch_no, model_no)
);

-- model_no is null for a line that is no request. Rows are short, since each is written three
-- times: queued, placed, finished.
CREATE TABLE jobs (
    batch_no BIGINT NOT NULL,
    idx BIGINT NOT NULL,
    attempt BIGINT NOT NULL DEFAULT 0,
    finish_no BIGINT,
    model_no INTEGER,
    crashes INTEGER NOT NULL DEFAULT 0,
    losses INTEGER NOT NULL DEFAULT 0,
    state SMALLINT NOT NULL,
    blamed SMALLINT NOT NULL DEFAULT 0,
    node TEXT,
    PRIMARY KEY (batch_no, idx)
) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 20000);

CREATE INDEX jobs_queued ON jobs (batch_no, model_no, idx) WHERE state = 0;
CREATE INDEX jobs_placed ON jobs (batch_no, idx) WHERE state = 1;
CREATE INDEX jobs_of_node ON jobs (node) WHERE state = 1;

CREATE TABLE payloads (
    batch_no BIGINT NOT NULL,
    idx BIGINT NOT NULL,
    line_no BIGINT NOT NULL,
    occurrence BIGINT NOT NULL DEFAULT 0,
    content BYTEA NOT NULL,
    custom_id BYTEA,
    line BYTEA NOT NULL,
    PRIMARY KEY (batch_no, idx)
);

-- In the order they came; jobs.finish_no names a job's result.
CREATE TABLE results (
    batch_no BIGINT NOT NULL,
    finish_no BIGINT NOT NULL,
    idx BIGINT NOT NULL,
    attempt BIGINT NOT NULL,
    finished_at_us BIGINT NOT NULL,
    error_code TEXT,
    record TEXT NOT NULL,
    stats TEXT,
    PRIMARY KEY (batch_no, finish_no)
);
