//! Processes that die or stop at chosen moments, by a build that has those moments.

use std::path::PathBuf;
use std::time::Duration;

use rbee_queue::record::RECORD_VERSION;
use rbee_queue::store::{Finish, FinishOutcome, PlacedQuery};
use rbee_queue::{
    Attempt, BatchNo, JobError, JobIndex, JobRef, JobStats, Outcome, PostgresStore, ResultRecord,
    SqliteStore, Store,
};
use rbee_tests::alone::Alone;
use rbee_tests::cluster::{Cluster, PATIENCE};
use rbee_tests::fleet::{Fleet, Pace};
use rbee_tests::process::{binary, binary_with_failpoints};
use rbee_tests::wait;
use rbee_tests::workload::{Workload, size};

/// The variable that arms a failpoint.
const VARIABLE: &str = "RBEE_FAILPOINT";

/// A fleet of the build with failpoints.
fn fleet() -> Fleet {
    let mut cluster = Cluster::new();
    cluster.program = binary_with_failpoints();
    Fleet::of(cluster, Pace::usual().token_ms(5))
}

/// What a moment does when it comes.
struct Fuse {
    moment: &'static str,
    signal: &'static str,
    /// It is there once the moment has come.
    spent: PathBuf,
}

impl Fuse {
    fn new(fleet: &Fleet, moment: &'static str, signal: &'static str) -> Fuse {
        let spent = fleet.cluster.home.path(&format!("{moment}.spent"));
        Fuse {
            moment,
            signal,
            spent,
        }
    }

    /// What is started from here on has it, for the `count`th time.
    fn arm(&self, fleet: &mut Fleet, count: u64) {
        let (moment, signal, spent) = (self.moment, self.signal, self.spent.display());
        let value = format!("{moment}:{count}:{signal}:{spent}");
        fleet.environment.push((VARIABLE.to_owned(), value));
    }

    fn until_spent(&self) {
        let what = format!("the moment {}", self.moment);
        wait::until(&what, PATIENCE, || self.spent.exists().then_some(()));
    }
}

/// What is started from here on has no failpoint.
fn disarm(fleet: &mut Fleet) {
    fleet.environment.retain(|(name, _)| name != VARIABLE);
}

#[test]
fn faults_shipped_binary_has_no_failpoints() {
    let has = |path: PathBuf| {
        let bytes = std::fs::read(path).unwrap();
        (bytes.windows(VARIABLE.len())).any(|word| word == VARIABLE.as_bytes())
    };
    assert!(!has(binary()));
    assert!(has(binary_with_failpoints()));
}

#[test]
fn faults_node_killed_at_any_moment_costs_no_result() {
    let work = Workload::stub(size(2000, 60));
    let mut fleet = fleet();
    fleet.serve();
    let moments = [
        "joined",
        "claimed",
        "first-token",
        "writing",
        "written",
        "forgotten",
    ];
    for moment in moments {
        let fuse = Fuse::new(&fleet, moment, "KILL");
        fuse.arm(&mut fleet, 1);
        // Its parent starts it again.
        fleet.start_node(moment, &[]);
        disarm(&mut fleet);
        let id = fleet.cluster.submit(&work.prompts, &["--new"]);
        fuse.until_spent();
        fleet.cluster.until_done(&id);
        fleet.check(&id, &work);
        fleet.kill_node(moment);
    }
    fleet.end();
}

#[test]
fn faults_coordinator_killed_at_any_moment_costs_no_result() {
    let work = Workload::stub(size(2000, 60));
    let mut fleet = fleet();
    fleet.serve();
    fleet.node("one");
    let moments: &[&str] = size(
        &[
            "placing", "placed", "pushed", "judged", "rescuing", "released",
        ],
        &["placed", "released"],
    );
    for moment in moments {
        fleet.kill_server(0);
        let fuse = Fuse::new(&fleet, moment, "KILL");
        fuse.arm(&mut fleet, 1);
        fleet.serve();
        disarm(&mut fleet);
        let id = fleet.cluster.submit(&work.prompts, &["--new"]);
        if ["judged", "rescuing", "released"].contains(moment) {
            wait::until("jobs on the node", PATIENCE, || {
                (!fleet.placed(&id, None).is_empty()).then_some(())
            });
            fleet.kill_node("one");
            fleet.start_node("one", &[]);
        }
        fuse.until_spent();
        fleet.kill_server(0);
        fleet.serve();
        fleet.cluster.until_done(&id);
        fleet.check(&id, &work);
    }
    fleet.end();
}

#[test]
fn faults_submit_whose_coordinator_dies_leaves_nothing_and_succeeds_again() {
    let work = Workload::stub(size(20_000, 60));
    let mut fleet = fleet();
    fleet.pace.token = Some(Duration::ZERO);
    for moment in ["filled", "sealing", "sealed"] {
        let fuse = Fuse::new(&fleet, moment, "KILL");
        fuse.arm(&mut fleet, 1);
        fleet.serve();
        disarm(&mut fleet);
        fleet.cluster.home.write("in.jsonl", &work.prompts);
        let ended = fleet.cluster.rbee(["submit", "in.jsonl"]).run();
        assert_ne!(ended.code, Some(0), "{ended}");
        assert!(ended.stdout.is_empty(), "{ended}");
        fuse.until_spent();
        fleet.kill_server(0);
    }
    fleet.serve();
    let id = fleet.cluster.submit(&work.prompts, &[]);
    let shown = "SELECT COUNT(*) FROM batches WHERE visible = 1";
    assert_eq!(fleet.cluster.count(shown), 1);
    // Orphans of loads are swept after a quarter of an hour: this test does not wait for that.
    fleet.cluster.sql("DELETE FROM batches WHERE visible = 0");
    fleet.node("one");
    fleet.finish(&id, &work);
}

#[test]
fn faults_rescuer_that_pauses_while_a_job_finishes_changes_nothing_of_it() {
    let work = Workload::stub(60);
    let mut fleet = fleet();
    let rescuing = Fuse::new(&fleet, "rescuing", "STOP");
    rescuing.arm(&mut fleet, 1);
    fleet.serve();
    disarm(&mut fleet);
    fleet.pace.token = Some(Duration::from_secs(1));
    fleet.node("late");
    let id = fleet.cluster.submit(&work.prompts, &[]);
    let instance = fleet.instance("late");
    let placed = || fleet.placed(&id, Some(&instance)).into_iter().next();
    wait::until("jobs on the node", PATIENCE, placed);
    fleet.process("late").signal_all("STOP");
    // The rescuer has read that the node is lost, and stands before it writes.
    rescuing.until_spent();
    let held = placed().expect("nobody took them back");
    let job = JobRef {
        batch: BatchNo(1),
        index: JobIndex(held.index),
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let store = PostgresStore::open(&fleet.cluster.database).await.unwrap();
        finish_late(&store, job, Attempt(held.attempt)).await;
        store.close().await;
    });
    let row = format!(
        "SELECT r.finish_no, r.attempt, r.finished_at_us, r.record, j.state, j.attempt, j.losses, j.node \
         FROM results r JOIN jobs j USING (batch_no, idx) WHERE idx = {}",
        held.index
    );
    let before = fleet.cluster.sql(&row);
    assert!(!before.is_empty(), "the late result was not stored");
    fleet.servers[0].process.signal_all("CONT");
    fleet.kill_node("late");
    fleet.pace.token = Some(Duration::ZERO);
    fleet.node("other");
    fleet.cluster.until_done(&id);
    assert_eq!(fleet.cluster.sql(&row), before);
    fleet.cluster.check_rows(&id);
    fleet.end();
}

#[test]
fn faults_rescuer_of_a_server_alone_that_pauses_while_a_job_finishes_changes_nothing_of_it() {
    let work = Workload::stub(60);
    let mut alone = Alone::new(1_000_000);
    alone.start();
    let id = alone.submit(&work);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let database = alone.home.path(".local/share/rbee/rbee.db");
    let store = runtime.block_on(SqliteStore::open(&database)).unwrap();
    let query = PlacedQuery::Batch(BatchNo(1));
    let placed = || {
        let placed = runtime.block_on(store.job_placed(&query)).unwrap();
        placed.first().map(|job| job.held)
    };
    wait::until("jobs on the node", PATIENCE, placed);
    alone.kill();
    // The next life stands before it takes back what the last one had.
    let spent = alone.home.path("rescuing.spent");
    let value = format!("rescuing:1:STOP:{}", spent.display());
    let serve = (alone.home).command(&binary_with_failpoints(), alone.command());
    alone.serve = Some(serve.env(VARIABLE, value).start());
    wait::until("the moment rescuing", PATIENCE, || {
        spent.exists().then_some(())
    });
    // What ran was taken back before, as crashed; the rest is still placed.
    let held = placed().expect("nobody took them back");
    runtime.block_on(finish_late(&store, held.job, held.attempt));
    let row = |store: &SqliteStore| {
        let rows = runtime.block_on(store.job_get(&[held.job])).unwrap();
        let row = rows[0].clone().expect("the job is there");
        assert!(row.result.is_some(), "the late result was not stored");
        format!("{row:?}")
    };
    let before = row(&store);
    alone.serve().signal_all("CONT");
    alone.until_up();
    alone.kill();
    alone.token_us = 0;
    alone.start();
    alone.until_finished(&id, work.jobs - 1);
    let counts = alone.status(&id).expect("it is up")["request_counts"].clone();
    assert_eq!(counts["failed"], 1, "{counts}");
    assert_eq!(row(&store), before);
    runtime.block_on(store.close());
    alone.stop();
}

/// Stores a result as the node would have whose word is late: under the attempt that still holds.
async fn finish_late(store: &dyn Store, job: JobRef, attempt: Attempt) {
    let finish = Finish {
        job,
        attempt,
        record: ResultRecord {
            version: RECORD_VERSION,
            outcome: Outcome::Failed(JobError::new("late", "The answer came late.")),
        },
        stats: JobStats::default(),
    };
    let outcomes = store.finish_many(vec![finish]).await.unwrap();
    assert!(
        matches!(outcomes[..], [FinishOutcome::Stored { .. }]),
        "{outcomes:?}"
    );
}
