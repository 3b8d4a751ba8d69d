//! Watching: late, twice, again after a break, while nodes and servers die; and asking for one answer.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::sync::{Arc, Mutex};

use rbee_test_services::process::free_port;
use rbee_tests::cluster::{Cluster, PATIENCE, TOKEN, ends_well, listening};
use rbee_tests::events::{Event, Events};
use rbee_tests::process::{Home, Rbee, Running};
use rbee_tests::wait;
use serde_json::{Value as Json, json};

/// What all parts of a cluster are started with: leases that a busy machine keeps, and that end while a test waits.
const QUICK: [&str; 4] = ["--lease-ms", "10000", "--engine", "stub"];
/// Microseconds a token.
const SLOW: &str = "4000";

/// A server of either kind, as its clients see it.
struct Site<'a> {
    home: &'a Home,
    url: String,
}

impl Site<'_> {
    fn rbee(&self, arguments: &[&str]) -> Rbee {
        let command = self.home.rbee(arguments);
        let command = command.env("RBEE_SERVER", &self.url);
        command.env("RBEE_API_TOKEN", TOKEN)
    }

    fn submit(&self, prompts: &str) -> String {
        self.home.write("in.jsonl", prompts);
        let submitted = self.rbee(&["submit", "in.jsonl", "--new"]).exits(0);
        submitted.text().trim().to_owned()
    }

    fn results(&self, id: &str) -> Vec<Json> {
        let _ = std::fs::remove_file(self.home.path("out.jsonl"));
        self.rbee(&["export", id, "-o", "out.jsonl"]).run();
        self.home.lines("out.jsonl")
    }

    fn job_events(&self, id: &str, index: u64, last: Option<&str>) -> Events {
        let path = format!("/v1/batches/{id}/jobs/{index}/events");
        Events::open(&self.url, &path, last)
    }

    fn batch_events(&self, id: &str, query: &str, last: Option<&str>) -> Events {
        Events::open(&self.url, &format!("/v1/batches/{id}/events{query}"), last)
    }
}

/// An embedded server.
fn embedded(home: &Home) -> (Running, Site<'_>) {
    let arguments = [
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--engine",
        "stub",
        "--stub-token-us",
        SLOW,
    ];
    let serve = home.rbee(arguments).env("RBEE_API_TOKEN", TOKEN).start();
    let url = listening(&serve);
    (serve, Site { home, url })
}

fn site(cluster: &Cluster) -> Site<'_> {
    Site {
        home: &cluster.home,
        url: cluster.url.clone(),
    }
}

fn slow_worker(cluster: &Cluster, name: &str) -> Running {
    let mut arguments = QUICK.to_vec();
    arguments.extend(["--heartbeat-ms", "200", "--stub-token-us", SLOW]);
    cluster.worker(name, &arguments)
}

/// A prompt whose answer has exactly so many tokens.
fn long(prompt: &str, tokens: u32) -> String {
    format!("{{\"prompt\": \"{prompt}\", \"max_tokens\": {tokens}, \"ignore_eos\": true}}\n")
}

/// A reader of a job's text: fails when a token is left out or comes twice.
#[derive(Default)]
struct Reader {
    text: String,
    next: u64,
    resets: usize,
    attempts: Vec<u64>,
    end: Option<Json>,
}

impl Reader {
    fn take(&mut self, event: &Event) {
        match event.name.as_str() {
            "text" => {
                let piece = event.body();
                assert!(event.id.is_some(), "{event:?}");
                assert_eq!(piece["first_token"], self.next, "{event:?}");
                self.next += piece["tokens"].as_u64().unwrap();
                self.text.push_str(piece["text"].as_str().unwrap());
                let attempt = piece["attempt"].as_u64().unwrap();
                if self.attempts.last() != Some(&attempt) {
                    self.attempts.push(attempt);
                }
            }
            "reset" => {
                (self.text, self.next) = (String::new(), 0);
                self.resets += 1;
            }
            "end" => self.end = Some(event.body()),
            "job" => {}
            _ => panic!("{event:?}"),
        }
    }

    fn until_tokens(&mut self, events: &mut Events, tokens: u64) {
        while self.next < tokens {
            self.take(&events.next_event().expect("the job runs"));
        }
    }

    fn until_end(&mut self, events: &mut Events) {
        events.rest().iter().for_each(|event| self.take(event));
        assert!(self.end.is_some(), "the stream ends with its end");
    }
}

fn watchers_of_a_job_get_every_token_once(site: &Site<'_>) {
    let id = site.submit(&(long("one", 1_500) + &long("two", 30)));
    let mut events = site.job_events(&id, 0, None);
    let mut early = Reader::default();
    early.until_tokens(&mut events, 40);
    // A second one comes late, and the first one's connection breaks.
    let mut late = Reader::default();
    let mut late_events = site.job_events(&id, 0, None);
    late.until_tokens(&mut late_events, 60);
    early.until_tokens(&mut events, 100);
    let last = events.last_id.clone().unwrap();
    assert_eq!(last, format!("1.0.{}", early.next));
    drop(events);
    late.until_tokens(&mut late_events, 150);
    early.until_end(&mut site.job_events(&id, 0, Some(&last)));
    late.until_end(&mut late_events);
    let stored = site.results(&id)[0]["text"].as_str().unwrap().to_owned();
    assert_eq!(early.next, 1_500, "all tokens are accounted for");
    assert_eq!((early.text, early.resets), (stored.clone(), 0));
    assert_eq!((late.text, late.resets), (stored.clone(), 0));
    assert_eq!(early.end.unwrap()["result"]["text"], stored);
    // What has ended comes from the store, whole or from a place on.
    let mut after = Reader::default();
    after.until_end(&mut site.job_events(&id, 0, None));
    assert_eq!(after.text, stored);
    let mut rest = Reader {
        next: early.next,
        text: stored.clone(),
        ..Reader::default()
    };
    rest.until_end(&mut site.job_events(&id, 0, Some(&format!("1.0.{}", early.next))));
    assert_eq!((rest.text, rest.resets), (stored, 0));
}

fn results_of_a_batch_come_once_in_order(site: &Site<'_>) {
    let jobs: String = (0..40).map(|at| long(&format!("p{at}"), 5 + at)).collect();
    let id = site.submit(&(jobs + "oops\n"));
    let mut events = site.batch_events(&id, "", None);
    let first = events.next_event().unwrap();
    assert_eq!(
        (first.name.as_str(), first.body()["id"].as_str()),
        ("batch", Some(id.as_str()))
    );
    let mut seen: Vec<Event> = Vec::new();
    while seen.len() < 10 {
        let event = events.next_event().unwrap();
        seen.extend((event.name == "result").then_some(event));
    }
    let last = seen.last().unwrap().id.clone();
    drop(events);
    let rest = site.batch_events(&id, "", last.as_deref()).rest();
    seen.extend(rest.iter().filter(|event| event.name == "result").cloned());
    let numbers: Vec<u64> = (seen.iter())
        .map(|event| event.id.as_ref().unwrap().parse().unwrap())
        .collect();
    assert_eq!(numbers, (1..=41).collect::<Vec<u64>>());
    let mut texts: BTreeMap<u64, Json> = BTreeMap::new();
    for event in &seen {
        let body = event.body();
        assert!(
            texts
                .insert(body["index"].as_u64().unwrap(), body["text"].clone())
                .is_none()
        );
    }
    for line in site.results(&id) {
        assert_eq!(texts[&line["index"].as_u64().unwrap()], line["text"]);
    }
    let end = rest.last().unwrap();
    assert_eq!(
        (end.name.as_str(), &end.body()["status"]),
        ("end", &json!("completed"))
    );
    let progress = rest.iter().rfind(|event| event.name == "progress").unwrap();
    assert_eq!(
        progress.body()["request_counts"],
        json!({"total": 41, "completed": 40, "failed": 1})
    );
    let errors = site.batch_events(&id, "?results=errors", None).rest();
    let errors: Vec<&Event> = errors
        .iter()
        .filter(|event| event.name == "result")
        .collect();
    assert_eq!((errors.len(), &errors[0].body()["index"]), (1, &json!(40)));
}

fn the_command_watches_in_a_pipe(site: &Site<'_>) {
    let id = site.submit(
        &(0..8)
            .map(|at| long(&format!("q{at}"), 1_500 + at))
            .collect::<String>(),
    );
    let all = site.rbee(&["watch", &id, "--all"]).exits(0);
    let mut joined = vec![String::new(); 8];
    for line in all.text().lines() {
        let event: Json = serde_json::from_str(line).unwrap();
        if event["event"] == "text" {
            let index = event["index"].as_u64().unwrap() as usize;
            joined[index].push_str(event["text"].as_str().unwrap());
        }
    }
    let stored = site.results(&id);
    for (text, line) in joined.iter().zip(&stored) {
        assert_eq!(*text, line["text"], "{all}");
    }
    let job = site.rbee(&["watch", "last", "--job", "3"]).exits(0);
    let events: Vec<Json> = job
        .text()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    // Whether the server has read of the job's end by now shows in what comes before its text, and in how many pieces it comes.
    let text: String = (events.iter().filter(|event| event["event"] == "text"))
        .map(|event| event["text"].as_str().unwrap())
        .collect();
    assert_eq!(text, stored[3]["text"]);
    assert_eq!(events.last().unwrap()["event"], "end");
    let bad = site.submit("{\"prompt\": \"x\"}\nno\n");
    let watched = site.rbee(&["watch", &bad]).exits(3);
    let last: Json = serde_json::from_str(watched.text().lines().last().unwrap()).unwrap();
    assert_eq!(last["request_counts"]["failed"], 1);
    site.home.write("w.jsonl", long("w", 40));
    let submitted = site.rbee(&["submit", "w.jsonl", "--watch"]).exits(0);
    assert!(submitted.text().trim().starts_with("batch_"), "{submitted}");
    assert_eq!(submitted.text().lines().count(), 1, "{submitted}");
    submitted.says("1 of 1 job succeeded");
    site.rbee(&["watch", &id, "--job", "99"])
        .exits(2)
        .says("no job 99");
}

fn the_end_of_a_watcher_changes_nothing(site: &Site<'_>) {
    let id = site.submit(&(long("kept", 4_000) + &long("kept too", 300)));
    let killed = site.rbee(&["watch", &id, "--job", "0"]).start();
    let told = wait::until("some text", PATIENCE, || {
        let said = killed.stdout();
        said.contains("\"text\"").then_some(said)
    });
    assert!(!told.is_empty());
    killed.kill();
    let left = site.rbee(&["watch", &id]).start();
    wait::until("the first event", PATIENCE, || {
        left.stdout().contains("batch").then_some(())
    });
    left.interrupt();
    let left = left.wait();
    assert_eq!(left.code, Some(130), "{left}");
    left.says("the batch goes on");
    site.rbee(&["watch", &id]).exits(0);
    assert_eq!(site.results(&id).len(), 2);
}

fn one_request_is_answered_at_once(site: &Site<'_>) {
    let asked = json!({"prompt": "hello", "max_tokens": 50, "ignore_eos": true});
    let events = Events::post(&site.url, "/v1/infer", &asked).rest();
    assert_eq!(events[0].name, "started");
    assert_eq!(events.last().unwrap().data, "[DONE]");
    let mut reader = Reader::default();
    let text = events.iter().filter(|event| event.name == "text");
    text.for_each(|event| reader.take(event));
    let result = events
        .iter()
        .find(|event| event.name == "result")
        .unwrap()
        .body();
    assert_eq!(result["text"], reader.text);
    assert!(reader.attempts == [1] && reader.next == 50, "{result}");
    let flags = ["infer", "--prompt", "hello", "--max-tokens", "20"];
    let (streamed, whole) = (
        site.rbee(&flags).exits(0),
        site.rbee(&[&flags[..], &["--json"]].concat()).exits(0),
    );
    assert_eq!(whole.json()["text"], streamed.text().trim_end_matches('\n'));
    // They are no batches that anybody made.
    let listed = site.rbee(&["list", "--json"]).exits(0);
    assert!(!listed.text().contains("interactive"), "{listed}");
    let refused = site.rbee(&[
        "infer",
        "--prompt",
        "x",
        "--node",
        "nobody",
        "--max-tokens",
        "1",
    ]);
    refused.exits(2).says("there is no node nobody");
}

#[test]
fn watching_an_embedded_server() {
    let home = Home::new();
    let (serve, site) = embedded(&home);
    watchers_of_a_job_get_every_token_once(&site);
    results_of_a_batch_come_once_in_order(&site);
    the_command_watches_in_a_pipe(&site);
    the_end_of_a_watcher_changes_nothing(&site);
    one_request_is_answered_at_once(&site);
    ends_well(serve);
    let gone = site.rbee(&["watch", "last"]).exits(4);
    gone.says("rbee serve");
}

#[test]
fn watching_a_cluster() {
    let mut cluster = Cluster::new();
    let serve = cluster.serve(&QUICK);
    let worker = slow_worker(&cluster, "one");
    let site = site(&cluster);
    watchers_of_a_job_get_every_token_once(&site);
    results_of_a_batch_come_once_in_order(&site);
    the_command_watches_in_a_pipe(&site);
    the_end_of_a_watcher_changes_nothing(&site);
    one_request_is_answered_at_once(&site);
    let pinned = site.rbee(&[
        "infer",
        "--prompt",
        "x",
        "--node",
        "one",
        "--json",
        "--max-tokens",
        "9",
    ]);
    assert!(pinned.exits(0).json()["text"].is_string());
    ends_well(worker);
    ends_well(serve.process);
}

#[test]
fn text_goes_on_without_a_repetition_when_its_node_is_killed() {
    let mut cluster = Cluster::new();
    let serve = cluster.serve(&[&QUICK[..], &["--sweep-ms", "200"]].concat());
    let mut workers = BTreeMap::from([
        ("one", slow_worker(&cluster, "one")),
        ("two", slow_worker(&cluster, "two")),
    ]);
    let site = site(&cluster);
    let id = site.submit(&long("moved", 3_000));
    let mut events = site.job_events(&id, 0, None);
    let mut reader = Reader::default();
    reader.until_tokens(&mut events, 100);
    let shown = Events::get(&site.url, &format!("/v1/batches/{id}/jobs/0"));
    let holder = shown["node"].as_str().unwrap().to_owned();
    workers.remove(holder.as_str()).unwrap().kill();
    reader.until_end(&mut events);
    assert_eq!(reader.resets, 0);
    assert_eq!(reader.attempts, [1, 2]);
    assert_eq!(site.results(&id)[0]["text"], reader.text);
    workers.into_values().for_each(ends_well);
    ends_well(serve.process);
}

#[test]
fn watching_goes_on_when_the_server_is_started_again() {
    let mut cluster = Cluster::new();
    let address = format!("127.0.0.1:{}", free_port());
    let serve = cluster.serve_at(&address, &QUICK, &[]);
    let worker = slow_worker(&cluster, "one");
    let id = site(&cluster).submit(&long("on and on", 3_000));
    let watching = site(&cluster).rbee(&["watch", &id, "--job", "0"]).start();
    wait::until("some text", PATIENCE, || {
        watching.stdout().contains("\"text\"").then_some(())
    });
    serve.process.kill();
    let serve = cluster.serve_at(&address, &QUICK, &[]);
    let watched = watching.wait();
    assert_eq!(watched.code, Some(0), "{watched}");
    let mut text = String::new();
    for line in watched.text().lines() {
        let event: Json = serde_json::from_str(line).unwrap();
        assert_ne!(event["event"], "reset", "{line}");
        text.push_str(match event["event"] == "text" {
            true => event["text"].as_str().unwrap(),
            false => "",
        });
    }
    assert_eq!(site(&cluster).results(&id)[0]["text"], text);
    ends_well(worker);
    ends_well(serve.process);
}

#[test]
fn nobody_watching_costs_no_message() {
    let mut cluster = Cluster::new();
    let serve = cluster.serve(&QUICK);
    let worker = slow_worker(&cluster, "one");
    let told = monitor(cluster.redis.port());
    let texts = || {
        let told = told.lock().unwrap();
        told.iter()
            .filter(|line| line.contains(":text:") && line.to_lowercase().contains("\"publish\""))
            .count()
    };
    let site = site(&cluster);
    let id = site.submit(&long("alone", 100));
    cluster.until_done(&id);
    assert!(
        !told.lock().unwrap().is_empty(),
        "the monitor sees what Redis is told"
    );
    assert_eq!(texts(), 0, "text was published that nobody watches");
    let id = site.submit(&long("watched", 1_500));
    let mut reader = Reader::default();
    reader.until_end(&mut site.job_events(&id, 0, None));
    wait::until("what the monitor saw", PATIENCE, || {
        (texts() > 0).then_some(())
    });
    ends_well(worker);
    ends_well(serve.process);
}

#[test]
fn request_whose_client_goes_away_is_cancelled() {
    let mut cluster = Cluster::new();
    let serve = cluster.serve(&QUICK);
    let worker = slow_worker(&cluster, "one");
    let asked = json!({"prompt": "a long one", "max_tokens": 20_000, "ignore_eos": true});
    let mut events = Events::post(&cluster.url, "/v1/infer", &asked);
    wait::until("its text", PATIENCE, || {
        (events.next_event()?.name == "text").then_some(())
    });
    drop(events);
    wait::until("its cancel", PATIENCE, || {
        let status = cluster.sql("SELECT status FROM batches WHERE owner = 'interactive'");
        (status == "cancelled").then_some(())
    });
    ends_well(worker);
    ends_well(serve.process);
}

/// What Redis is told from now on.
fn monitor(port: u16) -> Arc<Mutex<Vec<String>>> {
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(b"MONITOR\r\n").unwrap();
    let mut reader = BufReader::new(stream);
    let mut ready = String::new();
    reader.read_line(&mut ready).unwrap();
    assert_eq!(ready.trim(), "+OK");
    let told = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&told);
    std::thread::spawn(move || {
        for line in reader.lines().map_while(Result::ok) {
            kept.lock().unwrap().push(line);
        }
    });
    told
}
