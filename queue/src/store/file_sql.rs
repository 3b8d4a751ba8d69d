//! The SQL of files that both kinds of database understand; the store's clock is a parameter.

use super::files::FilesQuery;

/// The columns of a file.
pub const FILE_COLUMNS: &str =
    "file_no, id, owner, purpose, filename, bytes, created_at_us, expires_at_us, batch_no";

/// id, piece, bytes, now.
pub const KEEP: &str = "INSERT INTO file_pieces (file_id, piece, bytes, made_at_us) \
     VALUES ($1, $2, $3, $4) ON CONFLICT (file_id, piece) DO UPDATE SET bytes = excluded.bytes";

/// id, piece.
pub const KEPT: &str = "SELECT bytes FROM file_pieces WHERE file_id = $1 AND piece = $2";

/// owner.
pub const COUNT: &str = "SELECT COUNT(*) FROM files WHERE owner = $1 AND batch_no IS NULL";

/// id, owner, purpose, filename, bytes, now, end. Said again after an answer that was lost, it changes nothing.
pub const ADD: &str = "INSERT INTO files \
     (id, owner, purpose, filename, bytes, created_at_us, expires_at_us) \
     VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (id) DO UPDATE SET bytes = excluded.bytes \
     RETURNING file_no, id, owner, purpose, filename, bytes, created_at_us, expires_at_us, batch_no";

/// id, now.
pub const GET: &str = "SELECT file_no, id, owner, purpose, filename, bytes, created_at_us, \
     expires_at_us, batch_no FROM files \
     WHERE id = $1 AND (expires_at_us IS NULL OR expires_at_us > $2)";

/// owner, purpose, the file before, now, limit.
pub fn list(query: &FilesQuery) -> String {
    let (follows, order) = match query.oldest_first {
        true => (">", "ASC"),
        false => ("<", "DESC"),
    };
    format!(
        "SELECT {FILE_COLUMNS} FROM files \
         WHERE (CAST($1 AS TEXT) IS NULL OR owner = $1) \
         AND (CAST($2 AS TEXT) IS NULL OR purpose = $2) \
         AND (CAST($3 AS TEXT) IS NULL OR \
           file_no {follows} (SELECT file_no FROM files WHERE id = $3)) \
         AND (expires_at_us IS NULL OR expires_at_us > $4) \
         ORDER BY file_no {order} LIMIT $5"
    )
}

/// id, when it was made as it was seen, bytes.
pub const SIZED: &str = "UPDATE files SET bytes = $3 WHERE id = $1 AND created_at_us = $2";

/// id.
pub const REMOVE_PIECES: &str = "DELETE FROM file_pieces WHERE file_id = $1";

/// id.
pub const REMOVE: &str = "DELETE FROM files WHERE id = $1";

/// now.
pub const PRUNE_PIECES: &str = "DELETE FROM file_pieces WHERE file_id IN \
     (SELECT id FROM files WHERE expires_at_us <= $1)";

/// now.
pub const PRUNE: &str = "DELETE FROM files WHERE expires_at_us <= $1";

/// Pieces of no file whose last one was written before this.
pub const PRUNE_ORPHANS: &str = "DELETE FROM file_pieces WHERE file_id IN \
     (SELECT file_id FROM file_pieces WHERE NOT EXISTS \
       (SELECT 1 FROM files WHERE files.id = file_pieces.file_id) \
      GROUP BY file_id HAVING MAX(made_at_us) < $1)";

/// The files with what a batch gave, once it has ended; their ids are those of `FileId::of_output`. Takes the batch.
pub const OUTPUTS: &str = "INSERT INTO files \
     (id, owner, purpose, filename, created_at_us, expires_at_us, batch_no) \
     SELECT 'file_' || substr(b.id, 7, 12) || half.version || substr(b.id, 20), b.owner, \
       'batch_output', b.id || half.ending, b.finished_at_us, \
       b.finished_at_us + b.outputs_kept_us, b.batch_no \
     FROM batches b CROSS JOIN (SELECT 'a' AS version, '_output.jsonl' AS ending \
       UNION ALL SELECT 'e' AS version, '_error.jsonl' AS ending) half \
     WHERE b.batch_no = $1 AND b.asked IS NOT NULL AND b.finished_at_us IS NOT NULL \
     AND CASE half.version WHEN 'a' THEN b.succeeded ELSE b.failed END > 0 \
     ON CONFLICT (id) DO NOTHING";

/// A batch runs again, or is deleted: what it gave is not there any more. Takes the batch.
pub const NO_OUTPUTS: &str = "DELETE FROM files WHERE batch_no = $1";

/// Jobs without a result, of all batches that run.
pub const UNFINISHED: &str = "SELECT CAST(COALESCE(SUM(total - succeeded - failed), 0) AS BIGINT) \
     FROM batches WHERE visible = 1 AND status IN ('in_progress', 'cancelling', 'finalizing')";
