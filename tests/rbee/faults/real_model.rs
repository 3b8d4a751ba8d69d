//! The promise itself, on the real model: whatever dies on the way, the results file has the bytes of an undisturbed run.

use rbee_tests::cluster::PATIENCE;
use rbee_tests::fleet::{Fleet, Pace};
use rbee_tests::random::Random;
use rbee_tests::workload::{Workload, seed, size};
use rbee_tests::{prompts, test_models, wait};

/// Tokens of an answer at most.
const TOKENS: u32 = 24;

/// What happens to a fleet in the middle of a batch. Redis without memory comes first: only who has something to put into
/// it finds that out, and most of the batch is still to be handed out then.
const FAULTS: [&str; 6] = [
    "Redis without memory",
    "a node killed",
    "a coordinator killed",
    "Redis killed",
    "Redis emptied",
    "Postgres killed",
];

fn happen(fleet: &mut Fleet, fault: &str) {
    let redis = &mut fleet.cluster.redis;
    match fault {
        "a node killed" => {
            fleet.kill_node("one");
            fleet.node("one");
        }
        "a coordinator killed" => {
            fleet.kill_server(0);
            fleet.serve();
        }
        "Redis killed" => {
            redis.down();
            redis.up();
        }
        "Redis emptied" => drop(redis.ask(&["FLUSHALL"])),
        "Redis without memory" => {
            redis.ask(&["CONFIG", "SET", "maxmemory", "1"]);
            wait::until("somebody to name it", PATIENCE, || {
                let said = fleet.logs();
                said.iter()
                    .any(|log| log.contains("its memory is full (maxmemory)"))
                    .then_some(())
            });
            fleet
                .cluster
                .redis
                .ask(&["CONFIG", "SET", "maxmemory", "0"]);
        }
        "Postgres killed" => {
            fleet.cluster.postgres.down();
            fleet.cluster.postgres.up();
        }
        other => unreachable!("{other}"),
    }
}

#[test]
fn faults_real_model_gives_the_same_bytes_whatever_dies() {
    let mut random = Random::named(seed("real model"), "real model");
    let model = test_models::smollm2();
    let model = model.to_str().expect("a path of the tests is UTF-8");
    let flags = ["--model", model];
    let work = Workload::of(prompts::varied(size(240, 48), TOKENS), &flags);
    let mut fleet = Fleet::start(Pace::usual().real(), &["one", "two"]);
    for _ in 0..size(4, 1) {
        let id = fleet
            .cluster
            .submit(&work.prompts, &["--new", "--model", model]);
        for fault in FAULTS {
            let more = 1 + random.below(work.jobs as usize / FAULTS.len()) as u64;
            let wanted = fleet.cluster.finished(&id) + more;
            fleet.cluster.until_finished(&id, wanted.min(work.jobs));
            happen(&mut fleet, fault);
        }
        fleet.cluster.until_done(&id);
        fleet.check(&id, &work);
    }
    fleet.end();
}
