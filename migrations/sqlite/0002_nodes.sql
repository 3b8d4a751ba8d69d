ALTER TABLE batches ADD COLUMN priority TEXT NOT NULL DEFAULT 'batch';
-- When it was last loaded into, while it is hidden.
ALTER TABLE batches ADD COLUMN touched_at_us BIGINT NOT NULL DEFAULT 0;
ALTER TABLE batches ADD COLUMN pinned_node TEXT;
ALTER TABLE batches ADD COLUMN on_done TEXT;
ALTER TABLE batches ADD COLUMN tell_tries BIGINT NOT NULL DEFAULT 0;
-- Null: nothing (more) is to be told.
ALTER TABLE batches ADD COLUMN tell_at_us BIGINT;

CREATE INDEX batches_open ON batches (batch_no)
    WHERE visible = 1 AND status IN ('in_progress', 'cancelling');
CREATE INDEX batches_untold ON batches (tell_at_us) WHERE tell_at_us IS NOT NULL;
CREATE INDEX jobs_of_node ON jobs (node) WHERE state = 1;

CREATE TABLE nodes (
    instance TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    report TEXT NOT NULL,
    joined_at_us BIGINT NOT NULL,
    renewed_at_us BIGINT NOT NULL,
    lease_until_us BIGINT NOT NULL,
    lost BIGINT NOT NULL DEFAULT 0
) WITHOUT ROWID;

CREATE TABLE drains (name TEXT PRIMARY KEY) WITHOUT ROWID;

-- One row: who leads.
CREATE TABLE leader (
    only BIGINT PRIMARY KEY CHECK (only = 1),
    holder TEXT NOT NULL,
    term BIGINT NOT NULL,
    until_us BIGINT NOT NULL
) WITHOUT ROWID;
