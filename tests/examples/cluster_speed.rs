//! Measures the cluster path: a coordinator and a node as processes, real Redis and Postgres on loopback, the stub engine.
//! Prints its figures as JSON. `cluster_speed JOBS`; `cargo xtask bench cluster` runs it.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use rbee_test_services::{Postgres, Redis};
use rbee_tests::process::{Home, Running};
use rbee_tests::{test_models, wait};
use serde_json::{Value as Json, json};

/// The longest that any part may take.
const PATIENCE: Duration = Duration::from_secs(1200);
/// How often the end of a batch is looked for: each look starts a process, which takes from the two cores.
const LOOK_EVERY: Duration = Duration::from_millis(200);
const TOKEN: &str = "a token of the benchmark";
/// Tokens of each stub answer.
const TOKENS: u32 = 4;
/// Fewer and more prompts for a real model.
const REAL_PROMPTS: [usize; 2] = [64, 256];
/// Rounds whose median counts.
const REAL_ROUNDS: usize = 5;

fn main() {
    let jobs: usize = std::env::args()
        .nth(1)
        .and_then(|count| count.parse().ok())
        .expect("cluster_speed JOBS");
    let mut figures = stub(jobs);
    let real = real();
    figures["real"] = real;
    println!("{figures}");
}

/// A coordinator with its store and queue.
struct Cluster {
    home: Home,
    postgres: Postgres,
    redis: Redis,
    database: String,
    url: String,
    serve: Running,
}

impl Cluster {
    fn start(engine: &[&str]) -> Cluster {
        let (home, postgres, redis) = (Home::new(), Postgres::start(), Redis::start());
        let database = postgres.database();
        let arguments = ["serve", "--listen", "127.0.0.1:0"].iter().chain(engine);
        let serve = home
            .rbee(arguments)
            .env("RBEE_DATABASE_URL", &database)
            .env("RBEE_REDIS_URL", redis.url())
            .env("RBEE_API_TOKEN", TOKEN)
            .start();
        let url = wait::until("the coordinator's address", PATIENCE, || {
            let said = serve.stderr();
            let at = said.find("http://127.0.0.1:")?;
            let rest = &said[at..];
            let end = rest.find(|letter: char| letter.is_whitespace())?;
            Some(rest[..end].trim_end_matches(['/', ',', '.']).to_owned())
        });
        Cluster {
            home,
            postgres,
            redis,
            database,
            url,
            serve,
        }
    }

    fn worker(&self, engine: &[&str]) -> Running {
        let arguments = ["worker", "--name", "one"].iter().chain(engine);
        let worker = self
            .home
            .rbee(arguments)
            .env("RBEE_DATABASE_URL", &self.database)
            .env("RBEE_REDIS_URL", self.redis.url())
            .env("RBEE_API_TOKEN", TOKEN)
            .env("RBEE_SERVER", &self.url)
            .start();
        wait::until("the node's lease", PATIENCE, || {
            let nodes = self.sql("SELECT COUNT(*) FROM nodes WHERE lost = 0");
            (nodes == "1").then_some(())
        });
        worker
    }

    fn sql(&self, statement: &str) -> String {
        let name = self
            .database
            .rsplit('/')
            .next()
            .expect("a URL names its database");
        self.postgres.sql(name, statement)
    }

    /// A command against this coordinator, and the seconds that it took.
    fn timed(&self, arguments: &[&str]) -> (String, f64) {
        let begun = Instant::now();
        let ended = self
            .home
            .rbee(arguments)
            .env("RBEE_SERVER", &self.url)
            .env("RBEE_API_TOKEN", TOKEN)
            .exits(0);
        (
            ended.text().trim().to_owned(),
            begun.elapsed().as_secs_f64(),
        )
    }

    fn until_done(&self, id: &str) -> f64 {
        let begun = Instant::now();
        wait::until_every(LOOK_EVERY, "the end of the batch", PATIENCE, || {
            let open = self.sql(&format!("SELECT status FROM batches WHERE id = '{id}'"));
            (open == "completed").then_some(())
        });
        begun.elapsed().as_secs_f64()
    }
}

/// `jobs` lines of about 200 bytes.
fn prompts(jobs: usize) -> String {
    let filler = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen";
    let mut input = String::new();
    for at in 0..jobs {
        writeln!(input, "{{\"id\": \"job-{at}\", \"prompt\": \"question {at}: {filler}, and so on\", \"max_tokens\": {TOKENS}}}")
            .expect("a text grows");
    }
    input
}

fn stub(jobs: usize) -> Json {
    let cluster = Cluster::start(&["--engine", "stub"]);
    cluster.home.write("in.jsonl", prompts(jobs));
    let (id, submit_s) = cluster.timed(&["submit", "in.jsonl", "--quiet"]);
    let bare_s = bare_copy(&cluster);
    let begun = Instant::now();
    let worker = cluster.worker(&["--engine", "stub"]);
    cluster.until_done(&id);
    let run_s = begun.elapsed().as_secs_f64();
    let (_, export_s) = cluster.timed(&["export", &id, "-o", "out.jsonl", "--quiet"]);
    let lines = cluster.home.read("out.jsonl").lines().count();
    assert_eq!(lines, jobs, "the export is whole");
    let first_token_ms = first_token_ms(&cluster);
    worker.terminate();
    worker.wait();
    cluster.serve.terminate();
    let serve = cluster.serve.wait();
    json!({
        "jobs": jobs,
        "submit_s": submit_s,
        "bare_copy_s": bare_s,
        "run_s": run_s,
        "jobs_per_s": jobs as f64 / run_s,
        "export_lines_per_s": jobs as f64 / export_s,
        "coordinator_peak_bytes": serve.peak_bytes,
        "first_token_ms": first_token_ms,
    })
}

/// Seconds of a COPY of the same rows into empty tables with the same keys and indexes.
fn bare_copy(cluster: &Cluster) -> f64 {
    let mut seconds = 0.0;
    for table in ["jobs", "payloads"] {
        let file = format!("/tmp/rbee-bench-{}-{table}", std::process::id());
        cluster.sql(&format!("COPY {table} TO '{file}'"));
        cluster.sql(&format!(
            "CREATE TABLE bare_{table} (LIKE {table} INCLUDING ALL)"
        ));
        let begun = Instant::now();
        cluster.sql(&format!("COPY bare_{table} FROM '{file}'"));
        seconds += begun.elapsed().as_secs_f64();
        cluster.sql(&format!("DROP TABLE bare_{table}"));
        // The server's user wrote it; it may not be ours to delete.
        let _ = std::fs::remove_file(Path::new(&file));
    }
    seconds
}

/// Milliseconds from a submit to the first token that a watcher sees, on an idle node: the median of several.
fn first_token_ms(cluster: &Cluster) -> f64 {
    let mut times: Vec<f64> = (0..15)
        .map(|round| one_first_token_ms(cluster, round))
        .collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn one_first_token_ms(cluster: &Cluster, round: usize) -> f64 {
    use std::io::{BufRead, BufReader, Write};
    let address = cluster.url.trim_start_matches("http://");
    let body = json!({"prompt": format!("hello {round}"), "max_tokens": 64}).to_string();
    let mut stream = std::net::TcpStream::connect(address).expect("the coordinator listens");
    stream.set_nodelay(true).expect("a socket takes the option");
    let begun = Instant::now();
    write!(
        stream,
        "POST /v1/infer HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
    .expect("the coordinator reads");
    let mut answer = String::new();
    for line in BufReader::new(stream).lines() {
        let line = line.expect("the answer is text");
        if line.contains("first_token") || line.contains("\"text\"") {
            return begun.elapsed().as_secs_f64() * 1000.0;
        }
        answer.push_str(&line);
        answer.push('\n');
    }
    panic!("no token came: {answer}");
}

/// The same prompts through `rbee run` and through a cluster of one node, with a real model, alternating: what more
/// prompts take longer than fewer, so that loading the model, starting and ending count on neither side.
fn real() -> Json {
    let model = test_models::smollm2();
    let model = model.to_str().expect("the model's path is text");
    let cluster = Cluster::start(&[]);
    let worker = cluster.worker(&["--model", model]);
    let (mut direct, mut through) = (Vec::new(), Vec::new());
    // The first round loads the model on the node.
    for round in 0..=REAL_ROUNDS {
        let taken = REAL_PROMPTS.map(|prompts| real_round(&cluster, model, prompts, round));
        let [fewer, more] = taken;
        if round > 0 {
            direct.push(more.0 - fewer.0);
            through.push(more.1 - fewer.1);
        }
    }
    worker.terminate();
    worker.wait();
    cluster.serve.terminate();
    cluster.serve.wait();
    direct.sort_by(f64::total_cmp);
    through.sort_by(f64::total_cmp);
    let middle = REAL_ROUNDS / 2;
    json!({"prompts": REAL_PROMPTS[1] - REAL_PROMPTS[0], "run_s": direct[middle], "cluster_s": through[middle]})
}

/// So many prompts both ways; the seconds of `rbee run` and of the cluster.
fn real_round(cluster: &Cluster, model: &str, prompts: usize, round: usize) -> (f64, f64) {
    let mut input = String::new();
    for at in 0..prompts {
        writeln!(input, "{{\"prompt\": \"Tell me about the number {at}.\", \"max_tokens\": 48, \"ignore_eos\": true}}")
            .expect("a text grows");
    }
    cluster.home.write("real.jsonl", input);
    let seed = round.to_string();
    let same = ["real.jsonl", "--model", model, "--seed", &seed, "--quiet"];
    let run = [&["run"][..], &same, &["-o", "run.jsonl", "--json"]].concat();
    let ended = Home::rbee(&cluster.home, run).exits(0);
    let (id, _) = cluster.timed(&[&["submit"][..], &same].concat());
    cluster.until_done(&id);
    cluster.timed(&["export", &id, "-o", "cluster.jsonl", "--quiet"]);
    assert_eq!(
        cluster.home.read("run.jsonl"),
        cluster.home.read("cluster.jsonl"),
        "the bytes are the same"
    );
    let took =
        format!("SELECT (finished_at_us - created_at_us) / 1e6 FROM batches WHERE id = '{id}'");
    let through = cluster.sql(&took).parse().expect("seconds are a number");
    let direct = ended.json()["run"]["seconds"].as_f64();
    (direct.expect("run tells its seconds"), through)
}
