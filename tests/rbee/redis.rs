//! What a batch leaves in Redis: little while it runs, and nothing after.

use rbee_test_services::{Postgres, Redis};
use rbee_tests::cluster::{Cluster, PATIENCE, ends_well};
use rbee_tests::{prompts, wait};

/// More than what two inboxes hold at once with all their payloads.
const GROWTH_MAX: u64 = 24 << 20;
/// Scripts that the server keeps, buffers of connections: what is left when no job is.
const REST_MAX: u64 = 3 << 20;

fn used_memory(cluster: &Cluster) -> u64 {
    let info = cluster.redis.ask(&["INFO", "memory"]);
    let line = info
        .lines()
        .find_map(|line| line.strip_prefix("used_memory:"));
    let bytes = line.and_then(|bytes| bytes.trim().parse().ok());
    bytes.unwrap_or_else(|| panic!("no used_memory: {info}"))
}

#[test]
fn faults_redis_stays_small_under_a_large_batch_and_is_empty_after_it() {
    let full = std::env::var_os("RBEE_TEST_FULL").is_some();
    let jobs = if full { 100_000 } else { 20_000 };
    let mut cluster = Cluster::new();
    let serve = cluster.serve(&["--engine", "stub", "--data-dir", "serve"]);
    let nodes =
        ["one", "two"].map(|name| cluster.worker(name, &["--engine", "stub", "--data-dir", name]));
    let before = used_memory(&cluster);
    let id = cluster.submit(&prompts::short(jobs, 2), &["--model", "made-up"]);
    let mut most = 0;
    wait::until("the end of the batch", PATIENCE * 2, || {
        most = most.max(used_memory(&cluster));
        (cluster.finished(&id) == jobs as u64).then_some(())
    });
    let grown = most.saturating_sub(before);
    assert!(
        grown < GROWTH_MAX,
        "Redis grew by {grown} bytes for {jobs} jobs"
    );
    cluster.until_done(&id);
    cluster.check_rows(&id);
    // What is there is of the nodes, not of jobs: an inbox is one key when nothing is in it.
    wait::until("empty inboxes", PATIENCE, || {
        (cluster.redis.ask(&["DBSIZE"]) == "2").then_some(())
    });
    let rest = used_memory(&cluster).saturating_sub(before);
    assert!(rest < REST_MAX, "{rest} bytes are left in Redis");
    nodes.into_iter().for_each(ends_well);
    wait::until("an empty Redis", PATIENCE, || {
        (cluster.redis.ask(&["DBSIZE"]) == "0").then_some(())
    });
    ends_well(serve.process);
}

#[test]
fn policy_that_evicts_is_warned_of_at_the_start() {
    let evicting = Redis::with(&["--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru"]);
    let mut cluster = Cluster::with(Postgres::with(&["-c", "fsync=off"]), evicting);
    let serve = cluster.serve(&["--data-dir", "serve"]).process;
    let said = serve.stderr();
    assert!(
        said.contains("maxmemory-policy allkeys-lru") && said.contains("noeviction"),
        "{said}"
    );
    ends_well(serve);
}
