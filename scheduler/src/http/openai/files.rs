//! Files: listed, shown, deleted.

use super::super::Server;
use super::super::auth::Caller;
use super::super::error::{ApiError, within};
use super::super::types::{Deleted, FileView, Listing};
use super::content::measured;
use axum::Json;
use axum::extract::{Path, Query, State};
use rbee_queue::FileId;
use rbee_queue::file::{Purpose, StoredFile};
use rbee_queue::store::FilesQuery;
use serde::Deserialize;

/// Files that one listing has at most, and has where nothing is said.
const MAX_LIMIT: usize = 10_000;

/// Which files are listed.
#[derive(Debug, Deserialize)]
pub struct ListQuery {
    limit: Option<usize>,
    after: Option<String>,
    order: Option<Order>,
    purpose: Option<String>,
}

/// By when they were made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Order {
    Asc,
    Desc,
}

impl Server {
    /// The file that a path names.
    pub(super) async fn file(&self, caller: &Caller, id: &str) -> Result<StoredFile, ApiError> {
        let shown: String = id.chars().take(80).collect();
        let absent = || ApiError::not_found(format!("there is no file {shown}"));
        let id: FileId = id.parse().map_err(|_| absent())?;
        let found = self.batches.store().file_get(&id).await?;
        found
            .filter(|file| caller.sees_owner(&file.owner))
            .ok_or_else(absent)
    }

    /// A file with its size, which for what a batch gave is known only once somebody asked.
    async fn file_view(&self, file: &StoredFile) -> Result<FileView, ApiError> {
        let bytes = match file.bytes {
            Some(bytes) => bytes,
            None => measured(self, file).await?,
        };
        Ok(FileView::of(file, bytes))
    }
}

/// `GET /v1/files`.
pub async fn list(
    State(server): State<Server>,
    caller: Caller,
    Query(query): Query<ListQuery>,
) -> Result<Json<Listing<FileView>>, ApiError> {
    let bad = |name: &'static str, message: &str| {
        ApiError::bad("invalid_value", message.to_owned()).about(name)
    };
    let limit = within("limit", query.limit, MAX_LIMIT, 1..=MAX_LIMIT)?;
    let after = match &query.after {
        None => None,
        Some(id) => Some(server.file(&caller, id).await?.id),
    };
    let purpose = match query.purpose.as_deref() {
        None => None,
        Some(word) => Some(
            Purpose::from_word(word)
                .ok_or_else(|| bad("purpose", "purpose is batch or batch_output"))?,
        ),
    };
    let query = FilesQuery {
        owner: caller.sees().map(str::to_owned),
        purpose,
        after,
        oldest_first: query.order == Some(Order::Asc),
        limit: limit + 1,
    };
    let mut files = server.batches.store().file_list(query).await?;
    let has_more = files.len() > limit;
    files.truncate(limit);
    let mut data = Vec::with_capacity(files.len());
    for file in &files {
        data.push(server.file_view(file).await?);
    }
    let id = |file: Option<&FileView>| file.map(|file| file.id.clone());
    Ok(Json(Listing {
        object: "list".to_owned(),
        first_id: id(data.first()),
        last_id: id(data.last()),
        has_more,
        data,
    }))
}

/// `GET /v1/files/{id}`.
pub async fn show(
    State(server): State<Server>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<FileView>, ApiError> {
    let file = server.file(&caller, &id).await?;
    server.file_view(&file).await.map(Json)
}

/// `DELETE /v1/files/{id}`. Batches that were made of it go on: they have its lines.
pub async fn remove(
    State(server): State<Server>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Deleted>, ApiError> {
    let file = server.file(&caller, &id).await?;
    server.batches.store().file_remove(&file.id).await?;
    Ok(Json(Deleted {
        id: file.id.to_string(),
        object: "file".to_owned(),
        deleted: true,
    }))
}
