//! `POST /v1/files`: a form whose file goes into the store piece by piece, as it comes.
//!
//! The form's other fields may come before or behind the file. What is refused or cut off leaves nothing.

use super::super::auth::Caller;
use super::super::error::ApiError;
use super::super::submit::{broken, silent};
use super::super::types::FileView;
use super::super::{Server, UPLOAD_SILENCE};
use axum::Json;
use axum::extract::State;
use axum::extract::multipart::{Field, Multipart};
use rbee_queue::FileId;
use rbee_queue::file::Purpose;
use rbee_queue::store::{FileAdded, MAX_FILES, NewFile};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;

/// Bytes of a file.
const MAX_FILE_BYTES: u64 = 4 << 30;
/// Bytes of one piece of it in the store.
const PIECE_BYTES: usize = 1 << 20;
/// Bytes of a field that is no file.
const MAX_FIELD_BYTES: usize = 1_024;
/// Fields of a form.
const MAX_FIELDS: usize = 16;
/// Characters of a file's name.
const MAX_FILENAME: usize = 255;
/// How long a file is kept, where its client says nothing.
const USUAL_KEEP: Duration = Duration::from_secs(30 * 86_400);
/// What a client may say, in seconds.
const KEEP_S: std::ops::RangeInclusive<u64> = 3_600..=2_592_000;
/// How long an upload waits for others to end.
const TURN_PATIENCE: Duration = Duration::from_secs(20);

/// Keeps a file.
pub async fn upload(
    State(server): State<Server>,
    caller: Caller,
    mut form: Multipart,
) -> Result<Json<FileView>, ApiError> {
    let mut arriving = Arriving {
        server: server.clone(),
        owner: caller.owner().to_owned(),
        id: FileId::generate(),
        added: false,
    };
    let _turn = turn(&server).await?;
    let new = arriving.receive(&mut form).await?;
    match server.batches.store().file_add(new).await? {
        FileAdded::Added(file) => {
            arriving.added = true;
            Ok(Json(FileView::of(&file, file.bytes.unwrap_or(0))))
        }
        FileAdded::TooMany => {
            let message = format!("there are {MAX_FILES} files already: delete some");
            Err(ApiError::conflict("too_many_files", message))
        }
    }
}

/// Clients send several files at once: they wait for each other a while.
async fn turn(server: &Server) -> Result<OwnedSemaphorePermit, ApiError> {
    let turn = Arc::clone(&server.uploads).acquire_owned();
    match tokio::time::timeout(TURN_PATIENCE, turn).await {
        Ok(Ok(turn)) => Ok(turn),
        _ => Err(ApiError::too_many(
            "the server has too many uploads at once: try again in a moment",
        )),
    }
}

/// A file on its way. What came of it goes when this goes, unless it was added.
struct Arriving {
    server: Server,
    owner: String,
    id: FileId,
    added: bool,
}

impl Drop for Arriving {
    fn drop(&mut self) {
        if self.added {
            return;
        }
        let (server, id) = (self.server.clone(), self.id.clone());
        tokio::spawn(async move {
            if let Err(error) = server.batches.store().file_remove(&id).await {
                tracing::debug!(%error, "an upload that was cut off is deleted later");
            }
        });
    }
}

/// What the form said.
#[derive(Default)]
struct Said {
    purpose: Option<String>,
    file: Option<(String, u64)>,
    anchor: Option<String>,
    keep_s: Option<String>,
}

impl Arriving {
    async fn receive(&self, form: &mut Multipart) -> Result<NewFile, ApiError> {
        let mut said = Said::default();
        for _ in 0..MAX_FIELDS {
            let field = tokio::time::timeout(UPLOAD_SILENCE, form.next_field())
                .await
                .map_err(|_| silent())?
                .map_err(broken)?;
            let Some(field) = field else {
                return self.judge(said);
            };
            match field.name() {
                Some("file") if said.file.is_none() => {
                    let name = field.file_name().unwrap_or("upload.jsonl");
                    let name = plain_name(name);
                    let bytes = self.keep(field).await?;
                    said.file = Some((name, bytes));
                }
                Some("purpose") => {
                    let purpose = read_field(field).await?;
                    check_purpose(&purpose)?;
                    said.purpose = Some(purpose);
                }
                Some("expires_after[anchor]") => said.anchor = Some(read_field(field).await?),
                Some("expires_after[seconds]") => said.keep_s = Some(read_field(field).await?),
                other => {
                    let shown: String = other.unwrap_or_default().chars().take(80).collect();
                    let message = format!(
                        "the form has a field {shown:?}: it takes file, purpose and expires_after"
                    );
                    return Err(ApiError::bad("unknown_parameter", message));
                }
            }
        }
        Err(ApiError::bad(
            "invalid_request",
            "the form has too many fields",
        ))
    }

    /// Keeps the pieces of a file; how many bytes it has.
    async fn keep(&self, mut field: Field<'_>) -> Result<u64, ApiError> {
        let store = self.server.batches.store();
        let (mut bytes, mut piece) = (0u64, 0);
        let mut buffer: Vec<u8> = Vec::new();
        loop {
            let chunk = tokio::time::timeout(UPLOAD_SILENCE, field.chunk())
                .await
                .map_err(|_| silent())?
                .map_err(broken)?;
            let Some(chunk) = chunk else { break };
            bytes += chunk.len() as u64;
            if bytes > MAX_FILE_BYTES {
                return Err(ApiError::too_large(format!(
                    "the file has more than {MAX_FILE_BYTES} bytes: split it"
                ))
                .about("file"));
            }
            let mut rest = &chunk[..];
            while buffer.len() + rest.len() >= PIECE_BYTES {
                let (now, later) = rest.split_at(PIECE_BYTES - buffer.len());
                buffer.extend_from_slice(now);
                let full = std::mem::take(&mut buffer);
                store.file_keep(&self.id, piece, full).await?;
                piece += 1;
                rest = later;
            }
            buffer.extend_from_slice(rest);
        }
        if !buffer.is_empty() {
            store.file_keep(&self.id, piece, buffer).await?;
        }
        Ok(bytes)
    }

    fn judge(&self, said: Said) -> Result<NewFile, ApiError> {
        let missing = |name: &'static str| {
            let message = format!("the form has no field {name}");
            ApiError::bad("missing_required_parameter", message).about(name)
        };
        let (filename, bytes) = said.file.ok_or_else(|| missing("file"))?;
        said.purpose.ok_or_else(|| missing("purpose"))?;
        let keep = match (said.anchor.as_deref(), said.keep_s) {
            (None, None) => USUAL_KEEP,
            (Some("created_at"), Some(seconds)) => {
                let seconds = seconds.parse().ok().filter(|s| KEEP_S.contains(s));
                let seconds = seconds.ok_or_else(|| {
                    let message = format!(
                        "expires_after[seconds] is a number from {} to {}",
                        KEEP_S.start(),
                        KEEP_S.end()
                    );
                    ApiError::bad("invalid_value", message).about("expires_after[seconds]")
                })?;
                Duration::from_secs(seconds)
            }
            _ => {
                let message = "expires_after wants an anchor, which is created_at, and seconds";
                return Err(ApiError::bad("invalid_value", message).about("expires_after"));
            }
        };
        Ok(NewFile {
            id: self.id.clone(),
            owner: self.owner.clone(),
            purpose: Purpose::Batch,
            filename,
            bytes,
            keep: Some(keep),
        })
    }
}

fn check_purpose(purpose: &str) -> Result<(), ApiError> {
    match Purpose::from_word(purpose) {
        Some(Purpose::Batch) => Ok(()),
        _ => {
            let shown: String = purpose.chars().take(80).collect();
            let message = format!("the purpose {shown:?} is not one of rbee's: it takes batch");
            Err(ApiError::bad("invalid_value", message).about("purpose"))
        }
    }
}

async fn read_field(mut field: Field<'_>) -> Result<String, ApiError> {
    let mut text = Vec::new();
    loop {
        let chunk = tokio::time::timeout(UPLOAD_SILENCE, field.chunk())
            .await
            .map_err(|_| silent())?
            .map_err(broken)?;
        let Some(chunk) = chunk else { break };
        if text.len() + chunk.len() > MAX_FIELD_BYTES {
            return Err(ApiError::too_large(format!(
                "a field of the form has more than {MAX_FIELD_BYTES} bytes"
            )));
        }
        text.extend_from_slice(&chunk);
    }
    String::from_utf8(text)
        .map_err(|_| ApiError::bad("invalid_value", "a field of the form is not UTF-8"))
}

/// The last part of a path, without what terminals and databases trip over.
fn plain_name(name: &str) -> String {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let plain = last.chars().filter(|sign| !sign.is_control());
    let plain: String = plain.take(MAX_FILENAME).collect();
    match plain.as_str() {
        "" | "." | ".." => "upload.jsonl".to_owned(),
        _ => plain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_are_no_paths() {
        for (given, plain) in [
            ("prompts.jsonl", "prompts.jsonl"),
            ("../../etc/passwd", "passwd"),
            ("C:\\x\\y.jsonl", "y.jsonl"),
            ("a\u{0}\r\nb", "ab"),
            ("..", "upload.jsonl"),
            ("", "upload.jsonl"),
        ] {
            assert_eq!(plain_name(given), plain);
        }
    }
}
