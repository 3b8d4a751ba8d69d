//! What every store must do, as tests over `dyn Store`.
//!
//! An implementation passes the suite with `store_contract!(open)`, where `open` is an async
//! function that gives a fresh store and a guard which keeps it alive. New behaviour of stores is
//! written down here first.

pub mod adopting;
pub mod announced;
pub mod equal;
pub mod files;
pub mod finishing;
pub mod loading;
pub mod nodes;
pub mod placing;
pub mod reading;
pub mod schedules;
pub mod tokens;

use super::*;
use crate::batch::{Batch, BatchModel, BatchSpec, Priority};
use crate::ids::{Attempt, ContentHash, JobIndex, JobRef, ModelNo, ModelSha, NodeInstance};
use crate::jsonl::{LineOptions, Shape};
use crate::record::{Choice, Completed, FinishReason, JobError, JobStats, ResultRecord, Usage};

/// Every test of the suite, run on the stores that `$open` gives.
macro_rules! store_contract {
    ($open:path) => {
        $crate::store::contract::store_contract!($open;
            loading: filled_batch_is_seen_only_once_sealed,
            loading: sealed_batch_counts_its_bad_lines_as_failed,
            loading: batch_of_bad_lines_only_is_completed,
            loading: empty_batch_is_refused_and_gone,
            loading: duplicate_ids_are_listed_with_their_lines,
            loading: defaulted_ids_take_part_in_the_duplicate_check,
            loading: equal_jobs_are_numbered_in_input_order,
            loading: second_batch_with_a_key_is_answered_by_the_first,
            loading: key_is_free_after_cancel_purge_and_request,
            loading: keys_of_two_owners_do_not_meet,
            loading: hidden_batches_are_listed_for_the_sweeper,
            loading: deleted_batch_leaves_nothing,
            loading: batches_are_listed_from_the_newest_in_pages,
            loading: oversized_call_is_refused,
            placing: each_placement_has_a_greater_attempt,
            placing: job_is_placed_once,
            placing: first_placement_pins_the_numerics,
            placing: batch_for_any_numerics_pins_nothing,
            placing: paused_batch_places_nothing,
            placing: queued_jobs_come_in_input_order_by_model,
            placing: released_job_is_queued_again_under_its_old_attempt_no_more,
            placing: release_of_a_batch_spares_the_kept_nodes,
            placing: third_crash_alone_fails_the_job,
            placing: crash_among_mates_makes_the_job_run_alone_and_fails_it_never,
            finishing: finish_stores_one_result_with_a_number,
            finishing: late_result_of_an_old_attempt_changes_nothing,
            finishing: second_result_of_one_attempt_changes_nothing,
            finishing: one_call_with_the_same_job_twice_stores_it_once,
            finishing: last_result_completes_the_batch,
            finishing: counters_equal_rows_after_every_kind_of_end,
            finishing: cancel_ends_queued_jobs_and_waits_for_placed_ones,
            finishing: result_in_a_cancelling_batch_is_kept,
            finishing: retry_runs_circumstances_again_and_keeps_verdicts,
            finishing: retry_of_all_failures_spares_bad_lines,
            finishing: retry_of_a_cancelling_batch_is_refused,
            finishing: state_changes_leave_lines_as_they_are,
            equal: equal_job_waits_for_no_place_and_gets_the_same_answer,
            equal: verdicts_are_shared_and_circumstances_are_not,
            equal: equal_jobs_are_cancelled_and_run_again_by_themselves,
            adopting: answers_are_taken_over_by_queued_jobs_only,
            adopting: taken_over_answers_pin_their_numerics,
            equal: equal_job_of_a_crashing_one_runs_itself,
            reading: pages_give_every_job_once_in_input_order,
            reading: page_is_bounded_in_bytes,
            reading: results_are_followed_in_the_order_they_came,
            reading: errors_are_followed_without_the_answers_between_them,
            reading: text_with_nul_quotes_and_emoji_reads_back,
            reading: ids_and_models_with_nul_read_back,
            reading: jobs_are_found_by_name,
            nodes: node_is_listed_with_its_last_report,
            nodes: lease_that_ended_is_judged_once_and_for_good,
            nodes: node_that_joins_again_renews_and_is_not_revived,
            nodes: lost_node_in_a_cancelling_batch_ends_its_jobs,
            nodes: judge_keeps_lost_nodes_that_hold_jobs,
            nodes: drain_is_a_wish_about_a_name,
            nodes: lead_is_held_by_one_and_passes_on,
            nodes: lead_that_ended_passes_on,
            nodes: placed_jobs_are_found_by_node_and_by_batch,
            nodes: open_batches_come_by_priority_and_age,
            nodes: end_of_a_batch_is_told_until_it_is_heard,
            finishing: ended_batches_are_found_by_owner_and_age,
            files: uploaded_file_is_there_once_it_is_added,
            files: files_are_listed_in_pages_either_way,
            files: file_whose_time_is_over_is_not_there,
            files: ended_batch_gives_its_files_and_a_retry_takes_them_back,
            announced: announced_batch_is_seen_without_a_job_until_its_lines_take_its_place,
            announced: place_of_a_batch_that_was_cancelled_meanwhile_is_not_taken,
            announced: place_is_taken_once,
            announced: announced_batch_expires_and_is_purged_like_any_other,
            announced: batch_that_is_refused_is_kept_with_its_reasons,
            finishing: batch_whose_time_is_up_ends_its_jobs_as_expired,
            finishing: unfinished_jobs_of_all_batches_are_counted,
            schedules: schedule_is_kept_as_it_was_said,
            schedules: due_schedules_are_judged_by_the_stores_clock,
            schedules: tick_is_fired_once_however_often_it_is_tried,
            schedules: skipped_and_missed_ticks_have_runs_without_a_batch,
            schedules: waiting_run_gets_its_batch_once,
            schedules: run_is_noted_by_who_has_its_batch_until_it_ends,
            schedules: batch_of_a_tick_is_filled_and_shown_like_any_other,
            schedules: kept_prompts_come_back_and_go_with_their_schedule,
            schedules: old_runs_are_forgotten_but_for_open_ones,
            tokens: token_is_found_until_it_is_removed,
            tokens: name_is_taken_while_its_token_is_good,
            tokens: unfinished_jobs_are_counted_by_owner,
        );
    };
    ($open:path; $($group:ident: $name:ident,)*) => {
        $(
            #[tokio::test]
            async fn $name() {
                let (store, _guard) = $open().await;
                $crate::store::contract::$group::$name(&store).await;
            }
        )*
    };
}
pub(crate) use store_contract;

pub const OWNER: &str = "ann";

pub fn model(no: u32) -> BatchModel {
    BatchModel {
        no: ModelNo(no),
        requested: format!("model-{no}"),
        sha256: Some(ModelSha([no as u8; 32])),
        revision: None,
        numerics: None,
    }
}

pub fn new_batch(key: Option<&str>) -> NewBatch {
    NewBatch {
        id: BatchId::generate(),
        owner: OWNER.into(),
        name: Some("nightly".into()),
        idempotency_key: key.map(str::to_owned),
        priority: Priority::Batch,
        pinned_node: None,
        on_done: None,
        spec: BatchSpec::new(LineOptions::new("model-0")),
        models: vec![model(0), model(1)],
        asked: None,
    }
}

/// A good line of model 0.
pub fn job(index: u64) -> NewJob {
    let line = format!(r#"{{"prompt":"number {index}"}}"#);
    NewJob {
        index: JobIndex(index),
        line_number: index * 2 + 1,
        content: ContentHash::of_bad_line(line.as_bytes()),
        line,
        shape: Some(Shape::Short),
        custom_id: None,
        verdict: Ok(ModelNo(0)),
        same_as: None,
    }
}

/// A job like `leader`, whose answer it gets.
pub fn same(index: u64, leader: u64) -> NewJob {
    NewJob {
        same_as: Some(JobIndex(leader)),
        ..job(index)
    }
}

pub fn bad_job(index: u64) -> NewJob {
    NewJob {
        verdict: Err(JobError::new("invalid_json", "the line is broken")),
        line: "{".into(),
        shape: None,
        ..job(index)
    }
}

pub fn named(index: u64, id: &str) -> NewJob {
    NewJob {
        custom_id: Some(id.into()),
        ..job(index)
    }
}

pub async fn sealed(store: &dyn Store, new: NewBatch, jobs: Vec<NewJob>) -> Sealed {
    let (_, no) = store.batch_create(new).await.unwrap();
    store.batch_fill(no, jobs).await.unwrap();
    store.batch_seal(no).await.unwrap()
}

/// A shown batch of these jobs.
pub async fn shown(store: &dyn Store, jobs: Vec<NewJob>) -> Batch {
    match sealed(store, new_batch(None), jobs).await {
        Sealed::Shown(batch) => *batch,
        other => panic!("the batch is not shown: {other:?}"),
    }
}

pub async fn fresh(store: &dyn Store, batch: &Batch) -> Batch {
    store.batch_get(&batch.id).await.unwrap().unwrap()
}

pub fn at(batch: &Batch, index: u64) -> JobRef {
    JobRef {
        batch: batch.no,
        index: JobIndex(index),
    }
}

pub async fn place(store: &dyn Store, jobs: &[JobRef]) -> Vec<PlaceOutcome> {
    place_on(store, jobs, &NodeInstance::generate(), "x").await
}

pub async fn place_on(
    store: &dyn Store,
    jobs: &[JobRef],
    node: &NodeInstance,
    numerics: &str,
) -> Vec<PlaceOutcome> {
    let places = jobs
        .iter()
        .map(|job| Place {
            job: *job,
            node: node.clone(),
            numerics: Some(numerics.into()),
        })
        .collect();
    store.place_many(places).await.unwrap()
}

/// Places one job that can be placed.
pub async fn placed(store: &dyn Store, job: JobRef) -> Attempt {
    match place(store, &[job]).await[..] {
        [PlaceOutcome::Placed(attempt)] => attempt,
        ref other => panic!("{job} is not placed: {other:?}"),
    }
}

pub fn answer(text: &str) -> ResultRecord {
    ResultRecord::completed(Completed {
        choices: vec![Choice {
            index: 0,
            text: text.into(),
            finish_reason: FinishReason::Stop,
            logprobs: None,
        }],
        usage: Usage {
            prompt_tokens: 3,
            completion_tokens: 2,
        },
        ..Completed::default()
    })
}

pub fn finish_of(job: JobRef, attempt: Attempt, record: ResultRecord) -> Finish {
    Finish {
        job,
        attempt,
        record,
        stats: JobStats::default(),
    }
}

pub async fn finish(
    store: &dyn Store,
    job: JobRef,
    attempt: Attempt,
    record: ResultRecord,
) -> FinishOutcome {
    let outcomes = store
        .finish_many(vec![finish_of(job, attempt, record)])
        .await;
    outcomes.unwrap()[0]
}

/// Holds a batch's counters against its rows.
pub async fn check_counters(store: &dyn Store, batch: &Batch) {
    let batch = fresh(store, batch).await;
    let [queued, placed, succeeded, failed, cancelled] = store.recount(batch.no).await.unwrap();
    assert_eq!(batch.counts.succeeded, succeeded);
    assert_eq!(batch.counts.failed, failed + cancelled);
    assert_eq!(batch.counts.unfinished(), queued + placed);
}
