-- The errors of a batch in the order they came, without its answers.
CREATE INDEX results_failed ON results (batch_no, finish_no) WHERE error_code IS NOT NULL;
