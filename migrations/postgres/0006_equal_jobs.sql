-- The job of the same batch whose answer this one gets too. Such a job waits, but not for a place.
ALTER TABLE jobs ADD COLUMN same_as BIGINT;

DROP INDEX jobs_queued;
CREATE INDEX jobs_queued ON jobs (batch_no, model_no, idx) WHERE state = 0 AND same_as IS NULL;
CREATE INDEX jobs_same ON jobs (batch_no, same_as, idx) WHERE state = 0 AND same_as IS NOT NULL;
