//! What files mean for command lines, without a process.

use std::path::Path;

use clap::{CommandFactory, FromArgMatches};

use super::file::Trouble;
use super::*;
use crate::args::Command;

fn parse(text: &str) -> Result<ConfigFile, Vec<Trouble>> {
    ConfigFile::parse(
        Path::new("/etc/rbee/config.toml"),
        text,
        &Schema::of(&Cli::command()),
    )
}

fn filled(text: &str, words: &[&str]) -> Cli {
    let file = parse(text).unwrap_or_else(|troubles| panic!("{troubles:?}"));
    let config = Config {
        schema: Schema::of(&Cli::command()),
        file: Some(file),
    };
    let line = config.fill(Cli::command(), words[0]).unwrap();
    let words = ["rbee"].iter().chain(words);
    Cli::from_arg_matches(&line.try_get_matches_from(words).unwrap()).unwrap()
}

#[test]
fn config_values_become_the_defaults_of_their_commands() {
    let text = "
        data_dir = \"/srv/rbee\"
        [engine]
        memory = \"2G\"
        no_prefix_sharing = true
        [worker]
        name = \"desk\"
        model = [\"a\", \"b\"]
        lease_ms = 9000
        [serve]
        lease_ms = 7000
        [schedules]
        roots = [\"/data\", \"prompts\"]
        commands = { copy = \"/bin/cp\" }
        [answers]
        temperature = 0.5
        [batch]
        template_date = 2024-02-29
    ";
    let Command::Worker(worker) = filled(text, &["worker", "--name", "flag"]).command else {
        panic!("no worker");
    };
    assert_eq!(
        (worker.name.as_deref(), worker.lease_ms),
        (Some("flag"), 9000)
    );
    assert_eq!(worker.model, ["a", "b"]);
    assert_eq!(worker.engine.machine.memory, Some(2 << 30));
    assert!(worker.engine.machine.no_prefix_sharing);
    let cli = filled(text, &["serve"]);
    assert_eq!(cli.global.data_dir.as_deref(), Some(Path::new("/srv/rbee")));
    let Command::Serve(serve) = cli.command else {
        panic!("no serve");
    };
    assert_eq!((serve.lease_ms, serve.grace.as_secs()), (7000, 30));
    let roots = ["/data", "/etc/rbee/prompts"].map(Into::into);
    assert_eq!(serve.schedules.schedule_root.as_deref(), Some(&roots[..]));
    assert_eq!(serve.schedules.schedule_command[0].0, "copy");
    let Command::Run(run) = filled(text, &["run", "x.jsonl"]).command else {
        panic!("no run");
    };
    assert_eq!(run.batch.sampling.temperature, Some(0.5));
    assert_eq!(run.batch.template_date, "2024-02-29");
    assert_eq!(run.engine.machine.memory, Some(2 << 30));
}

#[test]
fn config_troubles_have_their_lines_and_what_to_do() {
    let text = "server = \"http://x\"\n[engine]\nmemroy = \"4G\"\nmemory = \"lots\"\nkv = \"f8\"\nslots = [1, 2]\n\
                [worker]\nidle = true\n[nonsense]\na = 1\n";
    let Err(troubles) = parse(text) else {
        panic!("it was taken");
    };
    let lines: Vec<usize> = troubles.iter().map(|trouble| trouble.line).collect();
    assert_eq!(lines, [3, 4, 5, 6, 8, 9]);
    let said = |at: usize| troubles[at].what.as_str();
    assert_eq!(
        said(0),
        "there is no setting engine.memroy: did you mean engine.memory?"
    );
    assert!(
        said(1).starts_with("engine.memory \"lots\": "),
        "{}",
        said(1)
    );
    assert!(said(2).contains("f16, f32"), "{}", said(2));
    assert!(said(3).contains("no list"), "{}", said(3));
    assert_eq!(said(5), "there is no section nonsense");
}

#[test]
fn config_with_a_syntax_error_names_its_line() {
    let Err(troubles) = parse("server = \"x\"\n[engine\n") else {
        panic!("it was taken");
    };
    assert_eq!(troubles[0].line, 2, "{troubles:?}");
}

#[test]
fn config_holds_no_password() {
    let Err(troubles) = parse("database_url = \"postgres://rbee:secret@db/rbee\"\n") else {
        panic!("it was taken");
    };
    assert!(
        troubles[0].what.contains("database_url_file"),
        "{troubles:?}"
    );
    assert!(!troubles[0].what.contains("secret@"), "{troubles:?}");
    assert!(parse("database_url = \"postgres://rbee@db/rbee\"\n").is_ok());
    assert!(parse("redis_url = \"redis://h\"\nredis_url_file = \"r\"\n").is_err());
}

#[test]
fn config_template_is_right_and_names_every_setting() {
    let schema = Schema::of(&Cli::command());
    assert!(
        parse(TEMPLATE)
            .is_ok_and(|file| schema.settings().all(|one| file.get(&one.name).is_none()))
    );
    let text: Vec<&str> = TEMPLATE
        .lines()
        .map(|line| match line.strip_prefix('#') {
            // Explanations have a space there.
            Some(setting) if !setting.starts_with(' ') => setting,
            _ => line,
        })
        // Of a URL and the file that holds it only one may be set.
        .filter(|line| !line.starts_with("database_url =") && !line.starts_with("redis_url ="))
        .collect();
    let file = parse(&text.join("\n")).unwrap_or_else(|troubles| panic!("{troubles:?}"));
    for setting in schema.settings() {
        let alternative = SECRETS.iter().any(|(key, ..)| {
            key.strip_suffix("_file") == Some(&setting.name) && file.get(key).is_some()
        });
        assert!(
            alternative || file.get(&setting.name).is_some(),
            "deploy/config.toml.example does not explain {}",
            setting.name
        );
    }
}
