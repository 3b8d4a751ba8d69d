CREATE TABLE tokens (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    role TEXT NOT NULL,
    owner TEXT NOT NULL,
    -- The sha256 of the token: the token itself is nowhere.
    digest BLOB NOT NULL UNIQUE,
    max_queued BIGINT,
    requests_per_s BIGINT,
    created_at_us BIGINT NOT NULL,
    expires_at_us BIGINT
);
