//! Who decides: the shipped policy, and two that everybody knows, for comparison.
//!
//! The two look at neither models nor speeds; their nodes load what their next job needs.

use crate::placement::{Decision, NodeSnapshot, Plan, WaitingModel, decide, inbox_depth};

/// Who decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// What the coordinator uses.
    Shipped,
    /// One node after the other.
    RoundRobin,
    /// The node with the fewest jobs a slot.
    LeastLoaded,
}

impl Policy {
    /// All of them.
    pub const ALL: [Policy; 3] = [Policy::Shipped, Policy::RoundRobin, Policy::LeastLoaded];

    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Policy::Shipped => "shipped",
            Policy::RoundRobin => "round-robin",
            Policy::LeastLoaded => "least-loaded",
        }
    }
}

/// A policy with what it remembers.
pub(super) struct Decider {
    policy: Policy,
    turn: usize,
}

impl Decider {
    pub fn new(policy: Policy) -> Decider {
        Decider { policy, turn: 0 }
    }

    /// True if nodes load by themselves what their next job needs.
    pub fn loads_on_demand(&self) -> bool {
        self.policy != Policy::Shipped
    }

    pub fn decide(&mut self, nodes: &[NodeSnapshot], waiting: &[WaitingModel]) -> Plan {
        if self.policy == Policy::Shipped {
            return decide(nodes, waiting);
        }
        let room_of = |node: &NodeSnapshot| match node.draining {
            true => 0,
            false => inbox_depth(node.slots, node.jobs_per_s).saturating_sub(node.held),
        };
        let mut room: Vec<usize> = nodes.iter().map(room_of).collect();
        let mut left: usize = room.iter().sum();
        let mut plan = Plan::default();
        let mut order: Vec<&WaitingModel> = waiting.iter().collect();
        order.sort_by_key(|wait| std::cmp::Reverse(wait.priority));
        for wait in order {
            let mut given = vec![0; nodes.len()];
            for _ in 0..wait.queued.min(left as u64) {
                let node = self.next(nodes, &room);
                room[node] -= 1;
                given[node] += 1;
                left -= 1;
            }
            let places = given.into_iter().enumerate().filter(|(_, jobs)| *jobs > 0);
            plan.decisions
                .extend(places.map(|(node, jobs)| Decision::Place {
                    node: nodes[node].node.clone(),
                    batch: wait.batch,
                    no: wait.no,
                    jobs,
                }));
        }
        plan
    }

    fn next(&mut self, nodes: &[NodeSnapshot], room: &[usize]) -> usize {
        if self.policy == Policy::RoundRobin {
            while room[self.turn % nodes.len()] == 0 {
                self.turn += 1;
            }
            self.turn += 1;
            return (self.turn - 1) % nodes.len();
        }
        let open = (0..nodes.len()).filter(|node| room[*node] > 0);
        let fullness = |node: &usize| {
            let depth = inbox_depth(nodes[*node].slots, nodes[*node].jobs_per_s);
            (depth - room[*node]) as f64 / nodes[*node].slots as f64
        };
        open.min_by(|a, b| fullness(a).total_cmp(&fullness(b)))
            .expect("there is room somewhere")
    }
}
