//! The configuration file: which one counts, what goes before it, what is refused, and how it is changed.

use std::os::unix::fs::PermissionsExt;

use rbee_tests::process::{Home, Rbee};
use rbee_tests::server::Server;
use serde_json::Value as Json;

/// Where the user's file lies.
const FILE: &str = ".config/rbee/config.toml";

fn configured(text: &str) -> Home {
    let home = Home::new();
    std::fs::create_dir_all(home.path(".config/rbee")).unwrap();
    home.write(FILE, text);
    home
}

fn mode(home: &Home, name: &str, mode: u32) {
    std::fs::set_permissions(home.path(name), std::fs::Permissions::from_mode(mode)).unwrap();
}

/// What `rbee config show` says of one setting.
fn shown(command: Rbee) -> Json {
    let ended = command.exits(0);
    let line = ended.text().lines().next().unwrap_or_default();
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {ended}"))
}

#[test]
fn config_flag_goes_before_environment_before_file_before_default() {
    let home = configured("data_dir = \"~/of-file\"\n");
    let list = |words: &[&str]| home.rbee(["models", "list"].iter().chain(words));
    list(&[]).exits(0).says("/of-file/models");
    list(&[])
        .env("RBEE_DATA_DIR", "of-variable")
        .exits(0)
        .says("of-variable/models");
    list(&["--data-dir", "of-flag"])
        .env("RBEE_DATA_DIR", "of-variable")
        .exits(0)
        .says("of-flag/models");
    let bare = Home::new();
    bare.rbee(["models", "list"])
        .exits(0)
        .says(".local/share/rbee/models");

    let show = || home.rbee(["config", "show", "data_dir", "--json"]);
    let of_file = shown(show());
    assert_eq!(of_file["value"], home.path("of-file").to_str().unwrap());
    assert_eq!(of_file["source"]["kind"], "file");
    assert_eq!(of_file["source"]["line"], 1);
    let of_variable = shown(show().env("RBEE_DATA_DIR", "x"));
    assert_eq!(
        (&of_variable["value"], &of_variable["source"]["variable"]),
        (&"x".into(), &"RBEE_DATA_DIR".into())
    );
    let default = shown(bare.rbee(["config", "show", "serve.lease_ms", "--json"]));
    assert_eq!(
        (&default["value"], &default["source"]["kind"]),
        (&"15000".into(), &"default".into())
    );
}

#[test]
fn config_decides_how_a_run_computes_and_answers() {
    let home = configured("[engine]\nengine = \"stub\"\n[answers]\nmax_tokens = 3\n");
    home.write("in.jsonl", "{\"prompt\": \"one\"}\n");
    home.rbee(["run", "in.jsonl", "-o", "out.jsonl"]).exits(0);
    assert_eq!(home.lines("out.jsonl")[0]["usage"]["completion_tokens"], 3);
    home.rbee(["run", "in.jsonl", "-o", "out.jsonl", "--max-tokens", "5"])
        .exits(0);
    assert_eq!(home.lines("out.jsonl")[0]["usage"]["completion_tokens"], 5);
}

#[test]
fn config_check_looks_at_the_file_that_counts_and_says_what_is_there_twice() {
    let home = configured("[engine]\nslots = 3\n");
    home.rbee(["config", "check"]).exits(0).says("can be used");
    // As one appends to the template, where every section has its line already.
    home.write(FILE, home.read(FILE) + "[engine]\nslots = 4\n");
    home.rbee(["config", "check"])
        .exits(2)
        .says("config.toml:3: [engine] stands above already");
    Home::new()
        .rbee(["config", "check"])
        .exits(0)
        .says("there is no file");
}

#[test]
fn config_named_by_the_variable_counts_alone_and_must_be_there() {
    let home = configured("log = \"info\"\n");
    home.write("other.toml", "[serve]\nlease_ms = 4000\n");
    let named = |words: &[&str]| home.rbee(words).env("RBEE_CONFIG", home.path("other.toml"));
    assert_eq!(
        shown(named(&["config", "show", "serve.lease_ms", "--json"]))["value"],
        "4000"
    );
    assert_eq!(
        shown(named(&["config", "show", "log", "--json"]))["source"]["kind"],
        "default"
    );
    assert_eq!(
        named(&["config", "path"]).exits(0).text().trim(),
        home.path("other.toml").to_str().unwrap()
    );
    assert_eq!(
        home.rbee(["config", "path"]).exits(0).text().trim(),
        home.path(FILE).to_str().unwrap()
    );
    home.rbee(["list"])
        .env("RBEE_CONFIG", "nowhere.toml")
        .exits(2)
        .says("no such file");
    home.rbee(["list"])
        .env("XDG_CONFIG_HOME", home.path("empty"))
        .exits(0);
}

#[test]
fn config_with_a_mistake_stops_every_command_but_those_that_mend_it() {
    let home = configured("[engine]\nmemroy = \"4G\"\nslots = 0\n");
    let ended = home.rbee(["list"]).exits(2);
    ended.says("config.toml:2: there is no setting engine.memroy: did you mean engine.memory?");
    ended.says("config.toml:3: engine.slots");
    home.rbee(["config", "check", FILE])
        .exits(2)
        .says("engine.memory?");
    home.rbee(["completions", "bash"]).exits(0);
    home.rbee(["--help"]).exits(0);
    home.rbee(["doctor"]).exits(1);
    home.write("good.toml", "[engine]\nmemory = \"4G\"\n");
    home.rbee(["config", "check", "good.toml"]).exits(0);
    home.rbee(["config", "show", "engine.memroy"])
        .env("RBEE_CONFIG", "good.toml")
        .exits(2)
        .says("engine.memory");
}

#[test]
fn config_secrets_lie_in_files_that_only_their_owner_reads() {
    let canary = "canary-token-0123456789";
    let home = configured(
        "token_file = \"token\"\n[serve]\nlisten = \"127.0.0.1:0\"\n[engine]\nengine = \"stub\"\n",
    );
    home.write(".config/rbee/token", format!("{canary}\n"));
    mode(&home, ".config/rbee/token", 0o644);
    home.rbee(["serve"]).exits(1).says("chmod 600");
    home.rbee(["doctor"]).exits(1);
    mode(&home, ".config/rbee/token", 0o600);
    let server = Server::started(home.rbee(["serve"]));
    server.rbee(&home, ["nodes"]).exits(0);
    // Another user of the server shows it by the variable, and nobody else gets in.
    let other = Home::new();
    server
        .rbee(&other, ["nodes"])
        .env("RBEE_API_TOKEN", canary)
        .exits(0);
    server
        .rbee(&other, ["nodes"])
        .env("RBEE_API_TOKEN", "another-token-0123456789")
        .exits(1);
    let show = home.rbee(["config", "show"]).exits(0);
    assert!(!show.text().contains(canary) && show.text().contains("token_file"));
    assert!(!server.process.stderr().contains(canary));
    server.process.terminate();
    assert_eq!(server.process.wait().code, Some(0));
    assert!(
        !home.path(".local/share/rbee/api-token").exists(),
        "no other token was made"
    );

    home.write(
        "password.toml",
        "database_url = \"postgres://u:canary@db/rbee\"\n",
    );
    let refused = home.rbee(["config", "check", "password.toml"]).exits(2);
    refused.says("database_url_file");
    assert!(!refused.stderr.contains("u:canary"));
}

#[test]
fn config_edit_replaces_the_file_only_by_one_that_can_be_used() {
    let home = Home::new();
    // What stands for an editor changes one line of the template.
    let edit = |script: &str| {
        home.rbee(["config", "edit"])
            .env("EDITOR", format!("sed -i {script}"))
    };
    edit("s/^#log_format/log_format/").exits(0);
    let made = home.read(FILE);
    assert!(made.contains("\nlog_format = \"text\"\n"));
    let found = std::fs::metadata(home.path(FILE))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(found & 0o777, 0o600);
    edit("s/^log_format/log_formta/")
        .exits(2)
        .says("did you mean log_format?");
    assert_eq!(home.read(FILE), made);
    let drafts = || {
        home.files()
            .into_iter()
            .filter(|name| name.contains("config.edit"))
    };
    assert_eq!(drafts().count(), 1, "the changes are kept beside it");
    home.rbee(["config", "edit"])
        .env("EDITOR", "false")
        .exits(1)
        .says("nothing was changed");
    edit("s/nothing/nothing/")
        .exits(0)
        .says("nothing was changed");
    edit("s/^log_format.*//").exits(0);
    assert_eq!(home.read(FILE), made.replace("log_format = \"text\"", ""));
    assert_eq!(drafts().count(), 1);
}

#[test]
fn config_example_of_deploy_is_right_and_shown_settings_are_all() {
    let home = Home::new();
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/config.toml.example");
    home.rbee(["config", "check", example]).exits(0);
    let show = home.rbee(["config", "show", "--json"]).exits(0);
    let names: Vec<Json> = show
        .text()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let names: Vec<&str> = names
        .iter()
        .filter_map(|one| one["setting"].as_str())
        .collect();
    for name in [
        "server",
        "database_url",
        "token_file",
        "serve.listen",
        "worker.name",
        "engine.memory",
        "schedules.roots",
        "schedules.commands",
        "batch.model",
        "answers.seed",
        "remote.binary_path",
        "remote.ssh_options",
    ] {
        assert!(names.contains(&name), "{name}: {names:?}");
    }
    for name in ["run.output", "submit.name", "serve.help", "quiet"] {
        assert!(!names.contains(&name), "{name}");
    }
}
