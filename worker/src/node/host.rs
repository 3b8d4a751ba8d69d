//! Which models are in memory: several beside each other, each with its own engine, fetched, loaded and put away off
//! the node's own task.
//!
//! One load is under way at a time. Its way: fetch the files, wait until the models that make room are idle, put them
//! away, load. What a model may take is the budget less what the others hold; a model that needs more is refused.

use super::shelf::{Hosted, ModelShelf, Share};
use crate::engine::{Engine, EngineEvent, EngineStats};
use rbee_queue::node::{LoadStage, LoadingModel};
use rbee_queue::queue::LoadWish;
use rbee_queue::{JobError, ModelSha};
use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Events of an engine that wait for the node.
const EVENTS_WAITING: usize = 1024;
/// Events that are heard at once.
const EVENTS_AT_ONCE: usize = 256;
/// Wishes that wait for their turn. Whoever wishes sees what is loading, and wishes again.
const WISHES_MAX: usize = 64;
/// Weight of the newest load in the measured speed.
const NEWEST: f64 = 0.5;

/// What came of a load.
pub struct Loaded {
    /// The model.
    pub model: ModelSha,
    /// Its numerics, or why it is not there.
    pub outcome: Result<String, JobError>,
}

/// What a host has to say.
pub enum HostEvent {
    /// An engine's events, at least one.
    Told(Vec<EngineEvent>),
    /// A part of a load has ended, and maybe the load.
    Moved(Option<Loaded>),
    /// An engine is gone.
    Ended,
}

/// A model in memory.
pub struct Resident {
    /// The model.
    pub model: ModelSha,
    /// The name by which it was wished for.
    pub reference: String,
    /// What it takes, in bytes.
    pub bytes: u64,
    /// It keeps the rules of its numerics.
    pub reproducible: bool,
    /// Since when it is there.
    pub loaded_at: Instant,
    engine: Engine,
    events: mpsc::Receiver<EngineEvent>,
    /// It is put away as soon as it has no jobs.
    evicting: bool,
}

impl Resident {
    /// Its engine's figures.
    pub fn stats(&self) -> EngineStats {
        self.engine.stats()
    }
}

struct Ready {
    hosted: Hosted,
    events: mpsc::Receiver<EngineEvent>,
    took: Duration,
}

enum Stage {
    Fetching(JoinHandle<Result<(), JobError>>),
    Waiting,
    Loading(JoinHandle<Result<Ready, JobError>>),
}

struct Current {
    wish: LoadWish,
    stage: Stage,
    share: Share,
}

/// Holds models.
pub struct Host {
    shelf: Arc<dyn ModelShelf>,
    /// What all models together may take; `None` leaves it to each load.
    memory: Option<u64>,
    residents: Vec<Resident>,
    wishes: VecDeque<LoadWish>,
    current: Option<Current>,
    /// Bytes a second, measured.
    load_speed: f64,
    /// Which engine is heard first next time.
    turn: usize,
    /// Steps of engines that were put away.
    past_steps: u64,
}

impl Host {
    /// A host without a model.
    pub fn new(shelf: Arc<dyn ModelShelf>, memory: Option<u64>) -> Host {
        Host {
            shelf,
            memory,
            residents: Vec::new(),
            wishes: VecDeque::new(),
            current: None,
            load_speed: 0.0,
            turn: 0,
            past_steps: 0,
        }
    }

    /// Notes that a model is wanted. Nothing happens where it is there or on its way already.
    pub fn want(&mut self, wish: LoadWish) {
        let there = self.serves(&wish.model) || self.is_coming(&wish.model);
        if !there && self.wishes.len() < WISHES_MAX {
            self.wishes.push_back(wish);
        }
    }

    /// Goes on with the load that is next, as far as that is possible now. `is_idle` says whether a model has no jobs.
    pub fn advance(&mut self, is_idle: impl Fn(&ModelSha) -> bool) {
        if self.current.is_none()
            && let Some(wish) = self.wishes.pop_front()
        {
            let (shelf, wanted) = (Arc::clone(&self.shelf), wish.clone());
            let share = Share::default();
            let told = share.clone();
            let fetch = tokio::spawn(async move { shelf.fetch(&wanted, &told).await });
            self.current = Some(Current {
                wish,
                stage: Stage::Fetching(fetch),
                share,
            });
        }
        let Some(current) = &mut self.current else {
            return;
        };
        if !matches!(current.stage, Stage::Waiting) {
            return;
        }
        let busy =
            (self.residents.iter()).any(|resident| resident.evicting && !is_idle(&resident.model));
        if busy {
            return;
        }
        let (old, kept): (Vec<Resident>, Vec<Resident>) = std::mem::take(&mut self.residents)
            .into_iter()
            .partition(|resident| resident.evicting);
        self.residents = kept;
        self.past_steps += old.iter().map(|old| old.stats().steps).sum::<u64>();
        let held: u64 = self.residents.iter().map(|resident| resident.bytes).sum();
        let memory = self.memory.map(|memory| memory.saturating_sub(held));
        let (shelf, wish) = (Arc::clone(&self.shelf), current.wish.clone());
        current.share = Share::default();
        current.stage = Stage::Loading(tokio::task::spawn_blocking(move || {
            // The old models' memory is free before the new one needs it.
            drop(old);
            let (sender, events) = mpsc::channel(EVENTS_WAITING);
            let started = Instant::now();
            let hosted = shelf.load(&wish, memory, sender)?;
            let took = started.elapsed();
            Ok(Ready {
                hosted,
                events,
                took,
            })
        }));
    }

    /// Puts away the models that have no jobs, unless one is on its way.
    pub fn put_away(&mut self, is_idle: impl Fn(&ModelSha) -> bool) {
        if self.current.is_some() || self.residents.is_empty() {
            return;
        }
        let (old, kept): (Vec<Resident>, Vec<Resident>) = std::mem::take(&mut self.residents)
            .into_iter()
            .partition(|resident| is_idle(&resident.model));
        self.residents = kept;
        self.past_steps += old.iter().map(|old| old.stats().steps).sum::<u64>();
        // It ends the engines' threads and waits for them.
        drop(tokio::task::spawn_blocking(move || drop(old)));
    }

    /// What happens next: events of an engine unless the caller does not `hear` them now, or the end of a part of a
    /// load. Pends for ever when there is neither a model nor a load.
    pub async fn next(&mut self, hear: bool) -> HostEvent {
        let (residents, turn) = (&mut self.residents, &mut self.turn);
        let hearing = std::future::poll_fn(|cx| hear_one(residents, turn, cx));
        tokio::select! {
            event = hearing, if hear => event,
            part = ended(&mut self.current) => HostEvent::Moved(self.take_over(part)),
        }
    }

    fn take_over(&mut self, part: Part) -> Option<Loaded> {
        let ready = match part {
            Part::Fetched(Ok(())) => {
                self.make_room();
                return None;
            }
            Part::Fetched(Err(error)) => Err(error),
            Part::Loaded(ready) => ready,
        };
        let LoadWish {
            model, reference, ..
        } = self.current.take()?.wish;
        let outcome = ready.map(|ready| {
            let Hosted {
                engine,
                numerics,
                reproducible,
                bytes,
            } = ready.hosted;
            let speed = bytes as f64 / ready.took.as_secs_f64().max(1e-6);
            self.load_speed = match self.load_speed {
                0.0 => speed,
                before => before + (speed - before) * NEWEST,
            };
            self.residents.push(Resident {
                model,
                reference,
                bytes,
                reproducible,
                loaded_at: Instant::now(),
                engine,
                events: ready.events,
                evicting: false,
            });
            numerics
        });
        Some(Loaded { model, outcome })
    }

    /// The files are here: from now on the models that make room get no new jobs.
    fn make_room(&mut self) {
        if let Some(current) = &mut self.current {
            current.stage = Stage::Waiting;
            for resident in &mut self.residents {
                resident.evicting |= current.wish.evict.contains(&resident.model);
            }
        }
    }

    /// The engine that takes jobs for a model.
    pub fn engine(&self, model: &ModelSha) -> Option<&Engine> {
        let resident = self
            .residents
            .iter()
            .find(|resident| resident.model == *model);
        resident
            .filter(|resident| !resident.evicting)
            .map(|resident| &resident.engine)
    }

    /// The engine of a model that is named by its reference or sha256; without a name that of the newest one.
    pub fn find(&self, name: Option<&str>) -> Option<(ModelSha, &Engine)> {
        let mut residents = self.residents.iter().rev();
        let found = residents.find(|resident| {
            let named = |name: &str| resident.reference == name || resident.model.to_hex() == name;
            !resident.evicting && name.is_none_or(named)
        });
        found.map(|resident| (resident.model, &resident.engine))
    }

    /// All engines.
    pub fn engines(&self) -> impl Iterator<Item = &Engine> {
        self.residents.iter().map(|resident| &resident.engine)
    }

    /// The models that take jobs.
    pub fn residents(&self) -> impl Iterator<Item = &Resident> {
        self.residents.iter().filter(|resident| !resident.evicting)
    }

    /// Whether a model takes jobs.
    pub fn serves(&self, model: &ModelSha) -> bool {
        self.engine(model).is_some()
    }

    /// Whether a model is on its way.
    pub fn is_coming(&self, model: &ModelSha) -> bool {
        let current = self.current.iter().map(|current| &current.wish);
        current.chain(&self.wishes).any(|wish| wish.model == *model)
    }

    /// The models on their way.
    pub fn loading(&self) -> Vec<LoadingModel> {
        let current = self.current.iter().map(|current| LoadingModel {
            model: current.wish.model,
            stage: match &current.stage {
                Stage::Fetching(_) => LoadStage::Fetching,
                Stage::Waiting => LoadStage::Waiting,
                Stage::Loading(_) => LoadStage::Loading,
            },
            share: current.share.get(),
        });
        let wishes = self.wishes.iter().map(|wish| LoadingModel {
            model: wish.model,
            stage: LoadStage::Waiting,
            share: 0.0,
        });
        current.chain(wishes).collect()
    }

    /// Bytes a second at which models were loaded; 0 while unknown.
    pub fn load_speed(&self) -> f64 {
        self.load_speed
    }

    /// Steps of all engines since the start.
    pub fn steps(&self) -> u64 {
        let now = self.engines().map(|engine| engine.stats().steps);
        self.past_steps + now.sum::<u64>()
    }

    /// Puts everything away and waits for it.
    pub async fn stop(&mut self) {
        self.wishes.clear();
        match self.current.take().map(|current| current.stage) {
            Some(Stage::Fetching(task)) => task.abort(),
            // What it loaded is dropped with its result.
            Some(Stage::Loading(task)) => drop(task.await),
            Some(Stage::Waiting) | None => {}
        }
        let residents = std::mem::take(&mut self.residents);
        // A panic in there was logged by the engine.
        let _ = tokio::task::spawn_blocking(move || drop(residents)).await;
    }
}

/// Hears the first engine that has something to say, another one first each time.
fn hear_one(residents: &mut [Resident], turn: &mut usize, cx: &mut Context<'_>) -> Poll<HostEvent> {
    let count = residents.len();
    for offset in 0..count {
        let place = (*turn + offset) % count;
        let mut events = Vec::new();
        let heard = residents[place]
            .events
            .poll_recv_many(cx, &mut events, EVENTS_AT_ONCE);
        match heard {
            Poll::Pending => {}
            Poll::Ready(0) => return Poll::Ready(HostEvent::Ended),
            Poll::Ready(_) => {
                *turn = (place + 1) % count;
                return Poll::Ready(HostEvent::Told(events));
            }
        }
    }
    Poll::Pending
}

/// The end of a part of a load.
enum Part {
    Fetched(Result<(), JobError>),
    Loaded(Result<Ready, JobError>),
}

async fn ended(current: &mut Option<Current>) -> Part {
    let panicked = |panic: tokio::task::JoinError| {
        let message = format!("Loading the model failed inside rbee: {panic}.");
        JobError::new("model_load_failed", message)
    };
    match current.as_mut().map(|current| &mut current.stage) {
        Some(Stage::Fetching(task)) => Part::Fetched(task.await.map_err(panicked).flatten()),
        Some(Stage::Loading(task)) => Part::Loaded(task.await.map_err(panicked).flatten()),
        Some(Stage::Waiting) | None => std::future::pending().await,
    }
}
