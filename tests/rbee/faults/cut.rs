//! Nodes that are cut off from Redis or from Postgres while both go on: nothing arrives, and nobody is told.

use std::time::{Duration, Instant};

use rbee_tests::cluster::{Cluster, PATIENCE};
use rbee_tests::fleet::{Fleet, Pace};
use rbee_tests::wait;
use rbee_tests::way::{Passing, Way};
use rbee_tests::workload::{Workload, size};

/// A connection that says nothing is noticed within this.
const NOTICED_WITHIN: Duration = Duration::from_secs(10);

/// A fleet with one node on ways that can be cut.
struct Cut {
    fleet: Fleet,
    redis: Way,
    postgres: Way,
}

impl Cut {
    fn new(pace: Pace) -> Cut {
        let cluster = Cluster::new();
        let redis = Way::to(cluster.redis.port());
        let postgres = Way::to(cluster.postgres.port());
        let mut fleet = Fleet::of(cluster, pace);
        fleet.serve();
        let port = fleet.cluster.postgres.port().to_string();
        let around = fleet
            .cluster
            .database
            .replace(&port, &postgres.port.to_string());
        let before = fleet.environment.clone();
        fleet.environment.extend([
            ("RBEE_DATABASE_URL".to_owned(), around),
            (
                "RBEE_REDIS_URL".to_owned(),
                format!("redis://127.0.0.1:{}", redis.port),
            ),
        ]);
        fleet.node("cut");
        fleet.environment = before;
        Cut {
            fleet,
            redis,
            postgres,
        }
    }

    /// Waits until the node that is cut off says this; how long that took.
    fn until_said(&self, words: &str) -> Duration {
        let begun = Instant::now();
        wait::until(words, PATIENCE, || {
            let said = self.fleet.process("cut").stderr();
            said.contains(words).then_some(())
        });
        begun.elapsed()
    }

    /// Waits until the node has jobs, and then starts another one which is never cut off. The first one's instance.
    fn until_busy(&mut self, id: &str) -> String {
        let instance = self.fleet.instance("cut");
        wait::until("jobs on the node", PATIENCE, || {
            (!self.fleet.placed(id, Some(&instance)).is_empty()).then_some(())
        });
        self.fleet.node("other");
        instance
    }
}

#[test]
fn faults_node_cut_off_from_redis_finishes_what_it_has_and_holds_nothing_up() {
    let work = Workload::stub(size(2000, 200));
    let mut cut = Cut::new(Pace::usual().token_ms(10));
    let id = cut.fleet.cluster.submit(&work.prompts, &[]);
    let instance = cut.until_busy(&id);
    cut.redis.set(Passing::Silent);
    let took = cut.until_said("the queue cannot be reached");
    assert!(took < NOTICED_WITHIN, "noticed after {took:?}");
    // What lies in the inbox that the node cannot read goes to the other one.
    cut.fleet.cluster.until_done(&id);
    assert_eq!(cut.fleet.instance("cut"), instance, "it lost its lease");
    let losses = "SELECT COALESCE(SUM(losses), 0) FROM jobs";
    assert_eq!(
        cut.fleet.cluster.count(losses),
        0,
        "attempts counted as lost"
    );
    cut.redis.set(Passing::Open);
    // Back on its way, it works again.
    let again = ["--new", "--node", "cut"];
    let again = cut.fleet.cluster.submit(&work.prompts, &again);
    cut.fleet.cluster.until_done(&again);
    cut.fleet.check(&again, &work);
    cut.fleet.finish(&id, &work);
}

#[test]
fn faults_node_cut_off_from_postgres_stops_before_its_lease_ends() {
    let work = Workload::stub(size(2000, 200));
    let pace = Pace::usual().token_ms(10);
    let lease = pace.lease;
    let mut cut = Cut::new(pace);
    let id = cut.fleet.cluster.submit(&work.prompts, &[]);
    let instance = cut.until_busy(&id);
    let held = cut.fleet.placed(&id, Some(&instance));
    cut.postgres.set(Passing::Silent);
    let took = cut.until_said("lease_lost");
    assert!(
        took < lease + size(Duration::ZERO, lease),
        "fenced after {took:?}"
    );
    assert!(took < NOTICED_WITHIN, "noticed after {took:?}");
    cut.fleet.until_again(&id, &held);
    cut.postgres.set(Passing::Open);
    wait::until("the node to begin anew", PATIENCE, || {
        let now = cut.fleet.instance("cut");
        (!now.is_empty() && now != instance).then_some(())
    });
    cut.fleet.finish(&id, &work);
}

#[test]
fn faults_node_cut_off_from_all_loses_its_jobs_and_comes_back() {
    let work = Workload::stub(size(2000, 200));
    let mut cut = Cut::new(Pace::usual().token_ms(10));
    let id = cut.fleet.cluster.submit(&work.prompts, &[]);
    let instance = cut.until_busy(&id);
    let held = cut.fleet.placed(&id, Some(&instance));
    cut.redis.set(Passing::Silent);
    cut.postgres.set(Passing::Silent);
    cut.fleet.until_again(&id, &held);
    cut.redis.set(Passing::Open);
    cut.postgres.set(Passing::Open);
    cut.fleet.finish(&id, &work);
}
