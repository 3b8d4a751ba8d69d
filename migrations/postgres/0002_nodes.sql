CREATE TABLE nodes (
    instance TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    report TEXT NOT NULL,
    joined_at_us BIGINT NOT NULL,
    renewed_at_us BIGINT NOT NULL,
    lease_until_us BIGINT NOT NULL,
    lost SMALLINT NOT NULL DEFAULT 0
) WITH (fillfactor = 50);

CREATE TABLE drains (name TEXT PRIMARY KEY);

-- One row: who leads.
CREATE TABLE leader (
    only_one SMALLINT PRIMARY KEY CHECK (only_one = 1),
    holder TEXT NOT NULL,
    term BIGINT NOT NULL,
    until_us BIGINT NOT NULL
) WITH (fillfactor = 50);
