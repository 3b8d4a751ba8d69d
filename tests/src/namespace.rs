//! A network of its own for a process, where the machine allows that: each server that it reaches hangs on a cable of its
//! own, which can be pulled. Packets are lost then, and nobody is told.

use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::way::Way;

/// Bits of a process id in a cable's number; the rest count the cables of the process.
const PROCESS_BITS: u32 = 0x3fff;
const CABLES_A_PROCESS: u32 = 64;
/// Cables take the networks of four addresses from here on: a private range that machines seldom use.
const FIRST_ADDRESS: u32 = u32::from_be_bytes([10, 192, 0, 0]);

/// A network namespace. It goes with this.
pub struct Namespace {
    name: String,
}

/// A cable from a namespace to one server on this machine.
pub struct Cable {
    /// Our end.
    device: String,
    address: Ipv4Addr,
    inside: Ipv4Addr,
    way: Way,
}

impl Namespace {
    /// A new one. `None` where that is refused.
    pub fn new() -> Option<Namespace> {
        let name = format!("rbee-test-{:x}", next_number());
        let made = ip(&["netns", "add", &name]);
        made.then(|| {
            let namespace = Namespace { name };
            must(&["-n", &namespace.name, "link", "set", "lo", "up"]);
            namespace
        })
    }

    /// A cable to this port of this machine.
    pub fn cable(&self, to: u16) -> Cable {
        let number = next_number();
        let network = FIRST_ADDRESS + number * 4;
        let [ours, theirs] = [1, 2].map(|host| Ipv4Addr::from_bits(network + host));
        let [device, inner] = ["rbo", "rbi"].map(|side| format!("{side}{number:x}"));
        let within = ["-n", self.name.as_str()];
        must(&[
            "link", "add", &device, "type", "veth", "peer", "name", &inner, "netns", &self.name,
        ]);
        must(&["addr", "add", &format!("{ours}/30"), "dev", &device]);
        must(&["link", "set", &device, "up"]);
        let inside = format!("{theirs}/30");
        must(&[&within[..], &["addr", "add", &inside, "dev", &inner]].concat());
        must(&[&within[..], &["link", "set", &inner, "up"]].concat());
        Cable {
            device,
            address: ours,
            inside: theirs,
            way: Way::from(ours, to),
        }
    }

    /// What stands before a command that shall run in it.
    pub fn prefix(&self) -> Vec<String> {
        ["ip", "netns", "exec", &self.name]
            .map(str::to_owned)
            .to_vec()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Its cables go with it.
        ip(&["netns", "del", &self.name]);
    }
}

impl Cable {
    /// Where the server is found from within.
    pub fn server(&self) -> String {
        format!("{}:{}", self.address, self.way.port)
    }

    /// The address that the namespace has at this cable.
    pub fn inside(&self) -> Ipv4Addr {
        self.inside
    }

    pub fn pull(&self) {
        must(&["link", "set", &self.device, "down"]);
    }

    pub fn plug(&self) {
        must(&["link", "set", &self.device, "up"]);
    }
}

/// A number that no other cable and no other namespace of this machine has, as far as process ids differ.
fn next_number() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let own = NEXT.fetch_add(1, Ordering::Relaxed);
    assert!(own < CABLES_A_PROCESS, "too many namespaces and cables");
    (std::process::id() & PROCESS_BITS) * CABLES_A_PROCESS + own
}

fn ip(arguments: &[&str]) -> bool {
    let output = Command::new("ip").args(arguments).output();
    output.is_ok_and(|output| output.status.success())
}

fn must(arguments: &[&str]) {
    assert!(ip(arguments), "ip {}", arguments.join(" "));
}
