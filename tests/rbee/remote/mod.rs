//! `rbee deploy` and `rbee pool` against real OpenSSH servers.

mod machine;

use std::os::unix::fs::PermissionsExt;

use rbee_tests::cluster::{Cluster, TOKEN, ends_well};
use rbee_tests::namespace::Namespace;
use rbee_tests::process::{self, Home};
use rbee_tests::server::run_alone;
use serde_json::Value as Json;

use machine::{Machine, Pool, SERVE};

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
        // It is the node's own, which makes no batches.
        let own = machine.home.read(".config/rbee/secrets/token");
        assert!(own.starts_with("rbee_") && own.trim() != TOKEN, "{own}");
        pool.rbee(&["list"])
            .env("RBEE_API_TOKEN", own.trim())
            .exits(1)
            .says("a node's");
        let config = machine.home.read(".config/rbee/config.toml");
        assert!(
            !config.contains(TOKEN) && !config.contains("postgres://"),
            "{config}"
        );
        let pid = machine.worker().expect("a worker runs");
        for pid in process::tree(pid) {
            let read =
                |what| std::fs::read_to_string(format!("/proc/{pid}/{what}")).unwrap_or_default();
            let told = read("cmdline") + &read("environ");
            assert!(!told.contains(TOKEN) && !told.contains(own.trim()));
        }
        let left = machine
            .home
            .files()
            .into_iter()
            .filter(|name| name.contains(".cache/"));
        assert_eq!(left.count(), 0, "{:?}", machine.home.files());
    }

    // The same again changes nothing: the nodes are the processes that they were, and so are their tokens.
    let tokens = pool.tokens();
    let names: Vec<&str> = tokens.iter().map(|(name, ..)| name.as_str()).collect();
    assert_eq!(names, ["node-one", "node-two"]);
    assert!(
        tokens.iter().all(|(_, role, _)| role == "node"),
        "{tokens:?}"
    );
    pool.deploy(&["one", "two"]).exits(0);
    assert_eq!(pool.nodes(), nodes);
    assert_eq!(pool.tokens(), tokens);

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
fn remote_machines_with_networks_of_their_own_become_nodes() {
    let mut cluster = Cluster::new();
    // Other machines reach it, so that it cannot listen on loopback.
    let serve = cluster.serve_at("0.0.0.0:0", &SERVE, &[]);
    let (_, port) = serve.url.rsplit_once(':').expect("a URL has a port");
    let port: u16 = port.parse().expect("it is a number");
    cluster.url = format!("http://127.0.0.1:{port}");
    let ports = [cluster.postgres.port(), cluster.redis.port(), port];
    let mut networks = Vec::new();
    for name in ["near", "far"] {
        let Some(network) = Namespace::new() else {
            println!("no network namespace is allowed here: not tried");
            return ends_well(serve.process);
        };
        let cables = ports.map(|port| network.cable(port));
        let machine = Machine::within(name, &network, cables[0].inside());
        networks.push((name, network, cables, machine));
    }
    let mut machines = Vec::new();
    let mut kept = Vec::new();
    for (name, network, cables, machine) in networks {
        machines.push(machine);
        kept.push((name, network, cables));
    }
    let pool = Pool::of(cluster, serve, machines);
    let direct = format!("127.0.0.1:{}", ports[0]);
    for (name, _, [postgres, redis, server]) in &kept {
        let around = pool.cluster.database.replace(&direct, &postgres.server());
        pool.deploy(&[name])
            .env("RBEE_DATABASE_URL", around)
            .env("RBEE_REDIS_URL", format!("redis://{}", redis.server()))
            .env("RBEE_SERVER", format!("http://{}", server.server()))
            .exits(0)
            .says("has joined");
    }
    let nodes = pool.nodes();
    let names: Vec<&str> = nodes.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["far", "near"]);
    let text = prompts(60);
    let id = pool.cluster.submit(&text, &[]);
    pool.cluster.until_done(&id);
    assert_eq!(pool.cluster.export(&id), run_alone(&text));
    pool.cluster.check_rows(&id);
    pool.end();
}

#[test]
fn remote_settings_that_changed_restart_the_node_and_edited_ones_stay() {
    let pool = Pool::new(vec![Machine::new("one")]);
    pool.deploy(&["one"]).exits(0);
    let before = pool.nodes();
    pool.cluster.home.write(
        "node.toml",
        "[engine]\nengine = \"stub\"\nslots = 2\n[worker]\nlease_ms = 20000\n",
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
fn remote_node_that_is_removed_gives_its_jobs_and_its_token_back() {
    let pool = Pool::new(vec![Machine::new("one"), Machine::new("two")]);
    pool.deploy(&["one", "two"]).exits(0);
    let text = prompts(200);
    let id = pool.cluster.submit(&text, &[]);
    pool.cluster.until_finished(&id, 10);
    let own = pool.machines[0].home.read(".config/rbee/secrets/token");
    pool.rbee(&["pool", "remove", "one"])
        .exits(0)
        .says("one finishes what it has")
        .says("its token is revoked")
        .says("one is no node any more");
    let machine = &pool.machines[0];
    assert!(!machine.home.path(".local/bin/rbee").exists());
    assert!(!machine.home.path(".config/rbee/secrets/token").exists());
    assert_eq!(pool.tokens().len(), 1);
    pool.rbee(&["list"])
        .env("RBEE_API_TOKEN", own.trim())
        .exits(1)
        .says("revoked");
    pool.cluster.until_done(&id);
    assert_eq!(pool.cluster.export(&id), run_alone(&text));
    pool.cluster.check_rows(&id);
    // It may come back, with a token of its own again. One that was revoked by hand is made anew.
    pool.deploy(&["one"]).exits(0).says("node one has joined");
    pool.rbee(&["token", "revoke", "node-two"]).exits(0);
    pool.deploy(&["two"]).exits(0).says("node two has joined");
    assert_eq!(pool.tokens().len(), 2);
    pool.end();
}

#[test]
fn remote_machine_becomes_a_node_of_a_server_that_asks_for_no_token() {
    let mut cluster = Cluster::new();
    let serve = cluster.serve(&[&SERVE[..], &["--no-auth"]].concat());
    let pool = Pool::of(cluster, serve, vec![Machine::new("one")]);
    // The user has a token of another server; this one has no use for it.
    pool.deploy(&["one"]).exits(0).says("node one has joined");
    let secrets = pool.machines[0].home.path(".config/rbee/secrets");
    assert!(!secrets.join("token").exists());
    let text = prompts(20);
    let id = pool.cluster.submit(&text, &[]);
    pool.cluster.until_done(&id);
    assert_eq!(pool.cluster.export(&id), run_alone(&text));
    pool.rbee(&["pool", "remove", "one"])
        .exits(0)
        .says("one is no node any more");
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
