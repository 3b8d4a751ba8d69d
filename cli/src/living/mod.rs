//! Living on people's machines: when a node may compute, and how modest it is meanwhile. All of it is off by default.
//!
//! Owns the flags and the watch over clock and machine. What a node does when it has to rest is the node's: running jobs
//! get a moment to end, then they are given back.

mod desk;
mod hours;
mod idle;

use std::time::{Duration, Instant};

use clap::Args;
use rbee_scheduler::schedule::Zone;
use rbee_worker::model::memory;
use rbee_worker::node::NodeHandle;
use tokio::task::JoinHandle;

use crate::byte_size;
use crate::failure::Failure;
use crate::machine_zone;
use crate::moment;
use crate::talk::Talk;
use hours::Hours;
use idle::{Calm, Machine};

/// How often the clock is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How often the machine is looked at: its figures say little about less.
const MACHINE_EVERY: Duration = Duration::from_secs(1);
/// How often graphical sessions are looked at: that takes processes.
const DESK_EVERY: Duration = Duration::from_secs(2);

/// When this machine may compute, and how much of it.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Living with others")]
pub struct LivingArgs {
    /// Compute only in these hours of this machine's time zone, for example 22:00-07:00; several with
    /// commas. What runs when they end is given back within two seconds, and taken up again later
    #[arg(long, value_name = "FROM-TO", value_delimiter = ',', value_parser = hours::parse)]
    pub hours: Vec<Hours>,

    /// Compute only while nobody else needs this machine: for a minute others use less than a quarter of its
    /// processors, nobody has typed at a terminal for five, and no graphical session is in use (as it tells logind: a
    /// desktop that never says that it is idle counts as used)
    #[arg(long)]
    pub idle_only: bool,

    /// Most memory for models and their caches, even if more is free
    #[arg(long, value_name = "BYTES", value_parser = byte_size::parse_positive)]
    pub max_memory: Option<u64>,

    /// Let other processes go first: from 1 to 19, the greater the more
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..=19))]
    pub nice: Option<i32>,
}

impl LivingArgs {
    /// What can be refused before anything is started.
    pub fn check(&self) -> Result<(), Failure> {
        match self.idle_only && Machine::look().is_none() {
            true => Err(Failure::usage(
                "--idle-only: this system does not tell who uses its processors",
            )),
            false => Ok(()),
        }
    }

    /// Lets other processes go first. Threads and processes that this thread starts afterwards do the same.
    pub fn be_nice(&self) -> Result<(), Failure> {
        if let Some(nice) = self.nice {
            rustix::process::nice(nice)?;
        }
        Ok(())
    }

    /// The memory for models: what was said, and no more than is allowed.
    pub fn memory(&self, said: Option<u64>) -> Option<u64> {
        match self.max_memory {
            None => said,
            Some(most) => Some(said.unwrap_or_else(memory::default_budget).min(most)),
        }
    }

    /// Whether there is anything to watch.
    fn is_free(&self) -> bool {
        self.hours.is_empty() && !self.idle_only
    }

    /// Tells a node to rest and to go on, until the task is ended. `None`: it may always compute.
    pub fn watch(&self, node: NodeHandle, talk: &Talk) -> Result<Option<JoinHandle<()>>, Failure> {
        if self.is_free() {
            return Ok(None);
        }
        let zone = Zone::named(&machine_zone::name()).map_err(anyhow::Error::from)?;
        let mut watch = Watch {
            args: self.clone(),
            zone,
            calm: Calm::default(),
            machine: None,
            desk: (None, false),
        };
        let talk = talk.clone();
        Ok(Some(tokio::spawn(async move {
            let mut tick = tokio::time::interval(LOOK_EVERY);
            tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            let mut resting: Option<String> = None;
            loop {
                tick.tick().await;
                watch.look_at_desk().await;
                let reason = watch.reason();
                if reason == resting {
                    continue;
                }
                match &reason {
                    Some(reason) => talk.note(&format!("resting: {reason}")),
                    None => talk.note("computing again"),
                }
                node.rest(reason.clone()).await;
                resting = reason;
            }
        })))
    }
}

/// Who looks at clock and machine.
struct Watch {
    args: LivingArgs,
    zone: Zone,
    calm: Calm,
    machine: Option<(Instant, Machine)>,
    /// When graphical sessions were looked at, and whether one was used.
    desk: (Option<Instant>, bool),
}

impl Watch {
    async fn look_at_desk(&mut self) {
        let fresh = (self.desk.0).is_some_and(|at| at.elapsed() < DESK_EVERY);
        if self.args.idle_only && !fresh {
            self.desk = (Some(Instant::now()), desk::is_used().await);
        }
    }

    /// Why nothing may be computed now, in words.
    fn reason(&mut self) -> Option<String> {
        let hours = &self.args.hours;
        let now = hours::Minute::of(&self.zone.time(moment::now_micros()));
        if !hours.is_empty() && !now.is_some_and(|now| hours.iter().any(|hours| hours.hold(now))) {
            let hours: Vec<String> = hours.iter().map(Hours::to_string).collect();
            let (hours, zone) = (hours.join(", "), self.zone.name());
            return Some(format!("it computes from {hours} only ({zone})"));
        }
        if self.args.idle_only && !self.is_idle() {
            return Some("the machine is used".to_owned());
        }
        None
    }

    fn is_idle(&mut self) -> bool {
        let now = Instant::now();
        let fresh = self.machine.as_ref();
        if fresh.is_some_and(|(at, _)| now.duration_since(*at) < MACHINE_EVERY) {
            return self.calm.holds(now);
        }
        let seen = Machine::look();
        if let (Some((_, before)), Some(seen)) = (&self.machine, &seen) {
            let share = seen.share_of_others_since(before);
            self.calm.note(now, share, idle::typed_ago(), self.desk.1);
        }
        self.machine = seen.map(|seen| (now, seen));
        self.calm.holds(now)
    }
}
