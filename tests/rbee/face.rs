//! A node's HTTP face, as plain requests to the process see it.

use std::io::{Read, Write};
use std::net::TcpListener;

use candle_core::quantized::GgmlDType;
use rbee_test_services::process::free_port;
use rbee_tests::cluster::{Cluster, PATIENCE, TOKEN, ends_well};
use rbee_tests::http::{self, Answer};
use rbee_tests::loaded::OnDisk;
use rbee_tests::process::{Home, Running};
use rbee_tests::spec::ModelSpec;
use rbee_tests::to_gguf::BlockTypes;
use rbee_tests::{prompts, wait};
use serde_json::{Value as Json, json};

/// A node with a port of its own.
struct Face {
    cluster: Cluster,
    port: u16,
    processes: Vec<Running>,
}

impl Face {
    fn new(flags: &[&str]) -> Face {
        let mut cluster = Cluster::new();
        let serve = cluster
            .serve(&["--data-dir", "serve", "--engine", "stub"])
            .process;
        let port = free_port();
        let at = format!("127.0.0.1:{port}");
        let fixed = [
            "--data-dir",
            "one",
            "--listen",
            &at,
            "--heartbeat-ms",
            "100",
        ];
        let worker = cluster.worker("one", &[&fixed[..], flags].concat());
        Face {
            cluster,
            port,
            processes: vec![worker, serve],
        }
    }

    fn ask(&self, request: &str, body: &str) -> Answer {
        self.send(&format!("{request}\r\nAuthorization: Bearer {TOKEN}"), body)
    }

    /// A request as it goes over the wire; its first line lacks the version.
    fn send(&self, request: &str, body: &str) -> Answer {
        http::send(self.port, request, body)
    }

    fn until_loaded(&self) {
        wait::until("a model in memory", PATIENCE, || {
            (self.send("GET /health", "").json()["model_loaded"] == true).then_some(())
        });
    }
}

#[test]
fn face_answers_what_its_users_know() {
    let model = OnDisk::new(&ModelSpec::qwen3(), BlockTypes::All(GgmlDType::Q8_0));
    let model = model.path.to_str().expect("the path is a text");
    let face = Face::new(&["--model", model, "--slots", "3"]);
    face.until_loaded();
    let health = face.send("GET /health", "").json();
    assert_eq!(health["status"], "healthy");
    assert_eq!(health["state"], "ready");
    assert_eq!(health["slots"], 3);

    let progress = face.ask("GET /v1/loading/progress", "");
    assert_eq!(progress.status, 200);
    assert_eq!(
        progress.told().last().expect("there is one")["event"],
        "ready"
    );
    assert_eq!(progress.events().last(), Some(&"[DONE]"));

    let body = json!({"prompt": "Why?", "max_tokens": 9, "ignore_eos": true}).to_string();
    let answer = face.ask("POST /v1/inference\r\nX-Correlation-Id: mine", &body);
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert!(
        answer
            .text
            .to_lowercase()
            .contains("x-correlation-id: mine"),
        "{}",
        answer.text
    );
    assert!(answer.text.contains("text/event-stream"), "{}", answer.text);
    assert_eq!(answer.events().last(), Some(&"[DONE]"));
    let told = answer.told();
    assert_eq!(told[0]["event"], "started");
    let end = &told[told.len() - 1];
    assert_eq!(
        (&end["event"], &end["tokens_out"], &end["stop_reason"]),
        (&json!("end"), &json!(9), &json!("MAX_TOKENS"))
    );
    assert!(end["decode_time_ms"].is_u64(), "{end}");
    let tokens = || told.iter().filter(|event| event["event"] == "token");
    assert!(
        tokens().all(|event| event["t"].is_string() && event["i"].is_u64()),
        "{told:?}"
    );
    let text: String = tokens().filter_map(|event| event["t"].as_str()).collect();

    // The face and a batch give the same text.
    let home = Home::new();
    home.write("in.jsonl", format!("{body}\n"));
    home.rbee(["run", "in.jsonl", "-o", "out.jsonl", "--model", model])
        .exits(0);
    assert_eq!(home.lines("out.jsonl")[0]["text"], text);

    let metrics = face.ask("GET /metrics", "");
    let lines = [
        "rbee_node_models_resident 1",
        "rbee_node_slots 3",
        "rbee_node_time_to_first_token_seconds_count",
        "# EOF",
    ];
    for line in lines {
        assert!(
            metrics.body().contains(line),
            "no {line}: {}",
            metrics.body()
        );
    }
    // What the panels for Grafana ask for is told here, or by the server.
    let port = face.cluster.url.rsplit(':').next().unwrap();
    let server = http::send(
        port.parse().unwrap(),
        &format!("GET /metrics\r\nAuthorization: Bearer {TOKEN}"),
        "",
    );
    let panels = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/grafana/rbee.json");
    let panels = std::fs::read_to_string(panels).unwrap();
    let is_part = |letter: char| letter.is_ascii_lowercase() || letter == '_';
    let asked = panels.split(|letter| !is_part(letter));
    let asked: Vec<&str> = asked.filter(|word| word.starts_with("rbee_")).collect();
    assert!(asked.len() > 20, "{asked:?}");
    for name in asked {
        let line = |answer: &Answer| answer.body().lines().any(|line| line.starts_with(name));
        assert!(line(&metrics) || line(&server), "nobody tells {name}");
    }
}

#[test]
fn face_refuses_strangers_and_wrong_questions_in_capitals() {
    let face = Face::new(&["--engine", "stub", "--model", "made-up"]);
    face.until_loaded();
    for route in [
        "GET /metrics",
        "GET /v1/loading/progress",
        "POST /v1/inference",
        "GET /x",
    ] {
        assert_eq!(face.send(route, "").status, 401, "{route}");
        let wrong = format!("{route}\r\nAuthorization: Bearer another token");
        assert_eq!(face.send(&wrong, "").status, 401, "{route}");
    }
    assert_eq!(face.send("GET /health", "").status, 200);
    let foreign = "GET /health\r\nOrigin: https://evil.example";
    assert_eq!(face.send(foreign, "").status, 403);
    let refused = [
        ("nonsense".to_owned(), 400, "INVALID_REQUEST"),
        (
            json!({"prompt": "x", "temperature": 9}).to_string(),
            400,
            "INVALID_REQUEST",
        ),
        (
            json!({"prompt": "x", "model": "another"}).to_string(),
            404,
            "MODEL_NOT_FOUND",
        ),
    ];
    for (body, status, code) in refused {
        let answer = face.ask("POST /v1/inference", &body);
        assert_eq!(answer.status, status, "{}", answer.text);
        assert_eq!(answer.json()["error"]["code"], code);
        assert!(answer.json()["error"]["message"].is_string());
    }
    // A prompt that cannot be computed is noticed behind the status: both ways end with the same word.
    let long = "word ".repeat(200_000);
    let answer = face.ask(
        "POST /v1/inference",
        &json!({"prompt": long, "max_tokens": 1}).to_string(),
    );
    match answer.status {
        200 => {
            assert_eq!(
                answer.told().last().expect("there is one")["event"],
                "error"
            );
            assert_eq!(answer.events().last(), Some(&"[DONE]"));
        }
        status => assert_eq!(status, 400, "{}", answer.body()),
    }
}

#[test]
fn callback_is_sent_once_the_face_accepts_requests() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port can be had");
    let url = format!(
        "http://{}/started?secret=canary",
        listener.local_addr().expect("it is bound")
    );
    let hearing = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("somebody calls");
        stream
            .set_read_timeout(Some(PATIENCE))
            .expect("a stream has a timeout");
        let mut heard = Vec::new();
        let mut piece = [0; 4096];
        while !heard.ends_with(b"}") {
            let read = stream.read(&mut piece).expect("the call comes whole");
            assert!(read > 0, "it was cut off");
            heard.extend_from_slice(&piece[..read]);
        }
        stream
            .write_all(b"HTTP/1.1 204 No Content\r\n\r\n")
            .expect("it can be answered");
        listener
            .set_nonblocking(true)
            .expect("a listener has modes");
        (String::from_utf8_lossy(&heard).into_owned(), listener)
    });
    let face = Face::new(&["--engine", "stub", "--callback-url", &url]);
    let (heard, listener) = hearing.join().expect("a call came");
    assert!(heard.starts_with("POST /started?secret=canary"), "{heard}");
    let (_, body) = heard.split_once("\r\n\r\n").expect("it has a body");
    let told: Json = serde_json::from_str(body).expect("it is JSON");
    assert_eq!(told["name"], "one");
    assert_eq!(told["uri"], format!("http://127.0.0.1:{}", face.port));
    // A batch is computed and the node leaves: nobody called a second time.
    let id = face
        .cluster
        .submit(&prompts::short(3, 2), &["--model", "made-up"]);
    face.cluster.until_done(&id);
    let processes = face.processes;
    let said = processes[0].stderr();
    assert!(!said.contains("canary"), "{said}");
    processes.into_iter().for_each(ends_well);
    assert!(listener.accept().is_err(), "it called again");
}

#[test]
fn face_wider_than_loopback_wants_a_token_worth_its_name() {
    let mut cluster = Cluster::new();
    let serve = cluster.serve(&["--data-dir", "serve"]);
    let wide = cluster
        .rbee([
            "worker",
            "--name",
            "one",
            "--listen",
            "0.0.0.0:0",
            "--engine",
            "stub",
        ])
        .env("RBEE_DATABASE_URL", &cluster.database)
        .env("RBEE_REDIS_URL", cluster.redis.url())
        .env("RBEE_API_TOKEN", "short")
        .exits(2);
    wide.says("token");
    ends_well(serve.process);
}
