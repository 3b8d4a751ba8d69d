//! `rbee doctor`: a verdict and a remedy for each thing that rbee stands on.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;

use rbee_tests::cluster::Cluster;
use rbee_tests::process::{Ended, Home, Rbee};
use serde_json::Value as Json;

/// Every finding by what was looked at; of two clocks the worse one.
fn findings(ended: &Ended) -> BTreeMap<String, Json> {
    let mut found: BTreeMap<String, Json> = BTreeMap::new();
    for line in ended.text().lines() {
        let one: Json =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let has_remedy = one["remedy"].is_string();
        assert_eq!(one["verdict"] != "ok", has_remedy, "{one}");
        let what = one["check"]
            .as_str()
            .expect("a check has a name")
            .to_owned();
        if found
            .get(&what)
            .is_none_or(|there| there["verdict"] == "ok")
        {
            found.insert(what, one);
        }
    }
    found
}

fn verdict(doctor: Rbee, code: i32, what: &str) -> String {
    let ended = doctor.exits(code);
    let found = findings(&ended);
    let one = found
        .get(what)
        .unwrap_or_else(|| panic!("nothing of {what}: {ended}"));
    one["verdict"]
        .as_str()
        .expect("a verdict is a text")
        .to_owned()
}

#[test]
fn doctor_finds_nothing_that_fails_on_a_new_machine() {
    let home = Home::new();
    let ended = home.rbee(["doctor", "--json"]).exits(0);
    let found = findings(&ended);
    for what in [
        "version", "config", "data", "secrets", "memory", "devices", "limits", "models", "store",
        "server",
    ] {
        assert!(found.contains_key(what), "{what}: {ended}");
    }
    assert_eq!(found["models"]["verdict"], "warn");
    let lines = home.rbee(["doctor"]).exits(0);
    let models = lines
        .text()
        .lines()
        .find(|line| line.contains(" models "))
        .unwrap();
    assert!(
        models.starts_with("warn") && models.contains("rbee models pull"),
        "{models}"
    );
}

#[test]
fn doctor_sees_secrets_that_others_can_read_and_a_store_that_is_none() {
    let home = Home::new();
    let doctor = || home.rbee(["doctor", "--json"]);
    doctor().exits(0);
    let token = home.write(".local/share/rbee/api-token", "0123456789abcdef\n");
    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(verdict(doctor(), 1, "secrets"), "fail");
    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(verdict(doctor(), 0, "secrets"), "ok");
    home.write(
        "broken.db",
        "this is no database, however long it is said to be one",
    );
    let broken = home.rbee(["doctor", "--json", "--store", "broken.db"]);
    assert_eq!(verdict(broken, 1, "store"), "fail");
}

#[test]
fn doctor_looks_at_store_queue_server_and_clocks_of_a_cluster() {
    let mut cluster = Cluster::new();
    let before = cluster.member(&["doctor", "--json"], &["--server", "http://127.0.0.1:9"]);
    let ended = before.exits(1);
    let found = findings(&ended);
    assert_eq!(found["server"]["verdict"], "fail", "{ended}");
    // It looks only: the database is as empty as it was.
    assert!(
        found["store"]["found"].as_str().unwrap().contains("empty"),
        "{ended}"
    );
    assert_eq!(
        cluster.count("SELECT COUNT(*) FROM pg_tables WHERE schemaname = 'public'"),
        0
    );

    let serve = cluster.serve(&["--engine", "stub"]);
    let ended = cluster.member(&["doctor", "--json"], &[]).exits(0);
    let found = findings(&ended);
    for what in ["store", "queue", "clock", "server", "token"] {
        assert_eq!(found[what]["verdict"], "ok", "{what}: {ended}");
    }
    assert!(!ended.text().contains(rbee_tests::cluster::TOKEN));
    let other = cluster
        .member(&["doctor", "--json"], &[])
        .env("RBEE_API_TOKEN", "another-token-0123456789");
    assert_eq!(verdict(other, 1, "token"), "fail");

    cluster.redis.ask(&["CONFIG", "SET", "maxmemory", "64mb"]);
    cluster
        .redis
        .ask(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    assert_eq!(
        verdict(cluster.member(&["doctor", "--json"], &[]), 0, "queue"),
        "warn"
    );
    cluster.redis.down();
    assert_eq!(
        verdict(cluster.member(&["doctor", "--json"], &[]), 1, "queue"),
        "fail"
    );
    drop(serve);
}

#[test]
fn doctor_sees_a_clock_that_is_off() {
    let cluster = Cluster::new();
    let faketime = ["faketime".to_owned(), "-f".to_owned(), "+1h".to_owned()];
    let ended = cluster
        .member(&["doctor", "--json"], &["--server", ""])
        .behind(&faketime)
        .run();
    let found = findings(&ended);
    assert_eq!(found["clock"]["verdict"], "warn", "{ended}");
    assert!(
        found["clock"]["found"].as_str().unwrap().contains("-36"),
        "{ended}"
    );
}
