//! The files under `deploy/`: parsed, held against what their formats want, and their commands given to the real binary.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

use rbee_tests::process::Home;
use serde::Deserialize;
use serde_json::Value as Yaml;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../deploy")
}

fn text(name: &str) -> String {
    let path = folder().join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn documents(name: &str) -> Vec<Yaml> {
    let text = text(name);
    serde_norway::Deserializer::from_str(&text)
        .map(|document| {
            Yaml::deserialize(document).unwrap_or_else(|error| panic!("{name}: {error}"))
        })
        .collect()
}

fn words(list: &Yaml) -> Vec<String> {
    let word = |word: &Yaml| {
        word.as_str()
            .expect("a command's words are texts")
            .to_owned()
    };
    list.as_array()
        .expect("a command is a list")
        .iter()
        .map(word)
        .collect()
}

/// The binary knows every flag of the command: with `--help` behind them it explains itself instead of refusing.
fn binary_takes(command: &[String]) {
    let words = command.iter().map(String::as_str).chain(["--help"]);
    Home::new().rbee(words).exits(0);
}

/// The variables that a command's help names.
fn variables_of(command: &str) -> BTreeSet<String> {
    let help = Home::new().rbee([command, "--help"]).exits(0);
    let is_part = |letter: char| letter.is_ascii_uppercase() || letter == '_';
    help.text()
        .split(|letter| !is_part(letter))
        .filter(|word| word.starts_with("RBEE_"))
        .map(str::to_owned)
        .collect()
}

#[test]
fn deploy_compose_starts_what_the_binary_has() {
    let documents = documents("compose/compose.yaml");
    let services = documents[0]["services"]
        .as_object()
        .expect("compose has services");
    let mut commands = BTreeSet::new();
    for (name, service) in services {
        for volume in service["volumes"].as_array().into_iter().flatten() {
            let volume = volume.as_str().expect("a volume is a text");
            let (volume, _) = volume.split_once(':').expect("a volume has a place");
            let volumes = documents[0]["volumes"].as_object();
            let known = volumes.is_some_and(|volumes| volumes.contains_key(volume));
            assert!(known, "{name}: {volume}");
        }
        if ["postgres", "redis"].contains(&name.as_str()) {
            continue;
        }
        let command = words(&service["command"]);
        binary_takes(&command);
        commands.insert(command[0].clone());
    }
    assert_eq!(commands, ["serve", "worker"].map(str::to_owned).into());
}

#[test]
fn deploy_units_and_settings_name_what_the_binary_has() {
    let known: BTreeSet<String> = variables_of("serve")
        .into_iter()
        .chain(variables_of("worker"))
        .collect();
    let settings = text("rbee.env.example");
    let set = settings
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty());
    let names: BTreeSet<&str> = set
        .map(|line| line.split_once('=').expect("a setting has a value").0)
        .collect();
    assert!(names.contains("RBEE_DATABASE_URL") && names.contains("RBEE_REDIS_URL"));
    for name in names {
        assert!(known.contains(name), "{name} is in no help: {known:?}");
    }
    for unit in ["rbee-serve", "rbee-worker"] {
        let unit = text(&format!("systemd/{unit}.service"));
        let start = unit
            .lines()
            .find_map(|line| line.strip_prefix("ExecStart=/usr/bin/env rbee "));
        let command: Vec<String> = start
            .expect("a unit starts something")
            .split(' ')
            .map(str::to_owned)
            .collect();
        binary_takes(&command);
        for section in ["[Unit]", "[Service]", "[Install]"] {
            assert!(unit.contains(section), "no {section}");
        }
    }
}

/// Says what could not be checked here: no machine has every tool that these files are for.
fn unchecked(what: &str, tool: &str) {
    // Past the test's capture: it is for whoever reads the output of a run that passes.
    let said = writeln!(
        std::io::stderr(),
        "NOT CHECKED here: {what}, since there is no {tool}"
    );
    said.expect("stderr can be written");
}

#[test]
fn deploy_units_are_taken_by_systemd() {
    let units =
        ["rbee-serve", "rbee-worker"].map(|unit| folder().join(format!("systemd/{unit}.service")));
    match Command::new("systemd-analyze")
        .arg("verify")
        .arg("--man=no")
        .args(&units)
        .output()
    {
        Ok(verified) => {
            let said = String::from_utf8_lossy(&verified.stderr);
            assert!(verified.status.success() && said.is_empty(), "{said}");
        }
        Err(_) => unchecked("deploy/systemd", "systemd-analyze"),
    }
}

#[test]
fn deploy_compose_is_taken_by_compose() {
    let compose = folder().join("compose/compose.yaml");
    let has_compose = Command::new("docker").args(["compose", "version"]).output();
    if !has_compose.is_ok_and(|asked| asked.status.success()) {
        return unchecked("deploy/compose", "docker compose");
    }
    let checked = Command::new("docker")
        .args(["compose", "-f"])
        .arg(compose)
        .args(["config", "--quiet"])
        .env("POSTGRES_PASSWORD", "x")
        .env("RBEE_API_TOKEN", "0123456789abcdef")
        .output()
        .expect("docker can be started");
    assert!(
        checked.status.success(),
        "{}",
        String::from_utf8_lossy(&checked.stderr)
    );
}

#[test]
fn deploy_manifests_hang_together() {
    let documents = documents("kubernetes/rbee.yaml");
    let kinds: Vec<&str> = documents
        .iter()
        .map(|one| one["kind"].as_str().expect("it has a kind"))
        .collect();
    assert_eq!(kinds, ["Service", "Deployment", "StatefulSet", "Service"]);
    let workloads: Vec<&Yaml> = documents
        .iter()
        .filter(|one| one["apiVersion"].as_str() == Some("apps/v1"))
        .collect();
    let mut commands = BTreeSet::new();
    for workload in &workloads {
        let name = workload["metadata"]["name"]
            .as_str()
            .expect("it has a name");
        let pod = &workload["spec"]["template"];
        assert_eq!(
            workload["spec"]["selector"]["matchLabels"], pod["metadata"]["labels"],
            "{name}"
        );
        let named = |list: &Yaml| -> BTreeSet<String> {
            let items = list.as_array().into_iter().flatten();
            items
                .map(|item| item["name"].as_str().expect("it has a name").to_owned())
                .collect()
        };
        let claims = workload["spec"]["volumeClaimTemplates"]
            .as_array()
            .into_iter()
            .flatten();
        let mut volumes = named(&pod["spec"]["volumes"]);
        volumes.extend(claims.map(|claim| {
            claim["metadata"]["name"]
                .as_str()
                .expect("a claim has a name")
                .to_owned()
        }));
        for container in pod["spec"]["containers"]
            .as_array()
            .expect("a pod has containers")
        {
            assert_eq!(named(&container["volumeMounts"]), volumes, "{name}");
            let ports = named(&container["ports"]);
            for probe in ["readinessProbe", "livenessProbe"] {
                if let Some(port) = container[probe]["httpGet"]["port"].as_str() {
                    assert!(ports.contains(port), "{name}: {probe} asks {port}");
                }
            }
            let command = words(&container["args"]);
            let known = variables_of(&command[0]);
            for name in named(&container["env"]) {
                assert!(
                    known.contains(&name),
                    "{name} is not in the help of {}",
                    command[0]
                );
            }
            binary_takes(&command);
            commands.insert(command[0].clone());
        }
    }
    assert_eq!(commands, ["serve", "worker"].map(str::to_owned).into());
    for service in documents
        .iter()
        .filter(|one| one["kind"].as_str() == Some("Service"))
    {
        let chosen = |workload: &&&Yaml| {
            workload["spec"]["template"]["metadata"]["labels"] == service["spec"]["selector"]
        };
        let workload = workloads
            .iter()
            .find(chosen)
            .expect("a service chooses a workload");
        let port = service["spec"]["ports"][0]["targetPort"].as_str();
        let container = &workload["spec"]["template"]["spec"]["containers"][0];
        assert_eq!(container["ports"][0]["name"].as_str(), port);
    }
}
