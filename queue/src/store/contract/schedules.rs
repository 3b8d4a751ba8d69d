//! Schedules: one run and one batch a tick, whoever fires it, and what becomes of runs.

use super::*;
use crate::batch::Counts;
use crate::ids::ScheduleId;
use crate::schedule::{
    Missed, Overlap, PromptSource, RunCause, RunState, Schedule, SchedulePlan, ScheduleRun,
};

const MINUTE: i64 = 60_000_000;

fn plan() -> SchedulePlan {
    SchedulePlan {
        cron: "* * * * *".into(),
        tz: "UTC".into(),
        overlap: Overlap::Skip,
        missed: Missed::Once,
        missed_window_s: 3_600,
        source: PromptSource::Files {
            pattern: "/somewhere/nul\0.jsonl".into(),
        },
        spec: BatchSpec::new(LineOptions::new("model-0")),
        priority: Priority::Batch,
        node: None,
        models: Vec::new(),
        output: Some("/somewhere/out-{date}.jsonl".into()),
        on_done: None,
        command: None,
    }
}

fn new_schedule(name: &str, next_tick_us: i64) -> NewSchedule {
    NewSchedule {
        id: ScheduleId::generate(),
        name: name.into(),
        plan: plan(),
        next_tick_us,
    }
}

async fn added(store: &dyn Store, name: &str, next_tick_us: i64) -> Schedule {
    let new = new_schedule(name, next_tick_us);
    match store.schedule_add(new).await.unwrap() {
        ScheduleAdded::Added(schedule) => *schedule,
        other => panic!("{other:?}"),
    }
}

fn load(tick_us: i64) -> NewRun {
    NewRun {
        tick_us,
        cause: RunCause::Tick,
        state: NewRunState::Load(Box::new(new_batch(Some(&format!("tick:{tick_us}"))))),
    }
}

fn fire(schedule: &Schedule, following: Option<i64>, runs: Vec<NewRun>) -> Fire {
    Fire {
        schedule: schedule.no,
        moves: Some((schedule.next_tick_us.unwrap(), following)),
        runs,
    }
}

async fn only_run(store: &dyn Store, schedule: &Schedule) -> ScheduleRun {
    let mut runs = store.run_list(schedule.no, None, 9).await.unwrap();
    assert_eq!(runs.len(), 1, "{runs:?}");
    runs.remove(0)
}

/// A schedule whose tick was fired a minute ago, and its run, which loads.
async fn loading(store: &dyn Store) -> (Schedule, ScheduleRun) {
    let now = store.clock_us().await.unwrap();
    let schedule = added(store, "nightly", now - MINUTE).await;
    let runs = vec![load(now - MINUTE)];
    let fired = store
        .schedule_fire(fire(&schedule, Some(now + MINUTE), runs))
        .await
        .unwrap();
    (schedule, fired.unwrap().remove(0))
}

pub async fn schedule_is_kept_as_it_was_said(store: &dyn Store) {
    let made = added(store, "nightly", 77).await;
    assert_eq!((made.plan.clone(), made.next_tick_us), (plan(), Some(77)));
    let listed = store.schedule_list().await.unwrap();
    assert_eq!(listed, std::slice::from_ref(&made));
    let again = store.schedule_add(new_schedule("nightly", 78)).await;
    assert_eq!(again.unwrap(), ScheduleAdded::NameTaken);
    assert!(store.schedule_pause(made.no, true, None).await.unwrap());
    let listed = store.schedule_list().await.unwrap();
    assert_eq!((listed[0].paused, listed[0].next_tick_us), (true, Some(77)));
    store
        .schedule_pause(made.no, false, Some(99))
        .await
        .unwrap();
    let listed = store.schedule_list().await.unwrap();
    assert_eq!(
        (listed[0].paused, listed[0].next_tick_us),
        (false, Some(99))
    );
    assert!(store.schedule_remove(made.no).await.unwrap());
    assert!(!store.schedule_remove(made.no).await.unwrap());
    assert_eq!(store.schedule_list().await.unwrap(), []);
}

pub async fn due_schedules_are_judged_by_the_stores_clock(store: &dyn Store) {
    let now = store.clock_us().await.unwrap();
    let due = added(store, "due", now - 1).await;
    let later = added(store, "later", now + 60 * MINUTE).await;
    let paused = added(store, "paused", now - 1).await;
    store.schedule_pause(paused.no, true, None).await.unwrap();
    let found = store.schedule_due().await.unwrap();
    assert!(found.now_us >= now);
    assert_eq!(found.due, [due]);
    assert_eq!(found.next_us, later.next_tick_us);
    // One that believes it is time already is wrong.
    let early = fire(&later, None, vec![load(later.next_tick_us.unwrap())]);
    assert_eq!(store.schedule_fire(early).await.unwrap(), None);
    assert_eq!(store.run_list(later.no, None, 9).await.unwrap(), []);
}

pub async fn tick_is_fired_once_however_often_it_is_tried(store: &dyn Store) {
    let now = store.clock_us().await.unwrap();
    let tick = now - MINUTE;
    let schedule = added(store, "nightly", tick).await;
    let tries = (0..8).map(|_| {
        let fire = fire(&schedule, Some(now + MINUTE), vec![load(tick)]);
        store.schedule_fire(fire)
    });
    let fired = futures_util::future::join_all(tries).await;
    let made: Vec<ScheduleRun> = fired
        .into_iter()
        .flat_map(|fired| fired.unwrap().unwrap_or_default())
        .collect();
    assert_eq!(made.len(), 1);
    assert_eq!(made[0], only_run(store, &schedule).await);
    assert_eq!((made[0].tick_us, made[0].state), (tick, RunState::Loading));
    let hidden = store.batch_hidden().await.unwrap();
    assert_eq!(hidden.len(), 1);
    assert_eq!(made[0].batch_no(), Some(hidden[0].no));
    // Even where the schedule was moved back, its tick has its run.
    store
        .schedule_pause(schedule.no, false, Some(tick))
        .await
        .unwrap();
    let again = fire(&schedule, Some(now + MINUTE), vec![load(tick)]);
    assert_eq!(store.schedule_fire(again).await.unwrap(), Some(vec![]));
    assert_eq!(store.batch_hidden().await.unwrap().len(), 1);
}

pub async fn skipped_and_missed_ticks_have_runs_without_a_batch(store: &dyn Store) {
    let now = store.clock_us().await.unwrap();
    let schedule = added(store, "nightly", now - 3 * MINUTE).await;
    let run = |minutes: i64, state| NewRun {
        tick_us: now - minutes * MINUTE,
        cause: RunCause::CatchUp,
        state,
    };
    let reason = || "because".to_owned();
    let runs = vec![
        run(3, NewRunState::Miss { reason: reason() }),
        run(2, NewRunState::Skip { reason: reason() }),
        run(1, NewRunState::Wait),
    ];
    let fired = store.schedule_fire(fire(&schedule, None, runs)).await;
    let made = fired.unwrap().unwrap();
    let states: Vec<RunState> = made.iter().map(|run| run.state).collect();
    assert_eq!(
        states,
        [RunState::Missed, RunState::Skipped, RunState::Waiting]
    );
    assert!(made[0].ended_at_us.is_some() && made[2].ended_at_us.is_none());
    assert_eq!(made[1].reason.as_deref(), Some("because"));
    assert_eq!(store.batch_hidden().await.unwrap(), []);
    assert_eq!(store.run_open().await.unwrap(), made[2..]);
    assert_eq!(store.run_latest().await.unwrap(), made[2..]);
    assert_eq!(store.schedule_list().await.unwrap()[0].next_tick_us, None);
    let page = store.run_list(schedule.no, Some(made[2].no), 1).await;
    assert_eq!(page.unwrap(), made[1..2]);
}

pub async fn waiting_run_gets_its_batch_once(store: &dyn Store) {
    let schedule = added(store, "nightly", 5).await;
    let now = store.clock_us().await.unwrap();
    let wanted = Fire {
        schedule: schedule.no,
        moves: None,
        runs: vec![NewRun {
            tick_us: now,
            cause: RunCause::Manual,
            state: NewRunState::Wait,
        }],
    };
    let run = store
        .schedule_fire(wanted)
        .await
        .unwrap()
        .unwrap()
        .remove(0);
    assert_eq!(
        store.schedule_list().await.unwrap()[0].next_tick_us,
        Some(5)
    );
    let begin = |was| store.run_begin(run.no, was, new_batch(None));
    assert_eq!(begin(Some(BatchNo(4711))).await.unwrap(), None);
    let first = begin(None).await.unwrap().unwrap();
    assert_eq!(begin(None).await.unwrap(), None);
    // A later leader reads again.
    let second = begin(Some(first)).await.unwrap().unwrap();
    assert_eq!(begin(Some(first)).await.unwrap(), None);
    let open = store.run_open().await.unwrap();
    assert_eq!(
        (open[0].state, open[0].batch_no()),
        (RunState::Loading, Some(second))
    );
}

pub async fn run_is_noted_by_who_has_its_batch_until_it_ends(store: &dyn Store) {
    let (schedule, run) = loading(store).await;
    let batch = run.batch_no();
    let change = |state| RunChange {
        state: Some(state),
        ..RunChange::default()
    };
    let late = store.run_note(run.no, Some(BatchNo(4711)), change(RunState::Failed));
    assert!(!late.await.unwrap());
    let running = store.run_note(run.no, batch, change(RunState::Running));
    assert!(running.await.unwrap());
    let counts = Counts {
        total: 3,
        succeeded: 2,
        failed: 1,
    };
    let ended = RunChange {
        counts: Some(counts),
        output: Some("/out".into()),
        reason: Some("one failed".into()),
        tell: true,
        ..change(RunState::Completed)
    };
    assert!(store.run_note(run.no, batch, ended).await.unwrap());
    let again = store.run_note(run.no, batch, change(RunState::Failed));
    assert!(!again.await.unwrap());
    let found = only_run(store, &schedule).await;
    assert_eq!(
        (found.state, found.counts),
        (RunState::Completed, Some(counts))
    );
    assert_eq!(found.output.as_deref(), Some("/out"));
    assert!(found.ended_at_us.is_some());
    assert_eq!(store.run_open().await.unwrap(), []);
    // It is told until somebody hears.
    let untold = store.run_untold(9).await.unwrap();
    assert_eq!((untold.len(), untold[0].tries), (1, 0));
    assert_eq!(
        (&untold[0].run, &untold[0].schedule.id),
        (&found, &schedule.id)
    );
    store
        .run_told(run.no, Some(Duration::ZERO), None)
        .await
        .unwrap();
    assert_eq!(store.run_untold(9).await.unwrap()[0].tries, 1);
    let long = Some(Duration::from_secs(600));
    store
        .run_told(run.no, long, Some("deaf".into()))
        .await
        .unwrap();
    assert_eq!(store.run_untold(9).await.unwrap(), []);
    assert_eq!(
        only_run(store, &schedule).await.reason.as_deref(),
        Some("deaf")
    );
    store.run_told(run.no, None, None).await.unwrap();
    assert_eq!(store.run_untold(9).await.unwrap(), []);
}

pub async fn batch_of_a_tick_is_filled_and_shown_like_any_other(store: &dyn Store) {
    let (_, run) = loading(store).await;
    let (id, no) = run.batch.unwrap();
    store.batch_fill(no, vec![job(0), job(1)]).await.unwrap();
    let Sealed::Shown(batch) = store.batch_seal(no).await.unwrap() else {
        panic!("it is not shown");
    };
    assert_eq!((batch.id, batch.counts.total), (id, 2));
}

pub async fn kept_prompts_come_back_and_go_with_their_schedule(store: &dyn Store) {
    let new = new_schedule("kept", 5);
    let id = new.id.clone();
    store.schedule_keep(&id, 0, vec![0, 255, 10]).await.unwrap();
    store.schedule_keep(&id, 1, b"more".to_vec()).await.unwrap();
    store.schedule_add(new).await.unwrap();
    assert_eq!(store.run_prune(1).await.unwrap(), 0);
    assert_eq!(
        store.schedule_kept(&id, 0).await.unwrap(),
        Some(vec![0, 255, 10])
    );
    assert_eq!(
        store.schedule_kept(&id, 1).await.unwrap(),
        Some(b"more".to_vec())
    );
    assert_eq!(store.schedule_kept(&id, 2).await.unwrap(), None);
    let schedule = store.schedule_list().await.unwrap().remove(0);
    store.schedule_remove(schedule.no).await.unwrap();
    assert_eq!(store.schedule_kept(&id, 0).await.unwrap(), None);
}

pub async fn old_runs_are_forgotten_but_for_open_ones(store: &dyn Store) {
    let now = store.clock_us().await.unwrap();
    let schedule = added(store, "nightly", now - 10 * MINUTE).await;
    let skip = |at: i64| NewRun {
        tick_us: now - 10 * MINUTE + at,
        cause: RunCause::Tick,
        state: match at {
            0 => NewRunState::Wait,
            _ => NewRunState::Skip {
                reason: "because".into(),
            },
        },
    };
    let runs = (0..10).map(skip).collect();
    store
        .schedule_fire(fire(&schedule, None, runs))
        .await
        .unwrap();
    assert_eq!(store.run_prune(4).await.unwrap(), 5);
    let left = store.run_list(schedule.no, None, 99).await.unwrap();
    let ticks: Vec<i64> = left
        .iter()
        .map(|run| run.tick_us - (now - 10 * MINUTE))
        .collect();
    assert_eq!(ticks, [9, 8, 7, 6, 0]);
}
