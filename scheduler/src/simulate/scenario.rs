//! What is simulated: machines, models, and who asks for what when.

use super::random::Random;
use rbee_queue::Priority;

const GB: u64 = 1_000_000_000;

/// A node.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Jobs at once.
    pub slots: usize,
    /// How fast each slot is, beside one that needs a job's `cost_s`.
    pub speed: f64,
    /// What models may take.
    pub memory: u64,
    /// Bytes a second from disk.
    pub load_bytes_per_s: f64,
    /// It dies at this time.
    pub lost_at_s: Option<f64>,
}

/// A model.
#[derive(Clone, Debug)]
pub struct Model {
    /// The size of its file; in memory it takes a quarter more.
    pub file: u64,
    /// Machines that have it in memory at the start.
    pub resident: Vec<usize>,
}

impl Model {
    /// What it takes in memory.
    pub fn bytes(&self) -> u64 {
        self.file + self.file / 4
    }
}

/// Jobs of one batch for one model.
#[derive(Clone, Debug)]
pub struct Request {
    /// The batch; its requests share its places.
    pub batch: usize,
    /// The model.
    pub model: usize,
    /// How many jobs.
    pub jobs: u64,
    /// Seconds of a slot of speed 1, on average.
    pub cost_s: f64,
    /// When they are submitted.
    pub at_s: f64,
    /// Whose jobs go first.
    pub priority: Priority,
}

/// A world to be played.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it shows.
    pub about: &'static str,
    /// All that looks random comes from it.
    pub seed: u64,
    /// Nodes.
    pub machines: Vec<Machine>,
    /// Models.
    pub models: Vec<Model>,
    /// What is asked for.
    pub requests: Vec<Request>,
}

/// What a job of a request costs, in seconds of a slot of speed 1.
pub(super) fn cost_s(scenario: &Scenario, request: usize, job: u64) -> f64 {
    let mut random = Random::new(scenario.seed, request as u64, job);
    scenario.requests[request].cost_s * random.length()
}

/// A machine like many: eight slots, 24 GB, a disk of 1 GB/s.
fn machine() -> Machine {
    Machine {
        slots: 8,
        speed: 1.0,
        memory: 24 * GB,
        load_bytes_per_s: 1e9,
        lost_at_s: None,
    }
}

fn model(file: u64) -> Model {
    Model {
        file,
        resident: Vec::new(),
    }
}

fn batch(batch: usize, model: usize, jobs: u64) -> Request {
    Request {
        batch,
        model,
        jobs,
        cost_s: 8.0,
        at_s: 0.0,
        priority: Priority::Batch,
    }
}

/// The set that `cargo xtask simulate` plays.
pub fn all() -> Vec<Scenario> {
    vec![
        one_hot_model(),
        many_models_on_few_nodes(),
        mixed_speeds(),
        node_loss(),
        interactive_beside_batch(),
        thousand_nodes(),
    ]
}

/// Everybody wants one model, a few want others, and each node has memory for one only.
fn one_hot_model() -> Scenario {
    let mut requests = vec![batch(0, 0, 60_000), batch(1, 0, 2_000), batch(2, 0, 20)];
    requests[1].at_s = 60.0;
    requests[2].at_s = 120.0;
    for cold in 1..=4 {
        let mut wanted = batch(2 + cold, cold, 100);
        wanted.at_s = 100.0 * cold as f64;
        requests.push(wanted);
    }
    Scenario {
        name: "one-hot-model",
        about: "60,000 jobs for one model, 20 nodes with room for one each, and four models that few want",
        seed: 11,
        machines: vec![
            Machine {
                memory: 8 * GB,
                ..machine()
            };
            20
        ],
        models: vec![model(5 * GB); 5],
        requests,
    }
}

/// Forty models on four nodes, of which each holds two or three.
fn many_models_on_few_nodes() -> Scenario {
    let mut random = Random::new(22, 0, 0);
    let mut requests = Vec::new();
    let mut models = Vec::new();
    for at in 0..40 {
        models.push(model(random.between(2.0, 12.0) as u64 * GB));
        requests.push(Request {
            cost_s: random.between(3.0, 10.0),
            at_s: random.between(0.0, 600.0),
            ..batch(at, at, random.between(200.0, 2_000.0) as u64)
        });
    }
    Scenario {
        name: "many-models-few-nodes",
        about: "40 models of 2 to 12 GB, a batch each, on 4 nodes of 24 GB",
        seed: 22,
        machines: vec![machine(); 4],
        models,
        requests,
    }
}

/// Old servers beside new ones: sixteen times as fast.
fn mixed_speeds() -> Scenario {
    let speeds = [4.0, 4.0, 2.0, 2.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.25, 0.25];
    let machines = speeds.map(|speed| Machine { speed, ..machine() });
    Scenario {
        name: "mixed-speeds",
        about: "12 nodes of which the fastest is 16 times the slowest, three models",
        seed: 33,
        machines: machines.to_vec(),
        models: vec![model(5 * GB), model(8 * GB), model(3 * GB)],
        requests: vec![batch(0, 0, 20_000), batch(1, 1, 6_000), batch(2, 2, 9_000)],
    }
}

/// A quarter of the nodes dies when half the work is done.
fn node_loss() -> Scenario {
    let mut scenario = Scenario {
        name: "node-loss",
        about: "16 nodes, three models; four nodes die at half time",
        seed: 44,
        machines: vec![machine(); 16],
        models: vec![model(5 * GB), model(8 * GB), model(3 * GB)],
        requests: vec![batch(0, 0, 20_000), batch(1, 1, 6_000), batch(2, 2, 9_000)],
    };
    let half_s = super::lower_bound_s(&scenario) / 2.0;
    for lost in [1, 6, 11, 15] {
        scenario.machines[lost].lost_at_s = Some(half_s);
    }
    scenario
}

/// People ask while a huge batch runs, most of them its model, some another one.
fn interactive_beside_batch() -> Scenario {
    let mut random = Random::new(55, 0, 0);
    let mut requests = vec![batch(0, 0, 20_000)];
    let mut at_s = 30.0;
    while at_s < 2_400.0 {
        let model = usize::from(random.unit() < 0.2);
        requests.push(Request {
            cost_s: 4.0,
            at_s,
            priority: Priority::Interactive,
            ..batch(requests.len(), model, 1)
        });
        at_s += random.between(0.5, 9.5);
    }
    Scenario {
        name: "interactive-beside-batch",
        about: "8 nodes, 20,000 jobs of a batch, and a question every five seconds",
        seed: 55,
        machines: vec![machine(); 8],
        models: vec![model(5 * GB), model(3 * GB)],
        requests,
    }
}

/// 1,000 nodes, 100 models, a million jobs; few models are asked for much, many little.
fn thousand_nodes() -> Scenario {
    const MODELS: usize = 100;
    const JOBS: f64 = 1e6;
    let mut random = Random::new(66, 0, 0);
    let machines = (0..1_000).map(|_| Machine {
        speed: random.between(0.5, 1.5),
        memory: 16 * GB,
        ..machine()
    });
    let machines = machines.collect();
    let share = |rank: usize| 1.0 / (rank + 1) as f64;
    let all: f64 = (0..MODELS).map(share).sum();
    let mut requests: Vec<Request> = (0..MODELS)
        .map(|rank| Request {
            cost_s: 4.0,
            ..batch(rank, rank, (JOBS * share(rank) / all) as u64)
        })
        .collect();
    let given: u64 = requests.iter().map(|request| request.jobs).sum();
    requests[0].jobs += JOBS as u64 - given;
    Scenario {
        name: "thousand-nodes",
        about: "1,000 nodes, 100 models, a million jobs",
        seed: 66,
        machines,
        models: (0..MODELS)
            .map(|_| model(random.between(2.0, 9.0) as u64 * GB))
            .collect(),
        requests,
    }
}
