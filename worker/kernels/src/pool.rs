//! The engine's threads: they share out the units of one operation, spin a little for the next, then sleep.
//!
//! Which thread does a unit never shows in the results: a unit is a whole output, never a part of a sum.

use super::shared::RowBuffers;
use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;

/// Turns of the wait loop before a thread sleeps: some tens of microseconds, more than the gap between two
/// operations of a step and far less than the gap between two batches.
const SPINS: u32 = 20_000;

/// Units of rows a thread.
const UNITS_A_THREAD: usize = 8;

/// A fixed set of threads that runs one operation at a time.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

type Work = *const (dyn Fn(usize) + Sync);

/// Bit of [`Shared::state`] that is set while threads may join the operation.
const OPEN: u64 = 1 << 31;
/// Adds one to the operation's number.
const NEXT: u64 = 1 << 32;

/// What one thread writes while another one reads what would be its neighbour: on cache lines of its own.
#[repr(align(128))]
struct Apart<T>(T);

struct Shared {
    /// The operation's number (upper half), whether threads may join it ([`OPEN`]), and how many workers are in it
    /// (lower 31 bits). Workers join if they come in time; the caller never waits for one that the system has not
    /// given a processor.
    state: Apart<AtomicU64>,
    /// The operation in progress; written only while no worker is in one.
    work: UnsafeCell<Option<Work>>,
    units: AtomicUsize,
    next_unit: Apart<AtomicUsize>,
    panicked: AtomicBool,
    stop: AtomicBool,
    asleep: AtomicUsize,
    gate: Mutex<()>,
    wake: Condvar,
}

// SAFETY: `work` is written by the owner of the pool only between operations, when it is closed and no worker is in it;
// workers read it only after they have joined an open one.
unsafe impl Sync for Shared {}
// SAFETY: as above; the pointer is used only while the closure behind it is borrowed by `Pool::run`.
unsafe impl Send for Shared {}

impl Pool {
    /// A pool of `threads` threads, the caller of [`Pool::run`] being one of them.
    pub fn new(threads: usize) -> Pool {
        let shared = Arc::new(Shared {
            state: Apart(AtomicU64::new(0)),
            work: UnsafeCell::new(None),
            units: AtomicUsize::new(0),
            next_unit: Apart(AtomicUsize::new(0)),
            panicked: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            asleep: AtomicUsize::new(0),
            gate: Mutex::new(()),
            wake: Condvar::new(),
        });
        let workers = (1..threads.max(1))
            .map(|i| {
                let shared = Arc::clone(&shared);
                std::thread::Builder::new()
                    .name(format!("rbee-compute-{i}"))
                    .spawn(move || shared.serve())
                    .expect("the system starts a thread")
            })
            .collect();
        Pool { shared, workers }
    }

    /// Threads that share the work.
    #[inline]
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `f(0)` … `f(units - 1)`, in any order, on all threads, and returns when all are done.
    ///
    /// Takes `&mut self` so that one operation runs at a time. A panic of `f` is passed on to the caller.
    pub fn run(&mut self, units: usize, f: impl Fn(usize) + Sync) {
        if units <= 1 || self.workers.is_empty() {
            (0..units).for_each(f);
            return;
        }
        let shared = &*self.shared;
        let work: &(dyn Fn(usize) + Sync) = &f;
        // SAFETY: only the lifetime is erased. Workers use the pointer only between joining the open operation and
        // leaving it, and this function does not return (nor unwind) before it is closed and all have left, so `f`
        // outlives every use. No worker reads `work` now: the last operation is closed and none is in it.
        unsafe {
            *shared.work.get() = Some(std::mem::transmute::<&(dyn Fn(usize) + Sync), Work>(work));
        }
        shared.units.store(units, Ordering::Relaxed);
        shared.next_unit.0.store(0, Ordering::Relaxed);
        shared.state.0.fetch_add(NEXT | OPEN, Ordering::SeqCst);
        if shared.asleep.load(Ordering::SeqCst) > 0 {
            shared.wake_all();
        }
        let own = catch_unwind(AssertUnwindSafe(|| shared.take_units(work)));
        let mut left = shared.state.0.fetch_and(!OPEN, Ordering::SeqCst) & !OPEN;
        let mut turns = 0u32;
        while left as u32 > 0 {
            turns += 1;
            if turns < SPINS {
                std::hint::spin_loop()
            } else {
                std::thread::yield_now()
            }
            left = shared.state.0.load(Ordering::Acquire);
        }
        if let Err(panic) = own {
            resume_unwind(panic);
        }
        if shared.panicked.swap(false, Ordering::Relaxed) {
            panic!("a compute thread panicked; its message is above");
        }
    }

    /// Calls `f(i, row i of the buffers)` for every row below `rows`, on all threads.
    pub fn for_rows<B: RowBuffers>(
        &mut self,
        rows: usize,
        buffers: B,
        f: impl Fn(usize, B::Row) + Sync,
    ) {
        // Enough units to even out, few enough that the threads do not contend for the next one.
        let rows_of_unit = (rows / (self.threads() * UNITS_A_THREAD)).max(1);
        self.run(rows.div_ceil(rows_of_unit), |unit| {
            let first = unit * rows_of_unit;
            for i in first..rows.min(first + rows_of_unit) {
                // SAFETY: `run` calls this once for each unit, so that no row is taken twice.
                f(i, unsafe { buffers.row(i) });
            }
        });
    }
}

impl Shared {
    fn take_units(&self, work: &(dyn Fn(usize) + Sync)) {
        let units = self.units.load(Ordering::Relaxed);
        loop {
            let unit = self.next_unit.0.fetch_add(1, Ordering::Relaxed);
            if unit >= units {
                return;
            }
            work(unit);
        }
    }

    fn serve(&self) {
        let mut seen = 0;
        while let Some(number) = self.join(seen) {
            seen = number;
            // SAFETY: this thread is in the operation, whose `work` was written before it was opened (SeqCst), and it is
            // not written again, nor the closure dropped, until this thread has left.
            let work =
                unsafe { &*(*self.work.get()).expect("an operation is set before it is opened") };
            if catch_unwind(AssertUnwindSafe(|| self.take_units(work))).is_err() {
                self.panicked.store(true, Ordering::Relaxed);
            }
            self.state.0.fetch_sub(1, Ordering::Release);
        }
    }

    /// Waits for an operation after `seen` and joins it; `None` when the pool ends.
    fn join(&self, seen: u32) -> Option<u32> {
        let mut turns = 0u32;
        loop {
            if self.stop.load(Ordering::SeqCst) {
                return None;
            }
            let state = self.state.0.load(Ordering::SeqCst);
            let number = (state >> 32) as u32;
            if number != seen && state & OPEN != 0 {
                if self
                    .state
                    .0
                    .compare_exchange(state, state + 1, Ordering::SeqCst, Ordering::SeqCst)
                    .is_ok()
                {
                    return Some(number);
                }
                continue;
            }
            turns += 1;
            if turns < SPINS {
                std::hint::spin_loop();
            } else {
                self.sleep(state);
                turns = 0;
            }
        }
    }

    /// Sleeps until the state is another one or the pool ends.
    fn sleep(&self, state: u64) {
        let number = |state: u64| state >> 32;
        let mut gate = self
            .gate
            .lock()
            .expect("the gate is never poisoned: nothing panics under it");
        self.asleep.fetch_add(1, Ordering::SeqCst);
        while number(self.state.0.load(Ordering::SeqCst)) == number(state)
            && !self.stop.load(Ordering::SeqCst)
        {
            gate = self
                .wake
                .wait(gate)
                .expect("the gate is never poisoned: nothing panics under it");
        }
        self.asleep.fetch_sub(1, Ordering::SeqCst);
    }

    fn wake_all(&self) {
        drop(
            self.gate
                .lock()
                .expect("the gate is never poisoned: nothing panics under it"),
        );
        self.wake.notify_all();
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.shared.wake_all();
        for worker in self.workers.drain(..) {
            // A worker's panics are caught in `serve`; there is nothing to pass on.
            let _ = worker.join();
        }
    }
}
