//! The Lua scripts. Each touches the keys of one node, which share a slot.

use crate::ids::NodeInstance;
use redis::{Cmd, Script};
use std::sync::LazyLock;

macro_rules! scripts {
    ($($name:ident = $file:literal),* $(,)?) => {
        $(pub static $name: LazyLock<Lua> = LazyLock::new(|| Lua::new(include_str!($file)));)*
    };
}

scripts! {
    JOIN = "join.lua",
    LEAVE = "leave.lua",
    PUSH = "push.lua",
    TAKE = "take.lua",
    DONE = "done.lua",
    CANCEL = "cancel.lua",
    CONTROL = "control.lua",
    NEXT_CONTROL = "next_control.lua",
    DEPTH = "depth.lua",
    HELD = "held.lua",
}

/// A script and its digest.
pub struct Lua {
    text: &'static str,
    digest: String,
}

impl Lua {
    fn new(text: &'static str) -> Lua {
        let digest = Script::new(text).get_hash().to_owned();
        Lua { text, digest }
    }

    /// The call by digest.
    pub fn by_digest(&self, keys: &[String], arguments: &[Vec<u8>]) -> Cmd {
        call("EVALSHA", &self.digest, keys, arguments)
    }

    /// The call with the whole text, which the server then keeps: for one that lost it.
    pub fn by_text(&self, keys: &[String], arguments: &[Vec<u8>]) -> Cmd {
        call("EVAL", self.text, keys, arguments)
    }
}

fn call(name: &str, script: &str, keys: &[String], arguments: &[Vec<u8>]) -> Cmd {
    let mut cmd = redis::cmd(name);
    cmd.arg(script).arg(keys.len()).arg(keys).arg(arguments);
    cmd
}

/// The keys of a node's inbox.
pub struct Keys(String);

impl Keys {
    /// Those of this node.
    pub fn of(node: &NodeInstance) -> Keys {
        Keys(format!("rbee:{{{node}}}:"))
    }

    /// Some of them, by their last word.
    pub fn some(&self, names: &[&str]) -> Vec<String> {
        names
            .iter()
            .map(|name| format!("{}{name}", self.0))
            .collect()
    }

    /// All that hold jobs.
    pub fn jobs(&self) -> Vec<String> {
        self.some(&["inbox", "urgent", "waiting", "work", "running"])
    }

    /// All.
    pub fn all(&self) -> Vec<String> {
        self.some(&["inbox", "urgent", "waiting", "work", "running", "controls"])
    }
}
