//! Tokens as users meet them: made, shown, used by others, revoked; and secrets that are told nowhere.

use rbee_tests::cluster::{Cluster, PATIENCE, TOKEN, ends_well};
use rbee_tests::process::{Home, Rbee};
use rbee_tests::server::Server;
use rbee_tests::{prompts, wait};
use serde_json::Value as Json;

/// In a prompt, so that it is found wherever prompts are told.
const CANARY: &str = "canary-8c1d";

/// A command of somebody else: another home, and a token of theirs.
fn by<'a>(
    home: &Home,
    url: &str,
    token: &str,
    arguments: impl IntoIterator<Item = &'a str>,
) -> Rbee {
    home.rbee(arguments)
        .env("RBEE_SERVER", url)
        .env("RBEE_API_TOKEN", token)
}

fn create(server: &Server, home: &Home, arguments: &[&str]) -> String {
    let command = ["token", "create"].iter().chain(arguments);
    let made = server.rbee(home, command).exits(0);
    made.text().trim().to_owned()
}

fn ids(listed: &str) -> Vec<String> {
    let id = |line: &str| {
        let batch: Json = serde_json::from_str(line).unwrap();
        batch["id"].as_str().unwrap().to_owned()
    };
    listed.lines().map(id).collect()
}

#[test]
fn others_get_tokens_of_their_own_and_see_their_own_batches() {
    let home = Home::new();
    let server = Server::start(&home, &[]);
    let own = server.rbee(&home, ["token", "show"]).exits(0);
    let own = own.text().trim().to_owned();
    assert_eq!(own, home.rbee(["token", "show"]).exits(0).text().trim());
    let anns = create(&server, &home, &["ann"]);
    let bobs = create(&server, &home, &["bob", "--max-queued", "10"]);
    let readers = create(&server, &home, &["grafana", "--role", "read"]);
    let (ann, bob) = (Home::new(), Home::new());
    let prompt = format!("{{\"prompt\": \"{CANARY}\", \"max_tokens\": 4}}\n");
    ann.write("a.jsonl", &prompt);
    let submitted = by(&ann, &server.url, &anns, ["submit", "a.jsonl"]).exits(0);
    let id = submitted.text().trim().to_owned();
    let of_own = server.submit(&home, &prompts::short(3, 4), &[]);
    let listed = |home: &Home, token: &str| {
        let ended = by(home, &server.url, token, ["list", "--json"]).exits(0);
        ids(ended.text())
    };
    assert_eq!(listed(&ann, &anns), std::slice::from_ref(&id));
    assert!(listed(&bob, &bobs).is_empty());
    assert_eq!(listed(&bob, &readers), [of_own, id.clone()]);
    server.until(&home, &id, "completed");
    let exported = by(&ann, &server.url, &anns, ["export", &id]).exits(0);
    assert_eq!(
        exported.text(),
        server.rbee(&home, ["export", &id]).exits(0).text()
    );
    for command in [
        vec!["status", &id],
        vec!["export", &id],
        vec!["cancel", &id],
        vec!["rerun", &id],
        vec!["diff", &id, &id],
    ] {
        by(&bob, &server.url, &bobs, command)
            .exits(2)
            .says("there is no batch");
    }
    bob.write("many.jsonl", prompts::short(11, 4));
    by(&bob, &server.url, &bobs, ["submit", "many.jsonl"])
        .exits(2)
        .says("11 jobs");
    by(&bob, &server.url, &readers, ["submit", "many.jsonl"])
        .exits(1)
        .says("only reads");
    by(&bob, &server.url, &bobs, ["token", "list"])
        .exits(1)
        .says("role admin");
    let shown = server.rbee(&home, ["token", "list", "--json"]).exits(0);
    let names: Vec<String> = (shown.text().lines())
        .map(|line| {
            let token: Json = serde_json::from_str(line).unwrap();
            token["name"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(names, ["ann", "bob", "grafana"]);
    server.rbee(&home, ["token", "revoke", "ann"]).exits(0);
    by(&ann, &server.url, &anns, ["list"])
        .exits(1)
        .says("revoked");
    server.rbee(&home, ["token", "revoke", "ann"]).exits(2);
    server
        .rbee(&home, ["token", "create", "bob"])
        .exits(2)
        .says("already");
    // What is told at the start, and all that was logged since, holds no secret and no prompt.
    let log = server.rbee(&home, ["logs", "--lines", "10000"]).exits(0);
    let stopped = server.process.kill();
    for secret in [&*own, &*anns, &*bobs, &*readers, CANARY] {
        assert!(!log.text().contains(secret), "{log}");
        assert!(!stopped.stderr.contains(secret), "{stopped}");
    }
}

#[test]
fn a_token_that_one_server_makes_is_good_at_the_others() {
    let mut cluster = Cluster::new();
    let first = cluster.serve(&[]);
    let second = cluster.serve(&[]);
    let at = |url: &str, token: &str, words: &[&str]| {
        by(&cluster.home, url, token, words.iter().copied()).run()
    };
    let made = at(&first.url, TOKEN, &["token", "create", "ann"]);
    assert_eq!(made.code, Some(0), "{made}");
    let anns = made.text().trim().to_owned();
    wait::until("the token at the other server", PATIENCE, || {
        (at(&second.url, &anns, &["list"]).code == Some(0)).then_some(())
    });
    let revoked = at(&first.url, TOKEN, &["token", "revoke", "ann"]);
    assert_eq!(revoked.code, Some(0), "{revoked}");
    assert_eq!(at(&first.url, &anns, &["list"]).code, Some(1));
    wait::until("a refusal by the other server", PATIENCE, || {
        (at(&second.url, &anns, &["list"]).code == Some(1)).then_some(())
    });
    // A token of a role that only a newer version knows opens nothing here, and is in nobody's way.
    let made = at(&first.url, TOKEN, &["token", "create", "later"]);
    cluster.sql("UPDATE tokens SET role = 'later' WHERE name = 'later'");
    let bobs = at(&first.url, TOKEN, &["token", "create", "bob"]);
    wait::until("the token beside it", PATIENCE, || {
        (at(&second.url, bobs.text().trim(), &["list"]).code == Some(0)).then_some(())
    });
    wait::until("a refusal", PATIENCE, || {
        (at(&second.url, made.text().trim(), &["list"]).code == Some(1)).then_some(())
    });
    ends_well(first.process);
    ends_well(second.process);
}
