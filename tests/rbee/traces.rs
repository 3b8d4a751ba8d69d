//! Traces to a collector: what it hears of a batch, and that it costs nobody anything.

use std::collections::HashSet;

use axum::http::StatusCode;
use rbee_tests::cluster::{Cluster, PATIENCE, TOKEN, ends_well};
use rbee_tests::collector::{Collector, Span};
use rbee_tests::process::{Home, binary_with_failpoints};
use rbee_tests::wait;

/// What prompts and nothing else say.
const CANARY: &str = "canary-prompt";
const JOBS: usize = 20;

fn prompts() -> String {
    let line = |n| format!("{{\"prompt\":\"{CANARY} {n}\",\"max_tokens\":6}}\n");
    (0..JOBS).map(line).collect()
}

fn named<'a>(spans: &'a [Span], name: &str) -> Vec<&'a Span> {
    spans.iter().filter(|span| span.name == name).collect()
}

/// The spans of a batch, once all of it was told.
fn until_told(collector: &Collector, id: &str) -> Vec<Span> {
    wait::until("the whole trace", PATIENCE, || {
        let mut spans = collector.spans();
        spans.retain(|span| span.attribute("rbee.batch") == Some(id));
        let is_whole = !named(&spans, "batch").is_empty()
            && !named(&spans, "load").is_empty()
            && named(&spans, "attempt").len() >= JOBS;
        is_whole.then_some(spans)
    })
}

#[test]
fn batch_of_a_cluster_is_one_trace_across_its_processes_without_a_word_of_its_prompts() {
    let collector = Collector::answering(StatusCode::OK);
    let mut cluster = Cluster::new();
    cluster.program = binary_with_failpoints();
    let endpoint = (
        "OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(),
        collector.url.clone(),
    );
    cluster.settings.push(endpoint);
    let serve = cluster.serve(&["--data-dir", "serve", "--engine", "stub"]);
    let flags = [
        "--data-dir",
        "one",
        "--engine",
        "stub",
        "--heartbeat-ms",
        "100",
    ];
    let worker = cluster.worker("one", &flags);
    let id = cluster.submit(&prompts(), &[]);
    cluster.until_done(&id);
    let spans = until_told(&collector, &id);
    let traces: HashSet<&[u8]> = spans.iter().map(|span| span.trace.as_slice()).collect();
    assert_eq!(traces.len(), 1, "{spans:#?}");
    let [whole] = named(&spans, "batch")[..] else {
        panic!("one span is the batch: {spans:#?}");
    };
    assert_eq!((whole.trace.len(), whole.id.len()), (16, 8));
    assert!(whole.parent.is_empty());
    assert_eq!(
        whole.attribute("rbee.jobs"),
        Some(JOBS.to_string().as_str())
    );
    let ids: HashSet<&[u8]> = spans.iter().map(|span| span.id.as_slice()).collect();
    assert_eq!(ids.len(), spans.len(), "each span has an id of its own");
    for part in spans.iter().filter(|span| *span != whole) {
        assert_eq!(part.parent, whole.id, "{part:#?}");
        assert!(part.ended_ns >= part.began_ns && part.began_ns > 0);
    }
    let commands = |name: &str| -> HashSet<String> {
        let of = |span: &&Span| span.process.clone();
        let pairs = named(&spans, name).iter().flat_map(of).collect::<Vec<_>>();
        let commands = pairs.into_iter().filter(|(key, _)| key == "rbee.command");
        commands.map(|(_, value)| value).collect()
    };
    for (name, command) in [
        ("load", "serve"),
        ("place", "serve"),
        ("attempt", "worker"),
        ("store", "worker"),
    ] {
        assert_eq!(
            commands(name),
            HashSet::from([command.to_owned()]),
            "{name}"
        );
    }
    let attempts = named(&spans, "attempt");
    let jobs: HashSet<&str> = attempts
        .iter()
        .filter_map(|span| span.attribute("rbee.job"))
        .collect();
    assert_eq!((jobs.len(), attempts.len()), (JOBS, JOBS));
    for attempt in &attempts {
        assert_eq!(attempt.attribute("rbee.node"), Some("one"));
        assert_eq!(attempt.attribute("rbee.completion_tokens"), Some("6"));
        for name in ["node_wait", "prepare", "slot_wait", "prompt", "decode"] {
            let name = format!("rbee.{name}_ms");
            assert!(attempt.attribute(&name).is_some(), "{name}: {attempt:#?}");
        }
    }
    let cancelled = cluster.submit(
        &prompts().replace("}\n", ",\"seed\":7}\n"),
        &["--node", "nobody"],
    );
    cluster.rbee(["cancel", &cancelled]).exits(0);
    wait::until("the end of a cancelled batch", PATIENCE, || {
        let spans = collector.spans();
        let ends = named(&spans, "batch").into_iter().cloned();
        let mut ends = ends.filter(|span| span.attribute("rbee.batch") == Some(&cancelled));
        ends.next().map(|end| assert_eq!(end.status, 2, "{end:#?}"))
    });
    ends_well(worker);
    ends_well(serve.process);
    // The end of a process sends what was left: the last requests too.
    let requests: Vec<Span> = collector.spans();
    let submit = named(&requests, "POST /v1/batches");
    assert_eq!(submit.len(), 2, "{submit:#?}");
    assert_eq!(
        submit[0].attribute("http.response.status_code"),
        Some("201")
    );
    assert!(
        requests
            .iter()
            .any(|span| span.name == "POST /v1/batches/{id}/cancel")
    );
    for secret in [CANARY, TOKEN] {
        assert!(!collector.has_seen(secret), "{secret} was sent");
    }
}

#[test]
fn collector_that_fails_or_is_not_there_changes_nothing_but_what_is_told() {
    let home = Home::new();
    home.write("in.jsonl", prompts());
    let plain = ["run", "in.jsonl", "-o", "plain.jsonl", "--engine", "stub"];
    home.command(&binary_with_failpoints(), plain).exits(0);
    let failing = Collector::answering(StatusCode::SERVICE_UNAVAILABLE);
    for (number, url) in [failing.url.as_str(), "http://127.0.0.1:1"]
        .iter()
        .enumerate()
    {
        let out = format!("{number}.jsonl");
        let run = ["run", "in.jsonl", "--fresh", "-o", &out, "--engine", "stub"];
        let traced = ["--otlp-endpoint", url];
        let run = run.iter().chain(&traced);
        let ended = home.command(&binary_with_failpoints(), run).exits(0);
        ended.says("spans were lost on their way to the collector");
        assert_eq!(home.read(&out), home.read("plain.jsonl"));
    }
    assert!(failing.requests() > 0);
    assert_eq!(failing.spans(), []);
}

#[test]
fn share_of_traces_that_is_wanted_is_sent() {
    let collector = Collector::answering(StatusCode::OK);
    let home = Home::new();
    home.write("in.jsonl", prompts());
    let run = |share: &str, out: &str| {
        let words = ["run", "in.jsonl", "--fresh", "-o", out, "--engine", "stub"];
        home.command(&binary_with_failpoints(), words)
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url)
            .env("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
            .env("OTEL_TRACES_SAMPLER_ARG", share)
    };
    run("0", "none.jsonl").exits(0);
    assert_eq!(collector.spans(), []);
    run("1", "all.jsonl").exits(0);
    assert_eq!(named(&collector.spans(), "attempt").len(), JOBS);
    run("some", "wrong.jsonl")
        .exits(2)
        .says("OTEL_TRACES_SAMPLER_ARG");
}

#[test]
fn program_without_traces_says_so_and_lets_the_environment_be() {
    let home = Home::new();
    home.write("in.jsonl", prompts());
    let run = ["run", "in.jsonl", "-o", "out.jsonl", "--engine", "stub"];
    let traced = ["--otlp-endpoint", "http://127.0.0.1:1"];
    let asked = run.iter().chain(&traced);
    home.rbee(asked)
        .exits(2)
        .says("built without the feature otlp");
    let collector = Collector::answering(StatusCode::OK);
    let around = home
        .rbee(run)
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url);
    around.exits(0);
    assert_eq!(collector.requests(), 0);
}
