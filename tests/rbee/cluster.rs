//! A whole cluster with models in it: the bytes of one machine, model files on their way between machines, and what is
//! said of jobs that wait.

use std::path::{Path, PathBuf};

use candle_core::quantized::GgmlDType;
use rbee_test_services::process::free_port;
use rbee_tests::cluster::{Cluster, PATIENCE, TOKEN, ends_well};
use rbee_tests::fake_hub::FakeHub;
use rbee_tests::loaded::OnDisk;
use rbee_tests::process::{Home, Rbee, Running};
use rbee_tests::prompts::{self, jsonl};
use rbee_tests::spec::ModelSpec;
use rbee_tests::to_gguf::BlockTypes;
use rbee_tests::to_safetensors::write_safetensors;
use rbee_tests::{test_models, wait};
use serde_json::{Value as Json, json};
use sha2::{Digest, Sha256};

/// What `rbee run` makes of the same prompts on one machine.
fn undisturbed(home: &Home, prompts: &str, model: &str, settings: &[(&str, &str)]) -> String {
    home.write("run.jsonl", prompts);
    let command = ["run", "run.jsonl", "-o", "run.out", "--model", model];
    let run = settings
        .iter()
        .fold(home.rbee(command), |run, (name, value)| {
            run.env(name, value)
        });
    run.exits(0);
    home.read("run.out")
}

/// A command of a client on another machine: it shares no folder with the nodes.
fn client(cluster: &Cluster, home: &Home, arguments: &[&str]) -> Rbee {
    home.rbee(arguments)
        .env("RBEE_SERVER", &cluster.url)
        .env("RBEE_API_TOKEN", TOKEN)
}

/// Submits from a client's machine; the batch's id.
fn submit_from(cluster: &Cluster, home: &Home, arguments: &[&str]) -> String {
    let command = [&["submit", "in.jsonl"][..], arguments].concat();
    let submitted = client(cluster, home, &command).exits(0);
    submitted.text().trim().to_owned()
}

/// What `rbee nodes --json` says of a node.
fn node(cluster: &Cluster, name: &str) -> Json {
    let listed = cluster.rbee(["nodes", "--json"]).exits(0);
    let nodes = listed
        .text()
        .lines()
        .map(|line| serde_json::from_str(line).expect("a line is JSON"));
    let named = |node: &Json| node["report"]["name"] == name && node["lost"] == false;
    nodes.into_iter().find(named).unwrap_or_default()
}

fn until_resident(cluster: &Cluster, name: &str) {
    wait::until(
        &format!("a model in the memory of {name}"),
        PATIENCE,
        || {
            let resident = node(cluster, name)["report"]["resident"].as_array()?.len();
            (resident > 0).then_some(())
        },
    );
}

/// Waits until `rbee status` gives this reason for jobs that wait.
fn until_waits(cluster: &Cluster, id: &str, words: &str) {
    wait::until(
        &format!("a batch that waits since {words}"),
        PATIENCE,
        || {
            let status = cluster.status(id);
            status["waiting"].as_str()?.contains(words).then_some(())
        },
    );
}

/// Waits until a node's report names a model on its disk: other nodes ask it for the model from then on.
fn until_on_disk(cluster: &Cluster, name: &str, sha256: &str) {
    wait::until(
        &format!("{name} having {sha256} on its disk"),
        PATIENCE,
        || {
            let node = node(cluster, name);
            let models = node["report"]["on_disk"].as_array()?;
            models
                .iter()
                .any(|found| found["model"] == sha256)
                .then_some(())
        },
    );
}

fn small_model(spec: &ModelSpec) -> OnDisk {
    OnDisk::new(spec, BlockTypes::All(GgmlDType::Q8_0))
}

fn sha256(path: &Path) -> String {
    hex::encode(Sha256::digest(
        std::fs::read(path).expect("the model is there"),
    ))
}

fn blob(cluster: &Cluster, data: &str, sha256: &str) -> PathBuf {
    cluster.home.path(&format!("{data}/models/blobs/{sha256}"))
}

#[test]
fn two_nodes_of_different_size_give_the_bytes_of_one_machine() {
    let model = test_models::smollm2();
    let model = model.to_str().expect("the path is a text");
    let prompts = prompts::varied(48, 12);
    let mut cluster = Cluster::new();
    let serve = cluster.serve(&["--data-dir", "serve"]);
    let start = |name: &'static str, slots, threads, chunk| {
        cluster.worker(
            name,
            &[
                "--data-dir",
                name,
                "--model",
                model,
                "--slots",
                slots,
                "--threads",
                threads,
                "--chunk-tokens",
                chunk,
                "--heartbeat-ms",
                "100",
            ],
        )
    };
    let nodes = [start("one", "2", "1", "33"), start("two", "7", "2", "0")];
    until_resident(&cluster, "one");
    until_resident(&cluster, "two");
    let id = cluster.submit(&prompts, &["--model", model]);
    cluster.until_done(&id);
    cluster.check_rows(&id);
    let took_part = cluster.count(&format!(
        "SELECT COUNT(DISTINCT stats::json->>'node') FROM results \
         WHERE batch_no = (SELECT batch_no FROM batches WHERE id = '{id}')"
    ));
    assert_eq!(took_part, 2, "both nodes computed");
    let right = undisturbed(&Home::new(), &prompts, model, &[]);
    assert!(
        cluster.export(&id) == right,
        "the export differs from what one machine gives"
    );
    // The same prompts are the same batch.
    assert_eq!(cluster.submit(&prompts, &["--model", model]), id);
    nodes.into_iter().for_each(ends_well);
    ends_well(serve.process);
}

#[test]
fn model_of_a_clients_own_folder_reaches_empty_nodes_whoever_has_it() {
    let model = small_model(&ModelSpec::qwen3());
    let digest = sha256(&model.path);
    let own = Home::new();
    std::fs::copy(&model.path, own.path("own.gguf")).expect("the folder can be written");
    let prompts = prompts::short(6, 8);
    own.write("in.jsonl", &prompts);
    let right = undisturbed(&own, &prompts, "./own.gguf", &[]);

    let mut cluster = Cluster::new();
    let serve = cluster.serve(&["--data-dir", "serve"]);
    let mut faces = Vec::new();
    let mut start = |name: &'static str| -> Running {
        let at = format!("127.0.0.1:{}", free_port());
        let address = format!("http://{at}");
        let flags = [
            "--data-dir",
            name,
            "--listen",
            &at,
            "--address",
            &address,
            "--heartbeat-ms",
            "100",
        ];
        let node = cluster.worker(name, &flags);
        faces.push(address);
        node
    };
    let nodes = [start("one"), start("two"), start("three")];
    let computed_by = |name: &str| {
        let flags = ["--model", "./own.gguf", "--new", "--node", name];
        let id = submit_from(&cluster, &own, &flags);
        cluster.until_done(&id);
        assert!(cluster.export(&id) == right, "{name} gives other bytes");
        assert_eq!(sha256(&blob(&cluster, name, &digest)), digest);
    };
    let knows = |name: &str| {
        wait::until(
            &format!("{name}'s word that it has the model"),
            PATIENCE,
            || {
                let disk = node(&cluster, name)["report"]["on_disk"].to_string();
                disk.contains(&digest).then_some(())
            },
        );
    };

    // The client brought it to the server, and nobody else has it.
    computed_by("one");
    assert!(
        nodes[0]
            .stderr()
            .contains(&format!("fetching from {}", cluster.url)),
        "{}",
        nodes[0].stderr()
    );
    knows("one");

    // A file that is not what its name says is not taken from a peer, and the next machine is asked.
    let kept = blob(&cluster, "one", &digest);
    let bytes = std::fs::metadata(&kept).expect("it is there").len();
    std::fs::remove_file(&kept).expect("the folder can be written");
    std::fs::write(
        &kept,
        vec![b'G'; usize::try_from(bytes).expect("it is small")],
    )
    .expect("it can be written");
    computed_by("two");
    let said = nodes[1].stderr();
    assert!(said.contains(&format!("not from {}", faces[0])), "{said}");
    assert!(
        said.contains(&format!("fetching from {}", cluster.url)),
        "{said}"
    );
    knows("two");

    // Without the server's file it comes from a peer that has the right one.
    std::fs::remove_file(blob(&cluster, "serve", &digest)).expect("the server has it");
    std::fs::remove_file(&kept).expect("the folder can be written");
    // The client sends it again where the server lost it; so the peer is asked first.
    computed_by("three");
    let said = nodes[2].stderr();
    assert!(
        said.contains(&format!("fetching from {}", faces[1])),
        "{said}"
    );
    assert!(
        !said.contains(&format!("fetching from {}", cluster.url)),
        "{said}"
    );
    nodes.into_iter().for_each(ends_well);
    ends_well(serve.process);
}

#[test]
fn fetch_from_a_peer_that_hangs_is_seen_and_goes_on() {
    let model = small_model(&ModelSpec::llama3());
    let own = Home::new();
    std::fs::copy(&model.path, own.path("own.gguf")).expect("the folder can be written");
    own.write("in.jsonl", prompts::short(3, 4));
    let mut cluster = Cluster::new();
    let serve = cluster.serve(&["--data-dir", "serve", "--lease-ms", "60000"]);
    let at = format!("127.0.0.1:{}", free_port());
    let address = format!("http://{at}");
    let lease = ["--lease-ms", "60000", "--heartbeat-ms", "100"];
    let here = ["--data-dir", "one", "--listen", &at, "--address", &address];
    let one = cluster.worker("one", &[&here[..], &lease[..]].concat());
    let two = cluster.worker("two", &[&["--data-dir", "two"][..], &lease[..]].concat());
    let flags = ["--model", "./own.gguf", "--new", "--node"];
    let id = submit_from(&cluster, &own, &[&flags[..], &["one"][..]].concat());
    cluster.until_done(&id);
    until_on_disk(&cluster, "one", &sha256(&model.path));
    one.signal_all("STOP");
    let id = submit_from(&cluster, &own, &[&flags[..], &["two"][..]].concat());
    until_waits(&cluster, &id, "two is fetching ./own.gguf");
    let shown = cluster.rbee(["nodes"]).exits(0);
    let line = shown
        .text()
        .lines()
        .find(|line| line.starts_with("two"))
        .expect("the node is listed");
    assert!(
        line.contains("starting") && line.contains("fetching"),
        "{line}"
    );
    one.signal_all("CONT");
    cluster.until_done(&id);
    [one, two].into_iter().for_each(ends_well);
    ends_well(serve.process);
}

#[test]
fn two_models_in_one_batch_come_from_a_folder_and_from_the_hub() {
    let (folder, hub_model) = (
        small_model(&ModelSpec::qwen2()),
        small_model(&ModelSpec::qwen3()),
    );
    let hub = FakeHub::start();
    hub.add_large(
        "org/small-GGUF",
        "small.gguf",
        std::fs::read(&hub_model.path).expect("it is there"),
    );
    let named = "hf:org/small-GGUF::small.gguf";
    let own = Home::new();
    write_safetensors(
        &folder.checkpoint,
        &own.path("own"),
        candle_core::DType::BF16,
        2,
    );
    let lines: Vec<Json> = (0..12)
        .map(|at| match at % 2 {
            0 => json!({"prompt": format!("number {at}"), "max_tokens": 6}),
            _ => json!({"prompt": format!("number {at}"), "max_tokens": 6, "temperature": 0.9, "model": named}),
        })
        .collect();
    let prompts = jsonl(&lines);
    own.write("in.jsonl", &prompts);
    let endpoint = hub.endpoint();
    let right = undisturbed(&own, &prompts, "./own", &[("HF_ENDPOINT", &endpoint)]);

    let mut cluster = Cluster::new();
    cluster.settings.push(("HF_ENDPOINT".to_owned(), endpoint));
    let serve = cluster.serve(&["--data-dir", "serve"]);
    let nodes = ["one", "two"]
        .map(|name| cluster.worker(name, &["--data-dir", name, "--heartbeat-ms", "100"]));
    let id = submit_from(&cluster, &own, &["--model", "./own"]);
    cluster.until_done(&id);
    cluster.check_rows(&id);
    assert!(
        cluster.export(&id) == right,
        "the export differs from what one machine gives"
    );
    let status = cluster.status(&id);
    assert_eq!(
        status["models"].as_array().map(Vec::len),
        Some(2),
        "{status}"
    );
    nodes.into_iter().for_each(ends_well);
    ends_well(serve.process);
}

#[test]
fn status_says_why_a_batch_waits() {
    let model = small_model(&ModelSpec::qwen3());
    let model = model.path.to_str().expect("the path is a text");
    let mut cluster = Cluster::new();
    let serve = cluster.serve(&["--lease-ms", "6000", "--sweep-ms", "100"]);
    let prompts = prompts::short(1_500, 40);
    let id = cluster.submit(&prompts, &["--model", model]);
    until_waits(&cluster, &id, "no node is alive");
    assert!(
        cluster
            .rbee(["status", &id])
            .exits(0)
            .text()
            .contains("no node is alive")
    );

    let lease = [
        "--lease-ms",
        "6000",
        "--heartbeat-ms",
        "100",
        "--slots",
        "2",
        "--threads",
        "1",
    ];
    let one = cluster.worker("one", &[&["--data-dir", "one"][..], &lease[..]].concat());
    cluster.until_finished(&id, 1);
    cluster
        .rbee(["nodes", "drain", "one"])
        .exits(0)
        .says("takes nothing new");
    until_waits(&cluster, &id, "draining");
    assert_eq!(node(&cluster, "one")["state"], "draining");
    cluster
        .rbee(["nodes", "undrain", "one"])
        .exits(0)
        .says("takes work again");
    let so_far = cluster.finished(&id);
    cluster.until_finished(&id, so_far + 1);
    cluster
        .rbee(["nodes", "drain", "nobody"])
        .exits(2)
        .says("no node \"nobody\"");

    // What has begun on nodes of one kind waits for nodes that compute the same bytes.
    one.kill();
    let other = cluster.worker(
        "other",
        &[&["--data-dir", "other", "--kv", "f32"][..], &lease[..]].concat(),
    );
    until_waits(
        &cluster,
        &id,
        "no node is alive that computes the same bytes",
    );
    let same = cluster.worker("same", &[&["--data-dir", "same"][..], &lease[..4]].concat());
    cluster.until_done(&id);
    cluster.check_rows(&id);
    let right = undisturbed(&Home::new(), &prompts, model, &[]);
    assert!(
        cluster.export(&id) == right,
        "the export differs from what one machine gives"
    );
    [other, same].into_iter().for_each(ends_well);
    ends_well(serve.process);
}
