//! `rbee deploy` and `rbee pool` against real OpenSSH servers.

mod machine;

use std::os::unix::fs::PermissionsExt;

use rbee_tests::cluster::TOKEN;
use rbee_tests::process::{self, Home};
use rbee_tests::server::run_alone;
use serde_json::Value as Json;

use machine::{Machine, Pool};

/// Prompts that take the nodes a while.
fn prompts(count: usize) -> String {
    let line = |number| {
        format!("{{\"prompt\": \"number {number}\", \"max_tokens\": 16, \"ignore_eos\": true}}\n")
    };
    (0..count).map(line).collect()
}

#[test]
fn remote_machines_become_nodes_and_give_the_bytes_of_one_machine() {
    let pool = Pool::new(vec![Machine::new("one"), Machine::new("two")]);
    let deployed = pool.deploy(&["one", "two"]).exits(0);
    deployed
        .says("node one has joined")
        .says("node two has joined");
    let nodes = pool.nodes();
    let names: Vec<&str> = nodes.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["one", "two"]);

    let text = prompts(60);
    let id = pool.cluster.submit(&text, &[]);
    pool.cluster.until_done(&id);
    assert_eq!(pool.cluster.export(&id), run_alone(&text));
    pool.cluster.check_rows(&id);

    for machine in &pool.machines {
        // Secrets are in files of their owner, and nowhere else.
        let token = machine.home.path(".config/rbee/secrets/token");
        assert_eq!(
            std::fs::metadata(&token).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(
            machine.home.read(".config/rbee/secrets/token").trim(),
            TOKEN
        );
        let config = machine.home.read(".config/rbee/config.toml");
        assert!(
            !config.contains(TOKEN) && !config.contains("postgres://"),
            "{config}"
        );
        let pid = machine.worker().expect("a worker runs");
        for pid in process::tree(pid) {
            let read =
                |what| std::fs::read_to_string(format!("/proc/{pid}/{what}")).unwrap_or_default();
            assert!(!read("cmdline").contains(TOKEN) && !read("environ").contains(TOKEN));
        }
        let left = machine
            .home
            .files()
            .into_iter()
            .filter(|name| name.contains(".cache/"));
        assert_eq!(left.count(), 0, "{:?}", machine.home.files());
    }

    // The same again changes nothing: the nodes are the processes that they were.
    pool.deploy(&["one", "two"]).exits(0);
    assert_eq!(pool.nodes(), nodes);

    let status = pool
        .rbee(&["pool", "status", "one", "two", "--json"])
        .exits(0);
    let lines: Vec<Json> = status
        .text()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(
        (&lines[0]["node"], &lines[0]["state"]),
        (&"one".into(), &"ready".into()),
        "{status}"
    );
    assert_eq!(lines[1]["service"], "runs (background)");
    pool.end();
}

#[test]
fn remote_settings_that_changed_restart_the_node_and_edited_ones_stay() {
    let pool = Pool::new(vec![Machine::new("one")]);
    pool.deploy(&["one"]).exits(0);
    let before = pool.nodes();
    pool.cluster.home.write(
        "node.toml",
        "[engine]\nengine = \"stub\"\nslots = 2\n[worker]\nlease_ms = 5000\n",
    );
    pool.deploy(&["one"]).exits(0).says("joined");
    let after = pool.nodes();
    assert!(after.len() == 1 && after != before, "{after:?}");
    let machine = &pool.machines[0];
    let edited = machine.home.read(".config/rbee/config.toml") + "log = \"info\"\n";
    let edited = edited.replace("log = \"info\"\n", "") + "# edited\n";
    machine.home.write(".config/rbee/config.toml", &edited);
    pool.cluster
        .home
        .write("node.toml", "[engine]\nengine = \"stub\"\nslots = 3\n");
    pool.deploy(&["one"]).exits(0).says("left as it is");
    assert_eq!(machine.home.read(".config/rbee/config.toml"), edited);
    assert_eq!(pool.nodes(), after);
    pool.end();
}

#[test]
fn remote_models_are_listed_and_pulled_there() {
    let mut pool = Pool::new(vec![Machine::new("one")]);
    pool.rbee(&["pool", "models", "list", "--host", "one"])
        .exits(1)
        .says("rbee deploy");
    pool.deploy(&["one"]).exits(0);
    let listed = pool
        .rbee(&["pool", "models", "list", "--host", "one", "--json"])
        .exits(0);
    assert!(
        listed
            .text()
            .lines()
            .any(|line| line.contains("smollm2-135m")),
        "{listed}"
    );
    let pull = |model: &str| pool.rbee(&["pool", "models", "pull", model, "--host", "one"]);
    pull("no-such-alias").exits(2).says("no-such-alias");
    let odd = "it's; touch $HOME/broken";
    pull(odd).exits(2);
    assert!(!pool.machines[0].home.path("broken").exists());
    pool.rbee(&["pool", "models", "list", "--host", "-oProxyCommand=touch x"])
        .exits(2);
    pool.machines[0].sshd.down();
    pool.rbee(&["pool", "models", "list", "--host", "one"])
        .exits(1)
        .says("cannot be reached");
    let failed = pool.deploy(&["one"]).exits(1);
    failed.says("not deployed: one");
    pool.end();
}

#[test]
fn remote_machine_that_no_program_fits_is_refused_and_left_alone() {
    let tools = Home::new();
    // What stands for a machine of another kind: it says so.
    let uname = "#!/bin/sh\ncase $1 in -m) echo riscv64;; -n) echo odd;; *) echo Linux;; esac\n";
    let path = tools.write("uname", uname);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    let odd = Machine::with("odd", Some(&tools.path(".")));
    let pool = Pool::new(vec![odd, Machine::new("one")]);
    let deployed = pool.deploy(&["odd", "one"]).exits(1);
    deployed
        .says("its processor is riscv64")
        .says("node one has joined")
        .says("not deployed: odd");
    assert_eq!(pool.machines[0].home.files(), Vec::<String>::new());
    pool.end();
}

#[test]
fn remote_upgrade_drains_each_node_and_loses_nothing() {
    let pool = Pool::new(vec![Machine::new("one"), Machine::new("two")]);
    pool.deploy(&["one", "two"]).exits(0);
    let before = pool.nodes();
    // Another version for all that matters here: other bytes.
    let mut newer = std::fs::read(process::binary()).unwrap();
    newer.extend(b"newer");
    pool.cluster.home.write("newer", newer);
    let text = prompts(400);
    let id = pool.cluster.submit(&text, &[]);
    pool.cluster.until_finished(&id, 10);
    let upgraded = pool
        .rbee(&["pool", "upgrade", "one", "two", "--binary", "newer"])
        .exits(0);
    upgraded
        .says("one finishes what it has")
        .says("one is back")
        .says("two is back");
    let after = pool.nodes();
    assert_eq!(after.len(), 2);
    assert!(
        after.iter().all(|node| !before.contains(node)),
        "{before:?} {after:?}"
    );
    let draining = pool.rbee(&["nodes"]).exits(0);
    assert!(!draining.text().contains("draining"), "{draining}");
    pool.cluster.until_done(&id);
    assert_eq!(pool.cluster.export(&id), run_alone(&text));
    pool.cluster.check_rows(&id);
    for machine in &pool.machines {
        assert!(
            std::fs::read(machine.home.path(".local/bin/rbee"))
                .unwrap()
                .ends_with(b"newer")
        );
    }
    let again = pool
        .rbee(&["pool", "upgrade", "one", "--binary", "newer"])
        .exits(0);
    again.says("has this program already");
    assert_eq!(pool.nodes(), after);
    pool.end();
}
