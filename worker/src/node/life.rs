//! One life of a node: from its lease to the end of it, the loop in which everything meets.

use super::ask::refuse;
use super::commit::{Committer, Group, Ledger};
use super::host::HostEvent;
use super::intake::{Came, Intake};
use super::lease::{Fence, Lease, LeaseState};
use super::status::Command;
use super::watching::Publisher;
use super::{
    LEAVE_PATIENCE, Node, NodeError, PUT_AWAY_AFTER, REST_GRACE, STATUS_EVERY, Turn, away,
};
use rbee_queue::queue::{Control, Held};
use rbee_queue::store::ReleaseCause;
use rbee_queue::{Batches, NodeInstance};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

/// How a life ended.
pub enum End {
    /// The node was told to leave.
    Left,
    /// Its lease is over, for this reason.
    Fenced(String),
}

/// What a life has beside the node itself.
pub struct Life {
    lease: Option<Lease>,
    intake: Intake,
    committer: Committer,
    /// Jobs that the store is done with.
    settled: mpsc::Receiver<Vec<Held>>,
    publisher: Publisher,
    /// The store wishes that it takes no new work.
    drain_wished: bool,
    /// When running jobs are given back, once it drains.
    drained_by: Option<Instant>,
    grace: Option<Duration>,
}

impl Life {
    /// Starts the tasks of a life.
    pub fn begin(node: &mut Node, lease: Option<Lease>) -> Life {
        let (batches, instance) = (node.batches.clone(), node.instance.clone());
        let fence = lease.as_ref().map(|lease| lease.fence().clone());
        let (committer, settled) = Committer::start(Ledger {
            batches: batches.clone(),
            node: instance.clone(),
            fence: fence.clone().unwrap_or_default(),
            blocked: node.board.blocked(),
        });
        if let (Some(fence), false) = (fence, node.former.is_empty()) {
            let former = std::mem::take(&mut node.former);
            tokio::spawn(bury(batches.clone(), former, fence));
        }
        Life {
            intake: Intake::start(&batches, &instance, node.desk.room()),
            publisher: Publisher::start(batches.queue().clone(), instance),
            committer,
            settled,
            lease,
            drain_wished: false,
            drained_by: None,
            grace: node.options.lease.as_ref().map(|lease| lease.grace),
        }
    }

    /// Ends in peace: what is finished is committed.
    pub async fn end(self, last: Group) -> Result<(), rbee_queue::StoreError> {
        let Life {
            intake,
            committer,
            settled,
            lease,
            ..
        } = self;
        drop((intake, settled));
        let committing = committer.finish(last);
        let committed = match &lease {
            None => committing.await,
            // A store that is away keeps nobody from leaving: what is not stored is computed again.
            Some(_) => tokio::time::timeout(LEAVE_PATIENCE, committing)
                .await
                .unwrap_or(Ok(())),
        };
        drop(lease);
        committed
    }

    /// Ends at once: nothing more is written.
    pub fn abandon(self) {
        self.committer.abandon();
    }

    fn has_lease(&self) -> bool {
        self.lease.is_some()
    }

    /// Sends the next heartbeat now.
    fn prod(&self) {
        if let Some(lease) = &self.lease {
            lease.prod();
        }
    }
}

/// Gives up what former instances of this process hold: nobody has to wait until their leases are judged.
async fn bury(batches: Batches, former: Vec<NodeInstance>, fence: Fence) {
    for instance in former {
        if !fence.holds() {
            return;
        }
        let cause = ReleaseCause::Lost;
        let buried = async {
            batches.release_all_of(&instance, cause).await?;
            batches.store().node_leave(&instance).await
        };
        if let Err(error) = buried.await {
            tracing::debug!(%error, node = %instance, "the former instance waits to be judged");
        }
        // Its inbox is garbage, which its queue lets expire.
        if let Err(error) = batches.queue().leave(&instance).await {
            tracing::debug!(%error, node = %instance, "the former inbox stays until it expires");
        }
    }
}

async fn lease_changed(lease: &mut Option<Lease>) -> LeaseState {
    match lease {
        Some(lease) => lease.changed().await,
        None => std::future::pending().await,
    }
}

impl Node {
    /// Works until the node is told to leave or its lease is over.
    pub(super) async fn work(&mut self, life: &mut Life) -> Result<End, NodeError> {
        let mut tick = tokio::time::interval(STATUS_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let draining = self.is_draining(life);
            self.desk.return_unwanted(&self.host, draining);
            self.desk.feed(&self.host);
            if self.leaving && self.desk.is_empty() {
                return Ok(End::Left);
            }
            if self.is_late(life, draining) {
                if self.leaving {
                    return Ok(End::Left);
                }
                self.desk.return_running(&self.host);
            }
            tokio::select! {
                came = life.intake.next() => match came {
                    Came::Work(taken) => self.desk.take_in(taken),
                    Came::Control(control) => self.control(control, life),
                },
                event = self.host.next(self.desk.has_room()) => self.hear(event, life)?,
                ready = life.committer.ready(), if self.desk.has_group() => match ready {
                    Some(permit) => drop(permit.send(self.desk.take_group())),
                    // Its task has failed, and the end of this life tells why; or the lease is over, which comes next.
                    None if life.has_lease() => return Ok(self.fenced_or_left(life).await),
                    None => return Ok(End::Left),
                },
                Some(jobs) = life.settled.recv() => self.desk.forget(&jobs),
                state = lease_changed(&mut life.lease) => match state {
                    LeaseState::Lost(reason) => return Ok(End::Fenced(reason)),
                    LeaseState::Held { drain } => life.drain_wished = drain,
                },
                command = self.commands.recv() => {
                    // A handle that was dropped cannot ask for more: finish and leave.
                    if let Turn::Over = self.command(command.unwrap_or(Command::Drain)) {
                        return Ok(End::Left);
                    }
                }
                _ = tick.tick() => {}
            }
            let desk = &self.desk;
            self.host.advance(|model| desk.is_idle_of(model));
            if self.rests_for(PUT_AWAY_AFTER) && desk.is_empty() {
                self.host.put_away(|model| desk.is_idle_of(model));
            }
            let draining = self.is_draining(life);
            if self
                .board
                .update(&self.host, &self.desk, &self.disk, draining)
            {
                life.prod();
            }
        }
    }

    /// Whether it takes no new work.
    fn is_draining(&self, life: &Life) -> bool {
        self.leaving || life.drain_wished || self.resting_since.is_some()
    }

    fn rests_for(&self, time: Duration) -> bool {
        self.resting_since
            .is_some_and(|since| since.elapsed() >= time)
    }

    /// Whether a drain has taken longer than the grace time.
    fn is_late(&self, life: &mut Life, draining: bool) -> bool {
        if self.rests_for(REST_GRACE) {
            return true;
        }
        if !draining {
            life.drained_by = None;
            return false;
        }
        let Some(grace) = life.grace else {
            return false;
        };
        let by = *life
            .drained_by
            .get_or_insert_with(|| Instant::now() + grace);
        Instant::now() >= by
    }

    /// The committing task has ended: because the lease is over, or because the store failed for good.
    async fn fenced_or_left(&mut self, life: &mut Life) -> End {
        let fenced = async {
            loop {
                if let LeaseState::Lost(reason) = lease_changed(&mut life.lease).await {
                    return reason;
                }
            }
        };
        match tokio::time::timeout(STATUS_EVERY, fenced).await {
            Ok(reason) => End::Fenced(reason),
            Err(_) => End::Left,
        }
    }

    fn hear(&mut self, event: HostEvent, life: &Life) -> Result<(), NodeError> {
        match event {
            HostEvent::Moved(loaded) => self.moved(loaded),
            HostEvent::Ended => return Err(NodeError::EngineEnded),
            HostEvent::Told(events) => life.publisher.send(self.desk.hear(events)),
        }
        Ok(())
    }

    fn control(&mut self, control: Control, life: &mut Life) {
        match control {
            Control::Cancel(jobs) => self.desk.cancel(&jobs, &self.host),
            Control::Load(wish) => self.host.want(wish),
            Control::Watch(jobs) => self.desk.watch(&jobs, &self.host),
            Control::Logs { ask, lines } => self.tell_log(ask, lines),
            // In a cluster the store's word counts, which says both when a drain begins and when it is over.
            Control::Drain if life.has_lease() => {
                life.drain_wished = true;
                life.prod();
            }
            Control::Drain => self.leaving = true,
        }
    }

    fn tell_log(&self, ask: String, lines: usize) {
        let tail = self.logs.as_ref().map(|logs| logs(lines));
        let queue = self.batches.queue().clone();
        tokio::spawn(async move {
            let tail = tail.unwrap_or_default();
            if let Err(error) = queue.answer(&ask, tail).await {
                tracing::debug!(%error, "whoever asked for the log does not get it");
            }
        });
    }

    fn command(&mut self, command: Command) -> Turn {
        match command {
            Command::Load(wish) => self.host.want(wish),
            Command::Replace(model) => self.replace(model),
            Command::Ask(ask) if self.leaving => refuse(&ask.answer, away()),
            Command::Ask(ask) => self.desk.ask(ask, &self.host),
            Command::Rest(reason) => self.rest(reason),
            Command::Drain => self.leaving = true,
            Command::Stop => return Turn::Over,
        }
        Turn::On
    }
}
