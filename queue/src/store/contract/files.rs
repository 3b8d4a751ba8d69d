//! Files: uploads in pieces, what batches gave, and batches that are refused.

use super::*;
use crate::file::{Asked, OutputPart, Purpose, StoredFile};
use crate::ids::FileId;
use crate::request::Endpoint;
use crate::state::BatchStatus;
use std::time::Duration;

fn new_file(keep: Option<Duration>) -> NewFile {
    NewFile {
        id: FileId::generate(),
        owner: OWNER.into(),
        purpose: Purpose::Batch,
        filename: "prompts.jsonl".into(),
        bytes: 5,
        keep,
    }
}

async fn added(store: &dyn Store, new: NewFile) -> StoredFile {
    match store.file_add(new).await.unwrap() {
        FileAdded::Added(file) => *file,
        FileAdded::TooMany => panic!("there are too many files"),
    }
}

pub fn asked(window_s: u64) -> Asked {
    Asked {
        input_file_id: FileId::generate(),
        endpoint: Endpoint::ChatCompletions,
        completion_window: format!("{window_s}s"),
        window_s,
        metadata: Some(serde_json::Map::from_iter([(
            "who".to_owned(),
            serde_json::Value::from("ann\u{0}"),
        )])),
        outputs_kept_s: Some(3_600),
        max_queued: None,
    }
}

fn everything() -> FilesQuery {
    FilesQuery {
        owner: Some(OWNER.into()),
        purpose: None,
        after: None,
        oldest_first: false,
        limit: 10,
    }
}

pub async fn uploaded_file_is_there_once_it_is_added(store: &dyn Store) {
    let new = new_file(None);
    let id = new.id.clone();
    store.file_keep(&id, 0, b"abc".to_vec()).await.unwrap();
    store.file_keep(&id, 1, b"\0\xff".to_vec()).await.unwrap();
    assert_eq!(store.file_get(&id).await.unwrap(), None);
    let file = added(store, new.clone()).await;
    // The answer was lost, and the call is made again.
    assert_eq!(added(store, new).await, file);
    assert_eq!(store.file_get(&id).await.unwrap(), Some(file.clone()));
    assert_eq!((file.bytes, file.expires_at_us), (Some(5), None));
    assert_eq!(
        store.file_kept(&id, 1).await.unwrap().unwrap(),
        b"\0\xff".to_vec()
    );
    assert_eq!(store.file_kept(&id, 2).await.unwrap(), None);
    assert!(store.file_remove(&id).await.unwrap());
    assert!(!store.file_remove(&id).await.unwrap());
    assert_eq!(store.file_kept(&id, 0).await.unwrap(), None);
}

pub async fn files_are_listed_in_pages_either_way(store: &dyn Store) {
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(added(store, new_file(None)).await.id);
    }
    let other = NewFile {
        owner: "bob".into(),
        ..new_file(None)
    };
    added(store, other).await;
    let listed = async |query: FilesQuery| -> Vec<FileId> {
        let files = store.file_list(query).await.unwrap();
        files.into_iter().map(|file| file.id).collect()
    };
    let newest: Vec<FileId> = ids.iter().rev().cloned().collect();
    assert_eq!(listed(everything()).await, newest);
    let page = FilesQuery {
        after: Some(newest[1].clone()),
        limit: 2,
        ..everything()
    };
    assert_eq!(listed(page.clone()).await, newest[2..4]);
    let upwards = FilesQuery {
        after: Some(ids[1].clone()),
        oldest_first: true,
        ..page
    };
    assert_eq!(listed(upwards).await, ids[2..4]);
    let outputs = FilesQuery {
        purpose: Some(Purpose::BatchOutput),
        ..everything()
    };
    assert_eq!(listed(outputs).await, []);
    let all = FilesQuery {
        owner: None,
        ..everything()
    };
    assert_eq!(listed(all).await.len(), 6);
}

pub async fn file_whose_time_is_over_is_not_there(store: &dyn Store) {
    let new = new_file(Some(Duration::ZERO));
    let id = new.id.clone();
    store.file_keep(&id, 0, b"abcde".to_vec()).await.unwrap();
    added(store, new).await;
    let kept = added(store, new_file(Some(Duration::from_secs(3_600)))).await;
    assert_eq!(store.file_get(&id).await.unwrap(), None);
    assert_eq!(
        store.file_list(everything()).await.unwrap(),
        std::slice::from_ref(&kept)
    );
    assert_eq!(store.file_prune().await.unwrap(), 1);
    assert_eq!(store.file_kept(&id, 0).await.unwrap(), None);
    assert_eq!(store.file_get(&kept.id).await.unwrap(), Some(kept));
}

pub async fn ended_batch_gives_its_files_and_a_retry_takes_them_back(store: &dyn Store) {
    let new = NewBatch {
        asked: Some(asked(86_400)),
        ..new_batch(None)
    };
    let batch = match sealed(store, new.clone(), vec![job(0), job(1)]).await {
        Sealed::Shown(batch) => *batch,
        other => panic!("the batch is not shown: {other:?}"),
    };
    assert_eq!(batch.asked, new.asked);
    let times = batch.times;
    assert_eq!(
        times.expires_us,
        Some(batch.created_at_us + 86_400 * 1_000_000)
    );
    assert!(times.in_progress_us.unwrap() >= batch.created_at_us);
    let answers = FileId::of_output(&batch.id, OutputPart::Answers);
    let errors = FileId::of_output(&batch.id, OutputPart::Errors);
    let attempt = placed(store, at(&batch, 0)).await;
    finish(store, at(&batch, 0), attempt, answer("a")).await;
    assert_eq!(store.file_get(&answers).await.unwrap(), None);
    store.batch_cancel(batch.no).await.unwrap();
    let ended = fresh(store, &batch).await;
    assert_eq!(ended.status, BatchStatus::Cancelled);
    assert!(ended.times.cancelling_us.unwrap() <= ended.finished_at_us.unwrap());
    let file = store.file_get(&answers).await.unwrap().unwrap();
    assert_eq!((file.bytes, file.batch), (None, Some(batch.no)));
    assert_eq!(file.owner, OWNER);
    assert_eq!(
        file.expires_at_us,
        Some(ended.finished_at_us.unwrap() + 3_600 * 1_000_000)
    );
    assert!(store.file_get(&errors).await.unwrap().is_some());
    store
        .file_sized(&answers, file.created_at_us, 77)
        .await
        .unwrap();
    let sized = store.file_get(&answers).await.unwrap().unwrap();
    assert_eq!(sized.bytes, Some(77));
    store.retry_failed(batch.no, false).await.unwrap();
    assert_eq!(store.file_get(&answers).await.unwrap(), None);
    let again = fresh(store, &batch).await;
    assert_eq!(again.times.cancelling_us, None);
    let attempt = placed(store, at(&batch, 1)).await;
    finish(store, at(&batch, 1), attempt, answer("b")).await;
    let done = fresh(store, &batch).await;
    assert_eq!(done.status, BatchStatus::Completed);
    assert!(done.times.finalizing_us.is_some());
    let file = store.file_get(&answers).await.unwrap().unwrap();
    assert_eq!(file.bytes, None);
    assert_eq!(store.file_get(&errors).await.unwrap(), None);
    store.batch_delete(batch.no).await.unwrap();
    assert_eq!(store.file_get(&answers).await.unwrap(), None);
}
