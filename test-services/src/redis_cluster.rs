//! A Redis Cluster of several masters without replicas.

use crate::process::free_port;
use crate::redis::{Redis, until};

/// Slots of every cluster.
const SLOTS: usize = 16_384;
/// Milliseconds without an answer after which a member counts as gone: longer than a busy machine makes it wait.
const NODE_TIMEOUT_MS: &str = "4000";

/// The cluster's members.
pub struct RedisCluster {
    /// In the order of their slots.
    pub members: Vec<Redis>,
}

impl RedisCluster {
    /// Starts so many masters, which share the slots.
    pub fn start(masters: usize) -> RedisCluster {
        let mut members = Vec::new();
        let mut buses = Vec::new();
        for _ in 0..masters {
            let bus = free_port();
            members.push(Redis::with(&[
                "--cluster-enabled",
                "yes",
                "--cluster-port",
                &bus.to_string(),
                "--cluster-node-timeout",
                NODE_TIMEOUT_MS,
            ]));
            buses.push(bus);
        }
        for (at, member) in members.iter().enumerate() {
            let (from, till) = (SLOTS * at / masters, SLOTS * (at + 1) / masters - 1);
            let (from, till) = (from.to_string(), till.to_string());
            let added = member.ask(&["CLUSTER", "ADDSLOTSRANGE", &from, &till]);
            assert_eq!(added, "OK");
        }
        for (member, bus) in members.iter().zip(&buses).skip(1) {
            let (port, bus) = (member.port().to_string(), bus.to_string());
            let met = members[0].ask(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]);
            assert_eq!(met, "OK");
        }
        let cluster = RedisCluster { members };
        cluster.until_whole();
        cluster
    }

    /// Waits until every member knows that all slots are served.
    pub fn until_whole(&self) {
        let known = format!("cluster_known_nodes:{}", self.members.len());
        for member in &self.members {
            until(member.port(), &["CLUSTER", "INFO"], |info| {
                info.contains("cluster_state:ok") && info.contains(&known)
            });
        }
    }

    /// `redis+cluster://` with all members.
    pub fn url(&self) -> String {
        let members = self.members.iter();
        let members: Vec<String> = members
            .map(|member| format!("127.0.0.1:{}", member.port()))
            .collect();
        format!("redis+cluster://{}", members.join(","))
    }
}
