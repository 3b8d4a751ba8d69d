//! Machines that ssh reaches: OpenSSH servers on loopback, each with a home of its own.

use std::net::Ipv4Addr;
use std::path::Path;

use rbee_test_services::Sshd;
use rbee_tests::cluster::{Cluster, Coordinator};
use rbee_tests::namespace::Namespace;
use rbee_tests::process::{self, Home, Rbee};
use serde_json::Value as Json;

/// A machine, and what a deploy started there.
pub struct Machine {
    pub home: Home,
    pub sshd: Sshd,
}

impl Machine {
    pub fn new(name: &str) -> Machine {
        Machine::with(name, None)
    }

    /// With programs that stand before the usual ones.
    pub fn with(name: &str, programs: Option<&Path>) -> Machine {
        let home = Home::new();
        let sshd = Sshd::start(name, &home.path("."), programs);
        Machine { home, sshd }
    }

    /// With an address of its own, in a network of its own.
    pub fn within(name: &str, network: &Namespace, address: Ipv4Addr) -> Machine {
        let home = Home::new();
        let sshd = Sshd::start_at(name, &home.path("."), None, address, &network.prefix());
        Machine { home, sshd }
    }

    /// rbee as it was installed there.
    pub fn rbee(&self, words: &[&str]) -> Rbee {
        self.home.command(&self.home.path(".local/bin/rbee"), words)
    }

    /// The process of the worker there.
    pub fn worker(&self) -> Option<u32> {
        let file = self.home.path(".local/state/rbee/worker.pid");
        let text = std::fs::read_to_string(file).ok()?;
        text.split_whitespace().next()?.parse().ok()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // A test that failed leaves it running.
        if let Some(pid) = self.worker() {
            for pid in process::tree(pid) {
                process::signal("KILL", pid);
            }
        }
    }
}

/// The flags of the server.
pub const SERVE: [&str; 6] = [
    "--engine",
    "stub",
    "--lease-ms",
    "20000",
    "--sweep-ms",
    "500",
];

/// A cluster with a server and no node, and machines that may become nodes.
pub struct Pool {
    pub cluster: Cluster,
    pub serve: Coordinator,
    pub machines: Vec<Machine>,
}

impl Pool {
    pub fn new(machines: Vec<Machine>) -> Pool {
        let mut cluster = Cluster::new();
        let serve = cluster.serve(&SERVE);
        Pool::of(cluster, serve, machines)
    }

    pub fn of(cluster: Cluster, serve: Coordinator, machines: Vec<Machine>) -> Pool {
        let config: String = machines
            .iter()
            .map(|one| one.sshd.client_config())
            .collect();
        let ssh = cluster.home.write("ssh_config", config);
        std::fs::create_dir_all(cluster.home.path(".config/rbee")).unwrap();
        let settings = format!("[remote]\nssh_options = [\"-F\", \"{}\"]\n", ssh.display());
        cluster.home.write(".config/rbee/config.toml", settings);
        // What the nodes get: the stub engine, slow enough that a batch lasts a while.
        let node = "[engine]\nengine = \"stub\"\nstub_token_us = 4000\nslots = 4\n\
                    [worker]\nlease_ms = 20000\nheartbeat_ms = 500\n";
        cluster.home.write("node.toml", node);
        Pool {
            cluster,
            serve,
            machines,
        }
    }

    /// A command of the user whose machines these are.
    pub fn rbee(&self, words: &[&str]) -> Rbee {
        self.cluster.member(words, &[])
    }

    pub fn deploy(&self, words: &[&str]) -> Rbee {
        let fixed = ["deploy", "--settings", "node.toml"];
        let words: Vec<&str> = fixed.iter().chain(words).copied().collect();
        self.rbee(&words)
    }

    /// The processes of nodes that live, by their nodes' names.
    pub fn nodes(&self) -> Vec<(String, String)> {
        let listed = self.rbee(&["nodes", "--json"]).exits(0);
        let nodes = listed.text().lines().filter_map(|line| {
            let node: Json = serde_json::from_str(line).ok()?;
            let name = node["report"]["name"].as_str()?.to_owned();
            let instance = node["instance"].as_str()?.to_owned();
            (node["state"] != "lost").then_some((name, instance))
        });
        let mut nodes: Vec<(String, String)> = nodes.collect();
        nodes.sort();
        nodes
    }

    /// Names, roles and ids of the tokens that are good.
    pub fn tokens(&self) -> Vec<(String, String, String)> {
        let listed = self.rbee(&["token", "list", "--json"]).exits(0);
        let text = |token: &Json, name: &str| token[name].as_str().unwrap().to_owned();
        let tokens = listed.text().lines().map(|line| {
            let token: Json = serde_json::from_str(line).unwrap();
            (
                text(&token, "name"),
                text(&token, "role"),
                text(&token, "id"),
            )
        });
        tokens.collect()
    }

    pub fn end(self) {
        for machine in &self.machines {
            if machine.worker().is_some() {
                machine.rbee(&["service", "stop", "worker"]).exits(0);
            }
        }
        rbee_tests::cluster::ends_well(self.serve.process);
    }
}
