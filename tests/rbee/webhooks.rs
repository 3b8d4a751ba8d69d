//! `submit --on-done URL`: the receiver hears of the end, signed, however often it takes.

use rbee_tests::cluster::{Cluster, PATIENCE, ends_well};
use rbee_tests::process::Home;
use rbee_tests::receiver::Receiver;
use rbee_tests::server::{Server, command};
use rbee_tests::{prompts, wait};

const SECRET: &str = "a secret of the tests";
const PRIVATE: &str = "--webhook-allow-private";

/// A server with this secret, for which receivers on this machine are allowed.
fn server(home: &Home) -> Server {
    Server::started(command(home, &[PRIVATE]).env("RBEE_WEBHOOK_SECRET", SECRET))
}

fn until_received(receiver: &Receiver, requests: usize) {
    wait::until(&format!("{requests} webhooks"), PATIENCE, || {
        (receiver.received().len() >= requests).then_some(())
    });
}

#[test]
fn receiver_that_fails_twice_hears_the_third_time() {
    let home = Home::new();
    let receiver = Receiver::failing(2);
    let server = server(&home);
    let prompts = prompts::short(5, 4);
    let id = server.submit(&home, &prompts, &["--on-done", &receiver.url]);
    until_received(&receiver, 3);
    let received = receiver.received();
    for one in &received {
        assert!(one.is_signed_with(SECRET.as_bytes()), "{one:?}");
        assert!(!one.is_signed_with(b"another secret of tests"));
        assert_eq!(one.id, received[0].id);
        assert_eq!(one.json()["id"], id.as_str());
        assert_eq!(one.json()["status"], "completed");
        assert_eq!(one.json()["request_counts"]["completed"], 5);
    }
    // A second end is another message.
    let other = server.submit(&home, &prompts, &["--new", "--on-done", &receiver.url]);
    until_received(&receiver, 4);
    let last = receiver.received().pop().unwrap();
    assert_eq!(last.json()["id"], other.as_str());
    assert_ne!(last.id, received[0].id);
    ends_well(server.process);
}

#[test]
fn receiver_hears_after_a_restart_of_the_server() {
    let home = Home::new();
    let receiver = Receiver::failing(1);
    let first = server(&home);
    let id = first.submit(&home, &prompts::short(5, 4), &["--on-done", &receiver.url]);
    until_received(&receiver, 1);
    first.process.kill();
    let second = server(&home);
    until_received(&receiver, 2);
    let received = receiver.received();
    assert_eq!(received[1].json()["id"], id.as_str());
    assert_eq!(received[1].id, received[0].id);
    ends_well(second.process);
}

#[test]
fn private_receivers_are_refused_at_the_submit_unless_they_are_allowed() {
    let home = Home::new();
    let receiver = Receiver::failing(0);
    let server = Server::start(&home, &[]);
    home.write("in.jsonl", prompts::short(1, 1));
    let submit = ["submit", "in.jsonl", "--on-done", &receiver.url];
    let refused = server.rbee(&home, submit).exits(2);
    refused.says(PRIVATE);
    ends_well(server.process);
    assert!(receiver.received().is_empty());
    // The secret that was made is for its owner alone.
    let secret = home.path(".local/share/rbee/webhook-secret");
    let mode = std::os::unix::fs::PermissionsExt::mode(&secret.metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    assert!(
        std::fs::read_to_string(&secret)
            .unwrap()
            .starts_with("whsec_")
    );
}

#[test]
fn next_leader_tells_what_the_last_one_could_not() {
    let receiver = Receiver::failing(1);
    let mut cluster = Cluster::new();
    let first = cluster.serve(&["--engine", "stub", PRIVATE]);
    let node = cluster.worker("one", &["--engine", "stub"]);
    let id = cluster.submit(&prompts::short(20, 4), &["--on-done", &receiver.url]);
    until_received(&receiver, 1);
    let second = cluster.serve(&["--engine", "stub", PRIVATE]);
    first.process.kill();
    until_received(&receiver, 2);
    assert_eq!(receiver.received()[1].json()["id"], id.as_str());
    ends_well(node);
    ends_well(second.process);
}
