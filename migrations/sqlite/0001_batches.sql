CREATE TABLE batches (
    batch_no INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    owner TEXT NOT NULL,
    name TEXT,
    -- The key that the batch wants while it is hidden, and the one that it holds once shown.
    wanted_key TEXT,
    idempotency_key TEXT,
    visible INTEGER NOT NULL DEFAULT 0,
    status TEXT NOT NULL,
    paused_reason TEXT,
    spec TEXT NOT NULL,
    any_numerics INTEGER NOT NULL,
    shape TEXT,
    total BIGINT NOT NULL DEFAULT 0,
    succeeded BIGINT NOT NULL DEFAULT 0,
    failed BIGINT NOT NULL DEFAULT 0,
    last_finish_no BIGINT NOT NULL DEFAULT 0,
    input_tokens BIGINT NOT NULL DEFAULT 0,
    output_tokens BIGINT NOT NULL DEFAULT 0,
    created_at_us BIGINT NOT NULL,
    finished_at_us BIGINT
);

CREATE UNIQUE INDEX batches_key ON batches (owner, idempotency_key)
    WHERE idempotency_key IS NOT NULL;

CREATE TABLE batch_models (
    batch_no BIGINT NOT NULL,
    model_no BIGINT NOT NULL,
    requested TEXT NOT NULL,
    sha256 BLOB,
    revision TEXT,
    numerics TEXT,
    PRIMARY KEY (batch_no, model_no)
) WITHOUT ROWID;

-- model_no is null for a line that is no request.
CREATE TABLE jobs (
    batch_no BIGINT NOT NULL,
    idx BIGINT NOT NULL,
    line_no BIGINT NOT NULL,
    model_no BIGINT,
    state BIGINT NOT NULL,
    attempt BIGINT NOT NULL DEFAULT 0,
    node TEXT,
    custom_id TEXT,
    content BLOB NOT NULL,
    occurrence BIGINT NOT NULL DEFAULT 0,
    blamed BIGINT NOT NULL DEFAULT 0,
    crashes BIGINT NOT NULL DEFAULT 0,
    losses BIGINT NOT NULL DEFAULT 0,
    finish_no BIGINT,
    PRIMARY KEY (batch_no, idx)
) WITHOUT ROWID;

CREATE INDEX jobs_queued ON jobs (batch_no, model_no, idx) WHERE state = 0;
CREATE INDEX jobs_placed ON jobs (batch_no, idx) WHERE state = 1;
CREATE INDEX jobs_finished ON jobs (batch_no, finish_no) WHERE finish_no IS NOT NULL;

CREATE TABLE payloads (
    batch_no BIGINT NOT NULL,
    idx BIGINT NOT NULL,
    line TEXT NOT NULL,
    PRIMARY KEY (batch_no, idx)
) WITHOUT ROWID;

CREATE TABLE results (
    batch_no BIGINT NOT NULL,
    idx BIGINT NOT NULL,
    attempt BIGINT NOT NULL,
    record TEXT NOT NULL,
    error_code TEXT,
    stats TEXT,
    finished_at_us BIGINT NOT NULL,
    PRIMARY KEY (batch_no, idx)
) WITHOUT ROWID;
