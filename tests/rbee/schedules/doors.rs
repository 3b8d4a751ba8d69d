//! What schedules may read, write and tell: prompts at each run or frozen, refusals in words, URLs and commands.

use std::os::unix::fs::PermissionsExt;

use rbee_tests::cluster::{PATIENCE, ends_well};
use rbee_tests::process::Home;
use rbee_tests::receiver::Receiver;
use rbee_tests::schedules::{lines, until_runs};
use rbee_tests::server::{Server, command, run_alone};
use rbee_tests::{http, prompts, wait};

use super::{NEW_YEAR, Site, site};

#[test]
fn wrong_schedules_are_refused_and_say_what_is_allowed() {
    let site = site(&[]);
    site.home.write("text.jsonl", "no json\n".repeat(30));
    let wrong: &[(&[&str], &str)] = &[
        (
            &["60 * * * *", "nightly.jsonl"],
            "the minute field is \"60\": 60 is out of range; allowed are *, 0-59",
        ),
        (&["* * *", "nightly.jsonl"], "3 fields"),
        (&["0 0 31 2 *", "nightly.jsonl"], "never comes"),
        (&["@reboot", "nightly.jsonl"], "@daily"),
        (
            &["@daily", "nightly.jsonl", "--tz", "Mars/Base"],
            "no time zone",
        ),
        (&["@daily", "none.jsonl"], "there is no file"),
        (
            &["@daily", "nightly.jsonl", "--output", "none/out.jsonl"],
            "there is no folder",
        ),
        (
            &["@daily", "nightly.jsonl", "--output", "nightly.jsonl"],
            "holds the prompts",
        ),
        (
            &["@daily", "*.jsonl", "--output", "out-{date}.jsonl"],
            "prompts of the next run",
        ),
        (
            &["@daily", "nightly.jsonl", "--output", "out-{day}.jsonl"],
            "{date}",
        ),
        (
            &["@daily", "nightly.jsonl", "--output", "/etc/out.jsonl"],
            "outside",
        ),
        (
            &["@daily", "nightly.jsonl", "--output", ".bashrc"],
            "hidden",
        ),
        (&["@daily", "nightly.jsonl", "--name", "a/b"], "a name has"),
        (
            &["@daily", "nightly.jsonl", "--command", "none"],
            "--schedule-command",
        ),
        (
            &[
                "@daily",
                "nightly.jsonl",
                "--on-done",
                "http://127.0.0.1:9/",
            ],
            "--webhook-allow-private",
        ),
        (
            &["@daily", "nightly.jsonl", "--set", "temperature=9"],
            "temperature",
        ),
        (&["@daily", "/etc/*.conf"], "outside"),
        (&["@daily", "text.jsonl", "--freeze"], "--format text"),
    ];
    for (arguments, words) in wrong {
        let command = [&["add"], *arguments].concat();
        site.schedule(&command).exits(2).says(words);
    }
    site.schedule(&["add", "@daily", "nightly.jsonl"]).exits(0);
    site.schedule(&["add", "@hourly", "nightly.jsonl"])
        .exits(2)
        .says("another name");
    site.schedule(&["show", "none"])
        .exits(2)
        .says("there is no schedule none");
    assert_eq!(
        lines(site.schedule(&["list", "--json"]).exits(0).text()).len(),
        1
    );
    ends_well(site.server.process);
}

#[test]
fn without_a_server_there_is_no_schedule() {
    let home = Home::new();
    home.write("nightly.jsonl", prompts::short(1, 1));
    let command = ["schedule", "add", "@daily", "nightly.jsonl"];
    home.rbee(command)
        .env("RBEE_SERVER", "http://127.0.0.1:9")
        .exits(4);
}

#[test]
fn prompts_are_read_at_each_run_and_frozen_ones_stay() {
    let site = site(&[]);
    std::fs::create_dir(site.home.path("inbox")).unwrap();
    site.home.write("inbox/a.jsonl", "{\"prompt\":\"a\"}");
    site.schedule(&["add", NEW_YEAR, "inbox/*.jsonl"]).exits(0);
    let elsewhere = Home::new();
    let outside = elsewhere.write("outside.jsonl", "{\"prompt\":\"x\"}\n");
    let frozen = site
        .schedule(&["add", NEW_YEAR, outside.to_str().unwrap()])
        .exits(0);
    frozen.says("as they are");
    let speak = |arguments: &[&str]| site.rbee(arguments);
    let jobs = |name: &str, runs: usize| {
        site.schedule(&["run", name]).exits(0);
        let runs = until_runs(&speak, name, "completed", runs);
        assert_eq!(runs[0]["cause"], "manual");
        runs[0]["request_counts"]["total"].as_u64().unwrap()
    };
    assert_eq!(jobs("inbox", 1), 1);
    assert_eq!(jobs("outside", 1), 1);
    site.home
        .write("inbox/b.jsonl", "{\"prompt\":\"b\"}\n{\"prompt\":\"c\"}\n");
    elsewhere.write("outside.jsonl", "{\"prompt\":\"x\"}\n{\"prompt\":\"y\"}\n");
    assert_eq!(jobs("inbox", 2), 3);
    assert_eq!(jobs("outside", 2), 1);
    // What cannot be read at its time is a run that failed, and says why.
    std::fs::remove_dir_all(site.home.path("inbox")).unwrap();
    site.schedule(&["run", "inbox"]).exits(0);
    let runs = until_runs(&speak, "inbox", "failed", 1);
    assert!(
        runs[0]["reason"].as_str().unwrap().contains("inbox"),
        "{:?}",
        runs[0]
    );
    assert_eq!(runs[0]["batch"], serde_json::Value::Null);
    let listed = lines(site.schedule(&["list", "--json"]).exits(0).text());
    assert_eq!(listed[0]["last_run"]["state"], "failed");
    assert_eq!(listed[1]["last_run"]["state"], "completed");
    ends_well(site.server.process);
}

/// Sends prompts to `/v1/files`; the file's id.
fn uploaded(site: &Site, token: &str, name: &str, text: &str) -> String {
    let part = |about: &str, text: &str| {
        format!("--x\r\nContent-Disposition: form-data; {about}\r\n\r\n{text}\r\n")
    };
    let body = part("name=\"purpose\"", "batch")
        + &part(&format!("name=\"file\"; filename=\"{name}\""), text)
        + "--x--\r\n";
    let request = format!(
        "POST /v1/files\r\nAuthorization: Bearer {token}\r\nContent-Type: multipart/form-data; boundary=x"
    );
    let sent = http::send(port(site), &request, &body);
    let id = sent.json()["id"].as_str().map(str::to_owned);
    id.unwrap_or_else(|| panic!("{}", sent.text))
}

fn port(site: &Site) -> u16 {
    let (_, port) = site.server.url.rsplit_once(':').expect("a URL has a port");
    port.parse().expect("it is a number")
}

#[test]
fn files_of_the_api_are_read_at_each_run_as_long_as_they_are_there() {
    let site = site(&[]);
    let own = site.rbee(&["token", "show"]).exits(0);
    let own = own.text().trim();
    let text = prompts::short(5, 4);
    let id = uploaded(&site, own, "asked.jsonl", &text);
    let url = format!("{}/v1/files/{id}", site.server.url);
    let added = site.schedule(&["add", NEW_YEAR, &url]).exits(0);
    // Files that are sent are kept for a while only, if nothing else is said.
    added.says("runs after that will fail");
    site.schedule(&["add", NEW_YEAR, &id, "--name", "by-id"])
        .exits(0);
    let listed = lines(site.schedule(&["list", "--json"]).exits(0).text());
    assert_eq!(listed[0]["name"], "asked");
    assert_eq!(listed[0]["source"]["file"].as_str(), Some(&*id));
    let speak = |arguments: &[&str]| site.rbee(arguments);
    for name in ["asked", "by-id"] {
        site.schedule(&["run", name]).exits(0);
        let runs = until_runs(&speak, name, "completed", 1);
        let batch = runs[0]["batch"].as_str().unwrap();
        assert_eq!(site.server.export(&site.home, batch), run_alone(&text));
    }
    // Another's file is not there for a schedule, and neither is another server's.
    let made = site.rbee(&["token", "create", "ann"]).exits(0);
    let anns = uploaded(&site, made.text().trim(), "ann.jsonl", &text);
    site.schedule(&["add", NEW_YEAR, &anns, "--name", "x"])
        .exits(2)
        .says("that schedules may read");
    site.schedule(&[
        "add",
        NEW_YEAR,
        &format!("http://files.example/v1/files/{id}"),
    ])
    .exits(2)
    .says("no file of the server");
    site.schedule(&["add", NEW_YEAR, &format!("{}/v1/batches", site.server.url)])
        .exits(2)
        .says("no file of the server");
    let delete = format!("DELETE /v1/files/{id}\r\nAuthorization: Bearer {own}");
    assert_eq!(http::send(port(&site), &delete, "").status, 200);
    site.schedule(&["run", "asked"]).exits(0);
    let runs = until_runs(&speak, "asked", "failed", 1);
    let reason = runs[0]["reason"].as_str().unwrap();
    assert!(
        reason.contains(&id) && reason.contains("not there any more"),
        "{reason}"
    );
    site.schedule(&["add", NEW_YEAR, &url, "--name", "late"])
        .exits(2)
        .says("there is no file");
    ends_well(site.server.process);
}

#[test]
fn ends_of_runs_are_told_to_urls_and_commands() {
    let receiver = Receiver::failing(1);
    let home = Home::new();
    let prompts = prompts::short(3, 2);
    home.write("nightly.jsonl", &prompts);
    let script =
        "#!/bin/sh\ncat > told.json; env | sort > told.env; test \"$RBEE_SCHEDULE\" = command\n";
    let program = home.write(
        "tell",
        script.replace("told.", &format!("{}/told.", home.path("").display())),
    );
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let named = format!("tell={}", program.display());
    let arguments = ["--webhook-allow-private", "--schedule-command", &named];
    let secret = "a secret of the tests";
    let server = Server::started(command(&home, &arguments).env("RBEE_WEBHOOK_SECRET", secret));
    let schedule = |arguments: &[&str]| {
        let command = [&["schedule"], arguments].concat();
        server.rbee(&home, command)
    };
    schedule(&[
        "add",
        NEW_YEAR,
        "nightly.jsonl",
        "--name",
        "url",
        "--on-done",
        &receiver.url,
        "--output",
        "out.jsonl",
    ])
    .exits(0);
    schedule(&[
        "add",
        NEW_YEAR,
        "nightly.jsonl",
        "--name",
        "command",
        "--command",
        "tell",
    ])
    .exits(0);
    schedule(&["run", "url"]).exits(0);
    schedule(&["run", "command"]).exits(0);
    wait::until("two requests", PATIENCE, || {
        (receiver.received().len() >= 2).then_some(())
    });
    let received = receiver.received();
    assert_eq!(received[0].id, received[1].id);
    for one in &received {
        assert!(one.is_signed_with(secret.as_bytes()));
        let said = one.json();
        assert_eq!(said["run"]["state"], "completed");
        assert_eq!(said["schedule"]["name"], "url");
        assert_eq!(said["batch"]["request_counts"]["completed"], 3);
        let output = said["run"]["output"].as_str().unwrap();
        assert_eq!(
            std::fs::read_to_string(output).unwrap(),
            run_alone(&prompts)
        );
    }
    let told = wait::until("the command's note", PATIENCE, || {
        let told = std::fs::read_to_string(home.path("told.env")).ok()?;
        told.contains("RBEE_SCHEDULE").then_some(told)
    });
    assert!(
        told.contains("RBEE_SCHEDULE=command") && told.contains("RBEE_RUN_STATE=completed"),
        "{told}"
    );
    assert!(
        !told.contains(secret),
        "the command knows the server's secrets"
    );
    assert_eq!(
        lines(&home.read("told.json"))[0]["run"]["state"],
        "completed"
    );
    ends_well(server.process);
}
