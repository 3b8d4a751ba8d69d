//! Thousands of watchers, and watchers that never read.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rbee_tests::cluster::{Cluster, PATIENCE, TOKEN, ends_well};
use rbee_tests::wait;
use rbee_tests::workload::size;
use serde_json::Value as Json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What test 27 allows of one server.
const MAX_BYTES: u64 = 300_000_000;
const MAX_REDIS_CONNECTIONS: usize = 8;
/// Clients that connect at once.
const AT_ONCE: usize = 64;
/// What the system keeps for a client that does not read.
const RECEIVE_BYTES: u32 = 4096;
/// Tokens of a job that is watched.
const TOKENS: u64 = 300;

fn prompts(jobs: usize, tokens: u64) -> String {
    (0..jobs)
        .map(|job| {
            format!("{{\"prompt\": \"watched {job}\", \"max_tokens\": {tokens}, \"ignore_eos\": true}}\n")
        })
        .collect()
}

fn quick<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&["--lease-ms", "30000", "--engine", "stub"], more].concat()
}

/// Connections to Redis.
fn connections(cluster: &Cluster) -> usize {
    cluster.redis.ask(&["CLIENT", "LIST"]).lines().count()
}

fn descriptors(pid: u32) -> usize {
    let open = std::fs::read_dir(format!("/proc/{pid}/fd"));
    open.expect("the process lives").count()
}

/// Most memory that a process had.
fn peak_bytes(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"));
    let status = status.expect("the process lives");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.expect("the kernel tells the peak") * 1024
}

async fn open(address: &str, path: &str) -> TcpStream {
    let socket = tokio::net::TcpSocket::new_v4().expect("there are sockets");
    // What a client does not read must not lie in the system's buffers for long.
    let small = socket.set_recv_buffer_size(RECEIVE_BYTES);
    small.expect("a socket takes the option");
    let to = address.parse().expect("the server has an address");
    let stream = socket.connect(to).await;
    let mut stream = stream.expect("the server listens");
    let request =
        format!("GET {path} HTTP/1.0\r\nHost: {address}\r\nAuthorization: Bearer {TOKEN}\r\n\r\n");
    stream
        .write_all(request.as_bytes())
        .await
        .expect("the server reads");
    stream
}

/// All that comes up to the end of a stream.
async fn rest(mut stream: TcpStream) -> String {
    let mut text = Vec::new();
    stream
        .read_to_end(&mut text)
        .await
        .expect("the stream ends well");
    String::from_utf8(text).expect("events are UTF-8")
}

/// The text that a stream of a job's events tells.
fn text_of(events: &str) -> String {
    let mut text = String::new();
    let mut name = "";
    for line in events.lines() {
        if let Some(event) = line.strip_prefix("event: ") {
            name = event;
        } else if let Some(data) = line.strip_prefix("data: ")
            && name == "text"
        {
            let piece: Json = serde_json::from_str(data).expect("an event is JSON");
            text.push_str(piece["text"].as_str().expect("a piece has text"));
        }
    }
    text
}

#[test]
fn faults_thousands_of_watchers_cost_few_connections_and_little_memory() {
    let watchers = size(10_000, 400);
    let mut cluster = Cluster::new();
    let serve = cluster.serve(&quick(&[]));
    let pid = serve.process.pid();
    let of_the_server = connections(&cluster);
    let slow = ["--stub-token-us", "30000", "--slots", "16"];
    let worker = cluster.worker("one", &quick(&slow));
    let of_the_node = connections(&cluster) - of_the_server;
    let id = cluster.submit(&prompts(16, TOKENS), &[]);
    wait::until("all jobs with the node", PATIENCE, || {
        let running = cluster.count("SELECT count(*) FROM jobs WHERE state = 1");
        (running == 16).then_some(())
    });
    let before = descriptors(pid);
    let address = cluster.url.trim_start_matches("http://").to_owned();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let opened = Arc::new(AtomicU64::new(0));
    let turns = Arc::new(tokio::sync::Semaphore::new(AT_ONCE));
    let watching: Vec<_> = (0..watchers)
        .map(|watcher| {
            let (opened, turns, address) = (opened.clone(), turns.clone(), address.clone());
            // Half of them watch the batch, the others a job each.
            let path = match watcher % 2 {
                0 => format!("/v1/batches/{id}/events"),
                _ => format!("/v1/batches/{id}/jobs/{}/events", watcher / 2 % 16),
            };
            runtime.spawn(async move {
                let turn = turns.acquire().await.expect("nobody closes it");
                let mut stream = open(&address, &path).await;
                let mut first = [0; 12];
                stream
                    .read_exact(&mut first)
                    .await
                    .expect("an answer comes");
                assert_eq!(&first[9..], b"200", "{path}");
                drop(turn);
                opened.fetch_add(1, Ordering::Relaxed);
                rest(stream).await
            })
        })
        .collect();
    wait::until("all watchers", PATIENCE, || {
        (opened.load(Ordering::Relaxed) == watchers).then_some(())
    });
    let redis = connections(&cluster) - of_the_node;
    assert!(
        redis <= MAX_REDIS_CONNECTIONS,
        "{redis} connections to Redis"
    );
    let told = runtime.block_on(futures_util::future::join_all(watching));
    let mut texts: Vec<HashSet<String>> = vec![HashSet::new(); 16];
    for (watcher, told) in told.into_iter().enumerate() {
        let told = told.expect("no watcher panics");
        assert!(told.contains("event: end"), "watcher {watcher}: {told}");
        if watcher % 2 == 1 {
            texts[watcher / 2 % 16].insert(text_of(&told));
        }
    }
    let results: Vec<Json> = (cluster.export(&id).lines())
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    for (job, texts) in texts.iter().enumerate() {
        let right = HashSet::from([results[job]["text"].as_str().unwrap().to_owned()]);
        assert_eq!(
            *texts, right,
            "watchers of job {job} were told something else"
        );
    }
    let peak = peak_bytes(pid);
    println!(
        "{watchers} watchers: {redis} connections to Redis, peak {} MB",
        peak / 1_000_000
    );
    assert!(peak < MAX_BYTES, "{peak} bytes");
    wait::until("closed descriptors", PATIENCE, || {
        (descriptors(pid) <= before + 4).then_some(())
    });
    ends_well(worker);
    ends_well(serve.process);
}

#[test]
fn faults_watchers_that_never_read_are_dropped_and_hold_nobody_up() {
    let mut cluster = Cluster::new();
    let serve = cluster.serve(&quick(&[]));
    let pid = serve.process.pid();
    let fast = ["--stub-token-us", "500", "--slots", "4"];
    let worker = cluster.worker("one", &quick(&fast));
    let id = cluster.submit(&prompts(4, 40_000), &[]);
    let address = cluster.url.trim_start_matches("http://").to_owned();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    wait::until("running jobs", PATIENCE, || {
        (cluster.count("SELECT count(*) FROM jobs WHERE state = 1") == 4).then_some(())
    });
    let before = descriptors(pid);
    let path = format!("/v1/batches/{id}/events?tokens=all");
    let stalled: Vec<TcpStream> = runtime.block_on(futures_util::future::join_all(
        (0..64).map(|_| open(&address, &path)),
    ));
    wait::until("their connections", PATIENCE, || {
        (descriptors(pid) >= before + 64).then_some(())
    });
    // Somebody who reads, while pub/sub connections die again and again.
    let reader = runtime.spawn({
        let (address, path) = (address.clone(), format!("/v1/batches/{id}/jobs/0/events"));
        async move { rest(open(&address, &path).await).await }
    });
    let mut killed = 0;
    let since = std::time::Instant::now();
    wait::until_every(
        Duration::from_secs(1),
        "stalled clients to be dropped",
        PATIENCE,
        || {
            let answer = cluster.redis.ask(&["CLIENT", "KILL", "TYPE", "pubsub"]);
            killed += answer
                .trim()
                .trim_start_matches("(integer) ")
                .parse::<u64>()
                .unwrap_or(0);
            (descriptors(pid) <= before + 16).then_some(())
        },
    );
    println!(
        "dropped after {:?}, {killed} connections killed",
        since.elapsed()
    );
    assert!(killed > 0, "no pub/sub connection was killed");
    drop(stalled);
    let told = runtime.block_on(reader).expect("the reader does not panic");
    cluster.until_done(&id);
    let results = cluster.export(&id);
    let first: Json = serde_json::from_str(results.lines().next().unwrap()).unwrap();
    assert_eq!(text_of(&told), first["text"].as_str().unwrap());
    ends_well(worker);
    ends_well(serve.process);
}
