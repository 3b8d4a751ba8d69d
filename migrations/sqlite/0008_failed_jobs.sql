-- The errors of a batch in the order they came, without its answers.
CREATE INDEX jobs_failed ON jobs (batch_no, finish_no) WHERE state > 2;
