//! Batches whose file is being read: what is seen of them meanwhile, and what becomes of them.

use super::{ENDLESS, WATCHABLE, rbee, stub};
use rbee_tests::cluster::{Cluster, PATIENCE, TOKEN, ends_well};
use rbee_tests::fleet::{Fleet, Pace};
use rbee_tests::http::{Answer, send};
use rbee_tests::process::{Home, binary_with_failpoints};
use rbee_tests::python::passes;
use rbee_tests::server::Server;
use rbee_tests::wait;
use serde_json::{Value as Json, json};

/// A request with the token of the tests.
fn ask(server: &Server, line: &str, kind: &str, body: &str) -> Answer {
    let port = server.url.rsplit(':').next();
    let port = port.and_then(|port| port.parse().ok());
    let request = format!("{line}\r\nAuthorization: Bearer {TOKEN}\r\nContent-Type: {kind}");
    send(port.expect("its address ends with a port"), &request, body)
}

/// Makes a batch of so many jobs, and returns it as it was answered.
fn make(server: &Server, jobs: u64, max_tokens: u64, window: &str) -> Json {
    let line = |n| {
        let messages = json!([{"role": "user", "content": format!("Say {n}.")}]);
        json!({"custom_id": format!("line-{n}"), "method": "POST", "url": "/v1/chat/completions",
            "body": {"messages": messages, "max_tokens": max_tokens, "ignore_eos": true}})
    };
    let lines: Vec<String> = (0..jobs).map(|n| line(n).to_string()).collect();
    let form = format!(
        "--x\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n--x\r\n\
         Content-Disposition: form-data; name=\"file\"; filename=\"in.jsonl\"\r\n\r\n{}\r\n--x--\r\n",
        lines.join("\n")
    );
    let file = ask(
        server,
        "POST /v1/files",
        "multipart/form-data; boundary=x",
        &form,
    );
    assert_eq!(file.status, 200, "{}", file.text);
    let batch = json!({"input_file_id": file.json()["id"], "endpoint": "/v1/chat/completions",
        "completion_window": window});
    let made = ask(
        server,
        "POST /v1/batches",
        "application/json",
        &batch.to_string(),
    );
    assert_eq!(made.status, 200, "{}", made.text);
    made.json()
}

fn id_of(batch: &Json) -> &str {
    batch["id"].as_str().expect("a batch has an id")
}

fn status(server: &Server, home: &Home, id: &str) -> Json {
    rbee(server, home, &["status", id, "--json"])
        .exits(0)
        .json()
}

fn until(server: &Server, home: &Home, id: &str, wanted: &str) -> Json {
    wait::until(&format!("a batch that is {wanted}"), PATIENCE, || {
        let now = status(server, home, id);
        (now["status"] == wanted).then_some(now)
    })
}

#[test]
fn watchers_who_come_while_there_is_no_room_for_a_file_go_on_when_there_is() {
    let home = Home::new();
    let few: Vec<&str> = ["--max-jobs", "20"].into_iter().chain(ENDLESS).collect();
    let server = stub(&home, &few);
    let large = make(&server, 19, 10_000, "24h");
    assert_eq!(large["status"], "validating");
    assert_eq!(large["request_counts"]["total"], 0);
    until(&server, &home, id_of(&large), "in_progress");
    let waiting = make(&server, 3, 1, "24h");
    let waiting = id_of(&waiting);
    let unlucky = make(&server, 3, 1, "1s");
    let expired = until(&server, &home, id_of(&unlucky), "expired");
    assert_eq!(expired["request_counts"]["total"], 0, "{expired}");
    let now = status(&server, &home, waiting);
    assert_eq!(now["status"], "validating");
    assert_eq!(now["request_counts"]["total"], 0);
    let listed = rbee(&server, &home, &["list"]).exits(0);
    assert!(listed.text().contains("validating"), "{listed}");
    let early = rbee(&server, &home, &["export", waiting]).exits(2);
    early.says("is not known yet");
    let follow = ["export", waiting, "--follow", "-o", "out.jsonl"];
    let export = rbee(&server, &home, &follow).start();
    let watch = rbee(&server, &home, &["watch", waiting]).start();
    wait::until("the watcher's first look", PATIENCE, || {
        watch.stdout().contains("validating").then_some(())
    });
    rbee(&server, &home, &["cancel", id_of(&large)]).exits(0);
    let watched = watch.wait();
    assert_eq!(watched.code, Some(0), "{watched}");
    let last = watched.text().lines().last().unwrap_or_default();
    let told: Json = serde_json::from_str(last).expect("each line is JSON");
    let end = told.to_string();
    assert!(
        end.contains("completed") && end.contains("\"total\":3"),
        "{end}"
    );
    let exported = export.wait();
    assert_eq!(exported.code, Some(0), "{exported}");
    assert_eq!(home.lines("out.jsonl").len(), 3);
    ends_well(server.process);
}

#[test]
fn official_client_sees_a_large_file_validating_and_its_counts_when_they_are_known() {
    let home = Home::new();
    let server = stub(&home, &ENDLESS);
    passes(&home, "openai/validating.py", &server.url, &[]);
    ends_well(server.process);
}

#[test]
fn faults_file_whose_reader_dies_is_read_again_and_makes_each_job_once() {
    for (moment, count) in [("filled", 2), ("replacing", 1), ("replaced", 1)] {
        let home = Home::new();
        let spent = home.path("spent");
        let armed = format!("{moment}:{count}:KILL:{}", spent.display());
        let words = [
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--engine",
            "stub",
            "--lease-ms",
            "5000",
        ];
        let serve = home.command(&binary_with_failpoints(), words.iter().chain(&WATCHABLE));
        let serve = serve
            .env("RBEE_API_TOKEN", TOKEN)
            .env("RBEE_FAILPOINT", armed);
        let server = Server::started(serve);
        let made = passes(&home, "openai/read_again.py", &server.url, &["make"]);
        let id = made.text().trim().to_owned();
        wait::until(moment, PATIENCE, || spent.exists().then_some(()));
        server.process.kill();
        let server = stub(&home, &WATCHABLE);
        passes(&home, "openai/read_again.py", &server.url, &["end", &id]);
        let list = rbee(&server, &home, &["list", "--json"]).exits(0);
        assert_eq!(list.text().lines().count(), 1, "{moment}: {list}");
        ends_well(server.process);
    }
}

#[test]
fn faults_two_leaders_who_read_one_file_make_one_batch() {
    let mut cluster = Cluster::new();
    cluster.program = binary_with_failpoints();
    let mut fleet = Fleet::of(cluster, Pace::usual().token_ms(1));
    let spent = fleet.cluster.home.path("spent");
    let armed = format!("replacing:1:STOP:{}", spent.display());
    fleet.environment.push(("RBEE_FAILPOINT".to_owned(), armed));
    fleet.serve();
    fleet.environment.clear();
    fleet.serve();
    let url = fleet.servers[1].url.clone();
    let home = &fleet.cluster.home;
    let made = passes(home, "openai/read_again.py", &url, &["make"]);
    let id = made.text().trim().to_owned();
    // The first leader has loaded all of it, and stands before it shows it.
    wait::until("the moment", PATIENCE, || spent.exists().then_some(()));
    fleet.node("one");
    passes(
        &fleet.cluster.home,
        "openai/read_again.py",
        &url,
        &["end", &id],
    );
    fleet.servers[0].process.signal_all("CONT");
    fleet.speak_to(0);
    wait::until("an answer of the first", PATIENCE, || {
        let status = fleet.cluster.rbee(["status", &id, "--json"]).run();
        (status.code == Some(0)).then_some(())
    });
    fleet.cluster.check_rows(&id);
    let shown = "SELECT COUNT(*) FROM batches WHERE visible = 1";
    assert_eq!(fleet.cluster.count(shown), 1);
    passes(
        &fleet.cluster.home,
        "openai/read_again.py",
        &url,
        &["end", &id],
    );
    // What the first had loaded is swept after a quarter of an hour: this test does not wait for that.
    fleet.cluster.sql("DELETE FROM batches WHERE visible = 0");
    fleet.end();
}
