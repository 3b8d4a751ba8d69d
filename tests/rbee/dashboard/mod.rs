//! The dashboard, used in a real browser.

use rbee_tests::cluster::{TOKEN, ends_well};
use rbee_tests::process::Home;
use rbee_tests::python::passes;
use rbee_tests::server::{Server, command};

#[test]
fn dashboard_submits_watches_cancels_and_retries() {
    let home = Home::new();
    let flags = ["--stub-token-us", "20000", "--slots", "4"];
    let server = Server::started(command(&home, &flags).env("RBEE_API_TOKEN", TOKEN));
    let line = |at: usize| {
        format!("{{\"prompt\": \"number {at}\", \"max_tokens\": 2000, \"ignore_eos\": true}}\n")
    };
    let mut prompts: String = (0..30).map(line).collect();
    prompts.push_str("no request\n");
    let file = home.write("stories.jsonl", prompts);
    let link = server
        .rbee(&home, ["token", "link"])
        .env("RBEE_API_TOKEN", TOKEN)
        .exits(0);
    let file = file.to_str().expect("the path is a text");
    let words = [link.text().trim(), file];
    passes(&home, "dashboard/dashboard.py", &server.url, &words);
    ends_well(server.process);
}
