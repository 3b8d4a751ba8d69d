//! Clocks that are wrong: of the store, of one node, of a whole machine from one start to the next.

use rbee_tests::alone::Alone;
use rbee_tests::clocks;
use rbee_tests::fleet::{Fleet, Pace};
use rbee_tests::workload::{Workload, size};
use serde_json::Value as Json;

/// Seconds of an hour.
const HOUR: i64 = 3600;

/// The clock of every process is an hour off, as the store sees it; which of them is right does not matter.
#[test]
fn faults_clock_an_hour_off_steals_no_lease_and_makes_no_negative_time() {
    let work = Workload::stub(size(2000, 120));
    for off in [-HOUR, HOUR].map(|seconds| seconds * 1_000_000) {
        let mut fleet = Fleet::start(Pace::usual().lease_s(30).token_ms(5), &[]);
        fleet.cluster.sql(&format!(
            "CREATE OR REPLACE FUNCTION rbee_now_us() RETURNS BIGINT LANGUAGE sql VOLATILE AS \
             'SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::BIGINT + ({off})'"
        ));
        // The leader's lease of before is an hour away now.
        fleet.kill_server(0);
        fleet.cluster.sql("DELETE FROM leader");
        fleet.serve();
        fleet.node("one");
        fleet.node("two");
        let instances = [fleet.instance("one"), fleet.instance("two")];
        let id = fleet.cluster.submit(&work.prompts, &[]);
        fleet.cluster.until_done(&id);
        assert_eq!(instances, [fleet.instance("one"), fleet.instance("two")]);
        let again = "SELECT COUNT(*) FROM jobs WHERE attempt <> 1 OR losses <> 0";
        assert_eq!(fleet.cluster.count(again), 0, "a lease was stolen");
        let backwards = "SELECT COUNT(*) FROM batches b JOIN results r USING (batch_no) \
                         WHERE r.finished_at_us < b.created_at_us \
                         OR b.finished_at_us < r.finished_at_us - 1000000";
        assert_eq!(
            fleet.cluster.count(backwards),
            0,
            "times that run backwards"
        );
        shows_no_negative_number(&fleet, &id);
        fleet.finish(&id, &work);
    }
}

/// One node's clock is wrong, all others are right.
#[test]
fn faults_clock_of_one_node_an_hour_off_changes_nothing() {
    let work = Workload::stub(size(2000, 120));
    for off in [-HOUR, HOUR] {
        let mut fleet = Fleet::start(Pace::usual().lease_s(30).token_ms(5), &["right"]);
        let before = fleet.environment.clone();
        fleet.environment.extend(clocks::off_by(off));
        fleet.node("wrong");
        fleet.environment = before;
        let instances = [fleet.instance("right"), fleet.instance("wrong")];
        let id = fleet.cluster.submit(&work.prompts, &[]);
        fleet.cluster.until_done(&id);
        assert_eq!(
            instances,
            [fleet.instance("right"), fleet.instance("wrong")]
        );
        let again = "SELECT COUNT(*) FROM jobs WHERE attempt <> 1 OR losses <> 0";
        assert_eq!(fleet.cluster.count(again), 0, "a lease was stolen");
        let computed = format!(
            "SELECT COUNT(DISTINCT stats::json->>'node') FROM results WHERE batch_no = \
             (SELECT batch_no FROM batches WHERE id = '{id}')"
        );
        assert_eq!(fleet.cluster.count(&computed), 2, "both nodes compute");
        // Times are the store's: none is an hour away from the others.
        let away = "SELECT COUNT(*) FROM batches b JOIN results r USING (batch_no) \
                    WHERE ABS(r.finished_at_us - b.created_at_us) > 1800000000";
        assert_eq!(fleet.cluster.count(away), 0, "times of the wrong clock");
        shows_no_negative_number(&fleet, &id);
        fleet.finish(&id, &work);
    }
}

/// The clock of a machine jumps while its server is down: leases of before may lie an hour ahead, or long back.
#[test]
fn faults_clock_that_jumps_between_starts_of_a_server_alone_holds_nothing_up() {
    let work = Workload::stub(size(2000, 200));
    let mut alone = Alone::new(5_000);
    alone.start();
    let id = alone.submit(&work);
    for off in [HOUR, -HOUR, 0] {
        alone.until_finished(&id, (alone.finished(&id) + 20).min(work.jobs));
        alone.kill();
        alone.environment = match off {
            0 => Vec::new(),
            off => clocks::off_by(off).to_vec(),
        };
        alone.start();
        let status = alone.status(&id).expect("it is up");
        assert_eq!(negative(&status), None, "{status}");
    }
    alone.finish(&id, &work);
}

fn shows_no_negative_number(fleet: &Fleet, id: &str) {
    let status = fleet.cluster.status(id);
    let nodes = fleet.cluster.rbee(["nodes", "--json"]).exits(0);
    let nodes = nodes
        .text()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    for shown in nodes.chain([status]) {
        assert_eq!(negative(&shown), None, "{shown}");
    }
}

/// A number below nothing anywhere in a value.
fn negative(value: &Json) -> Option<f64> {
    match value {
        Json::Number(number) => number.as_f64().filter(|number| *number < 0.0),
        Json::Array(items) => items.iter().find_map(negative),
        Json::Object(fields) => fields.values().find_map(negative),
        _ => None,
    }
}
