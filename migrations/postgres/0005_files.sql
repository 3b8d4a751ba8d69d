ALTER TABLE batches ADD COLUMN in_progress_at_us BIGINT;
ALTER TABLE batches ADD COLUMN cancelling_at_us BIGINT;
ALTER TABLE batches ADD COLUMN finalizing_at_us BIGINT;
-- When its completion window passes.
ALTER TABLE batches ADD COLUMN expires_at_us BIGINT;
-- What a client of OpenAI's batch API said beside the jobs; null for all other batches.
ALTER TABLE batches ADD COLUMN asked TEXT;
ALTER TABLE batches ADD COLUMN outputs_kept_us BIGINT;
-- Why it was refused as a whole.
ALTER TABLE batches ADD COLUMN refused TEXT;

DROP INDEX batches_open;
CREATE INDEX batches_open ON batches (batch_no)
    WHERE visible = 1 AND status IN ('in_progress', 'cancelling', 'finalizing');

CREATE TABLE files (
    file_no BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    owner TEXT NOT NULL,
    purpose TEXT NOT NULL,
    filename TEXT NOT NULL,
    -- Null: nobody asked yet how long it is, what a batch gave.
    bytes BIGINT,
    created_at_us BIGINT NOT NULL,
    expires_at_us BIGINT,
    -- The batch that gave it, whose results are its content.
    batch_no BIGINT
);

CREATE INDEX files_of_owner ON files (owner, file_no);
CREATE INDEX files_of_batch ON files (batch_no) WHERE batch_no IS NOT NULL;
CREATE INDEX files_expiring ON files (expires_at_us) WHERE expires_at_us IS NOT NULL;

CREATE TABLE file_pieces (
    file_id TEXT NOT NULL,
    piece BIGINT NOT NULL,
    bytes BYTEA NOT NULL,
    made_at_us BIGINT NOT NULL,
    PRIMARY KEY (file_id, piece)
);
