//! Nodes that are cut off from Redis or from Postgres while both go on: nothing arrives, and nobody is told. Packets are
//! dropped where the machine allows a node a network of its own; elsewhere a proxy keeps what it was given.

use std::time::{Duration, Instant};

use rbee_tests::cluster::{Cluster, PATIENCE};
use rbee_tests::fleet::{Fleet, Pace};
use rbee_tests::namespace::{Cable, Namespace};
use rbee_tests::wait;
use rbee_tests::way::{Passing, Way};
use rbee_tests::workload::{Workload, size};

/// A connection that says nothing is noticed within seconds, on a busy machine within this: without limits of rbee's own it
/// would take a quarter of an hour.
const NOTICED_WITHIN: Duration = Duration::from_secs(90);

/// A connection from a node to a server that can be cut.
enum Line {
    Cable(Cable),
    Way(Way),
}

impl Line {
    fn new(network: Option<&Namespace>, port: u16) -> Line {
        match network {
            Some(network) => Line::Cable(network.cable(port)),
            None => Line::Way(Way::to(port)),
        }
    }

    /// Where the node finds the server.
    fn server(&self) -> String {
        match self {
            Line::Cable(cable) => cable.server(),
            Line::Way(way) => format!("127.0.0.1:{}", way.port),
        }
    }

    fn cut(&self) {
        match self {
            Line::Cable(cable) => cable.pull(),
            Line::Way(way) => way.set(Passing::Silent),
        }
    }

    fn mend(&self) {
        match self {
            Line::Cable(cable) => cable.plug(),
            Line::Way(way) => way.set(Passing::Open),
        }
    }
}

/// A fleet with one node on lines that can be cut.
struct Cut {
    fleet: Fleet,
    redis: Line,
    postgres: Line,
    /// Goes after the node.
    _network: Option<Namespace>,
}

impl Cut {
    fn new(pace: Pace) -> Cut {
        let cluster = Cluster::new();
        let network = Namespace::new();
        if network.is_none() {
            println!("no network namespace is allowed here: a proxy stands for it");
        }
        let redis = Line::new(network.as_ref(), cluster.redis.port());
        let postgres = Line::new(network.as_ref(), cluster.postgres.port());
        let mut fleet = Fleet::of(cluster, pace);
        fleet.serve();
        let direct = format!("127.0.0.1:{}", fleet.cluster.postgres.port());
        let around = fleet.cluster.database.replace(&direct, &postgres.server());
        let before = fleet.environment.clone();
        fleet.environment.extend([
            ("RBEE_DATABASE_URL".to_owned(), around),
            (
                "RBEE_REDIS_URL".to_owned(),
                format!("redis://{}", redis.server()),
            ),
        ]);
        fleet.prefix = network.as_ref().map(Namespace::prefix).unwrap_or_default();
        fleet.node("cut");
        fleet.environment = before;
        fleet.prefix.clear();
        Cut {
            fleet,
            redis,
            postgres,
            _network: network,
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
    let mut cut = Cut::new(Pace::usual().lease_s(15).token_ms(10));
    let id = cut.fleet.cluster.submit(&work.prompts, &[]);
    let instance = cut.until_busy(&id);
    cut.redis.cut();
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
    cut.redis.mend();
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
    let mut cut = Cut::new(Pace::usual().token_ms(10));
    let id = cut.fleet.cluster.submit(&work.prompts, &[]);
    let instance = cut.until_busy(&id);
    let held = cut.fleet.placed(&id, Some(&instance));
    cut.postgres.cut();
    let took = cut.until_said("lease_lost");
    assert!(took < NOTICED_WITHIN, "fenced after {took:?}");
    cut.fleet.until_again(&id, &held);
    cut.postgres.mend();
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
    cut.redis.cut();
    cut.postgres.cut();
    cut.fleet.until_again(&id, &held);
    cut.redis.mend();
    cut.postgres.mend();
    cut.fleet.finish(&id, &work);
}
