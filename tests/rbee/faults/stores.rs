//! Redis and Postgres: killed, emptied, and cut off at a commit.

use std::time::{Duration, Instant};

use rbee_test_services::{Postgres, Redis};
use rbee_tests::cluster::{Cluster, PATIENCE};
use rbee_tests::fleet::{Fleet, Pace};
use rbee_tests::random::Random;
use rbee_tests::wait;
use rbee_tests::way::{Passing, Way};
use rbee_tests::workload::{Workload, seed, size};

/// After whatever happened to Redis, what was placed then has ended within this.
fn redis_mended() -> Duration {
    size(Duration::from_secs(30), Duration::from_secs(120))
}

/// The last words of the keys of an inbox.
const FAMILIES: [&str; 6] = ["inbox", "urgent", "waiting", "work", "running", "controls"];

/// Waits until all that is placed now has ended; how long that took.
fn until_placed_end(fleet: &Fleet, id: &str) -> Duration {
    let begun = Instant::now();
    let held = fleet.placed(id, None);
    wait::until("what was placed to end", PATIENCE, || {
        let ended = fleet.cluster.sql(&format!(
            "SELECT idx FROM results WHERE batch_no = (SELECT batch_no FROM batches WHERE id = '{id}')"
        ));
        let ended: std::collections::HashSet<&str> = ended.lines().collect();
        let all = held
            .iter()
            .all(|job| ended.contains(job.index.to_string().as_str()));
        all.then_some(())
    });
    begun.elapsed()
}

#[test]
fn faults_redis_killed_emptied_or_robbed_is_mended_within_half_a_minute() {
    let work = Workload::stub(size(2000, 400));
    let mut fleet = Fleet::start(Pace::usual().token_ms(size(20, 10)), &["one", "two"]);
    let mut id = fleet.cluster.submit(&work.prompts, &[]);
    let faults = ["killed", "flushed"].into_iter().chain(FAMILIES);
    for fault in faults {
        let wanted = fleet.cluster.finished(&id) + 10;
        if wanted + 20 > work.jobs {
            fleet.cluster.until_done(&id);
            fleet.check(&id, &work);
            id = fleet.cluster.submit(&work.prompts, &["--new"]);
        } else {
            fleet.cluster.until_finished(&id, wanted);
        }
        match fault {
            "killed" => {
                fleet.cluster.redis.down();
                fleet.cluster.redis.up();
            }
            "flushed" => drop(fleet.cluster.redis.ask(&["FLUSHALL"])),
            family => {
                for key in fleet.cluster.redis.keys() {
                    if key.ends_with(&format!(":{family}")) {
                        fleet.cluster.redis.ask(&["DEL", &key]);
                    }
                }
            }
        }
        let took = until_placed_end(&fleet, &id);
        assert!(took < redis_mended(), "{fault}: mended after {took:?}");
    }
    fleet.finish(&id, &work);
}

#[test]
fn faults_postgres_killed_in_the_middle_of_a_run_costs_no_result() {
    let mut random = Random::named(seed("postgres"), "postgres");
    let work = Workload::stub(size(2000, 300));
    let fleet = Fleet::start(Pace::usual().token_ms(10), &["one", "two"]);
    let id = fleet.cluster.submit(&work.prompts, &[]);
    for _ in 0..size(10, 2) {
        let more = 5 + random.below(20) as u64;
        let so_far = fleet.cluster.finished(&id);
        fleet
            .cluster
            .until_finished(&id, (so_far + more).min(work.jobs));
        fleet.cluster.postgres.down();
        fleet.cluster.postgres.up();
    }
    fleet.finish(&id, &work);
}

#[test]
fn faults_connection_that_breaks_at_a_commit_leaves_one_result() {
    let work = Workload::stub(size(2000, 200));
    let cluster = Cluster::new();
    let way = Way::to(cluster.postgres.port());
    // Results come one by one for a while: each cut wants a commit of its own.
    let mut fleet = Fleet::of(cluster, Pace::usual().token_ms(30));
    fleet.serve();
    let direct = fleet.cluster.postgres.port().to_string();
    let around = fleet
        .cluster
        .database
        .replace(&direct, &way.port.to_string());
    fleet
        .environment
        .push(("RBEE_DATABASE_URL".to_owned(), around));
    fleet.node("one");
    let id = fleet.cluster.submit(&work.prompts, &[]);
    let cuts = size(40, 8);
    for cut in 0..cuts {
        let passing = match cut % 2 {
            0 => Passing::BreakAfterCommit,
            _ => Passing::BreakBeforeCommit,
        };
        way.set(passing);
        wait::until("a commit to be cut off", PATIENCE, || {
            (way.broken() > cut).then_some(())
        });
    }
    assert_eq!(way.broken(), cuts);
    fleet.finish(&id, &work);
}

#[test]
fn faults_redis_without_memory_is_named_and_nothing_is_lost() {
    let work = Workload::stub(size(2000, 200));
    let fleet = Fleet::start(Pace::usual().token_ms(10), &["one", "two"]);
    let redis = &fleet.cluster.redis;
    let id = fleet.cluster.submit(&work.prompts, &[]);
    fleet.cluster.until_finished(&id, 20);
    let acknowledged = fleet.cluster.finished(&id);
    redis.ask(&["CONFIG", "SET", "maxmemory", "1"]);
    // A submit goes to the store, and is taken over as ever. Then there is something to put into Redis for certain.
    let other = fleet.cluster.submit(&work.prompts, &["--new"]);
    wait::until("the coordinator to name it", PATIENCE, || {
        let said = fleet.servers[0].process.stderr();
        said.contains("its memory is full (maxmemory)")
            .then_some(())
    });
    redis.ask(&["CONFIG", "SET", "maxmemory", "0"]);
    assert!(fleet.cluster.finished(&id) >= acknowledged);
    fleet.cluster.until_done(&other);
    fleet.check(&other, &work);
    fleet.finish(&id, &work);
}

#[test]
fn faults_redis_that_evicts_is_warned_of_by_the_setting() {
    let settings = ["--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru"];
    let cluster = Cluster::with(Postgres::with(&["-c", "fsync=off"]), Redis::with(&settings));
    let mut fleet = Fleet::of(cluster, Pace::usual());
    fleet.serve();
    fleet.node("one");
    for log in fleet.logs() {
        assert!(log.contains("maxmemory-policy allkeys-lru"), "{log}");
        assert!(log.contains("set maxmemory-policy to noeviction"), "{log}");
    }
    fleet.end();
}
