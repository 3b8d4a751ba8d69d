-- Batches whose file is yet to be read.
CREATE INDEX batches_announced ON batches (batch_no) WHERE visible = 1 AND status = 'validating';
-- Listings go by the time a batch was made: one whose file was read later keeps its place.
CREATE INDEX batches_newest ON batches (created_at_us, id);
