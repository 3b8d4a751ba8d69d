//! The engine's threads: they share out the units of one operation, spin a little for the next, then sleep.
//!
//! Which thread does a unit never shows in the results: a unit is a whole output, never a part of a sum.

use super::shared::RowBuffers;
use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;

/// Turns of the wait loop before a thread sleeps: some tens of microseconds, more than the gap between two
/// operations of a step and far less than the gap between two batches.
const SPINS: u32 = 20_000;

/// A fixed set of threads that runs one operation at a time.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

type Work = *const (dyn Fn(usize) + Sync);

struct Shared {
    /// Counts operations; a change tells the workers that `work` is new.
    generation: AtomicU32,
    /// The operation in progress; written only while no worker runs.
    work: UnsafeCell<Option<Work>>,
    units: AtomicUsize,
    next_unit: AtomicUsize,
    running: AtomicUsize,
    panicked: AtomicBool,
    stop: AtomicBool,
    asleep: AtomicUsize,
    gate: Mutex<()>,
    wake: Condvar,
}

// SAFETY: `work` is written by the owner of the pool only between operations (`running` is 0), and read by workers
// only during one; the generation counter orders the two.
unsafe impl Sync for Shared {}
// SAFETY: as above; the pointer is used only while the closure behind it is borrowed by `Pool::run`.
unsafe impl Send for Shared {}

impl Pool {
    /// A pool of `threads` threads, the caller of [`Pool::run`] being one of them.
    pub fn new(threads: usize) -> Pool {
        let shared = Arc::new(Shared {
            generation: AtomicU32::new(0),
            work: UnsafeCell::new(None),
            units: AtomicUsize::new(0),
            next_unit: AtomicUsize::new(0),
            running: AtomicUsize::new(0),
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
        // SAFETY: only the lifetime is erased. Workers use the pointer only until they have decremented `running`, and
        // this function does not return (nor unwind) before `running` is 0, so `f` outlives every use. No worker reads
        // `work` now, as none is running.
        unsafe {
            *shared.work.get() = Some(std::mem::transmute::<&(dyn Fn(usize) + Sync), Work>(work));
        }
        shared.units.store(units, Ordering::Relaxed);
        shared.next_unit.store(0, Ordering::Relaxed);
        shared.running.store(self.workers.len(), Ordering::Relaxed);
        shared.generation.fetch_add(1, Ordering::SeqCst);
        if shared.asleep.load(Ordering::SeqCst) > 0 {
            let _gate = shared
                .gate
                .lock()
                .expect("the gate is never poisoned: nothing panics under it");
            shared.wake.notify_all();
        }
        let own = catch_unwind(AssertUnwindSafe(|| shared.take_units(work)));
        let mut turns = 0u32;
        while shared.running.load(Ordering::Acquire) > 0 {
            turns += 1;
            if turns < SPINS {
                std::hint::spin_loop()
            } else {
                std::thread::yield_now()
            }
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
        self.run(rows, |i| {
            // SAFETY: `run` calls this once for each index, so that no row is taken twice.
            f(i, unsafe { buffers.row(i) });
        });
    }
}

impl Shared {
    fn take_units(&self, work: &(dyn Fn(usize) + Sync)) {
        let units = self.units.load(Ordering::Relaxed);
        loop {
            let unit = self.next_unit.fetch_add(1, Ordering::Relaxed);
            if unit >= units {
                return;
            }
            work(unit);
        }
    }

    fn serve(&self) {
        let mut seen = 0;
        loop {
            seen = self.wait_for_change(seen);
            if self.stop.load(Ordering::SeqCst) {
                return;
            }
            // SAFETY: the generation changed, so `work` was written before (SeqCst), and it is not written again, nor
            // the closure dropped, until this thread has decremented `running`.
            let work = unsafe {
                &*(*self.work.get()).expect("an operation is set before the generation changes")
            };
            if catch_unwind(AssertUnwindSafe(|| self.take_units(work))).is_err() {
                self.panicked.store(true, Ordering::Relaxed);
            }
            self.running.fetch_sub(1, Ordering::Release);
        }
    }

    fn wait_for_change(&self, seen: u32) -> u32 {
        for _ in 0..SPINS {
            let now = self.generation.load(Ordering::SeqCst);
            if now != seen {
                return now;
            }
            std::hint::spin_loop();
        }
        let mut gate = self
            .gate
            .lock()
            .expect("the gate is never poisoned: nothing panics under it");
        self.asleep.fetch_add(1, Ordering::SeqCst);
        while self.generation.load(Ordering::SeqCst) == seen {
            gate = self
                .wake
                .wait(gate)
                .expect("the gate is never poisoned: nothing panics under it");
        }
        self.asleep.fetch_sub(1, Ordering::SeqCst);
        self.generation.load(Ordering::SeqCst)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.shared.generation.fetch_add(1, Ordering::SeqCst);
        drop(self.shared.gate.lock());
        self.shared.wake.notify_all();
        for worker in self.workers.drain(..) {
            // A worker's panics are caught in `serve`; there is nothing to pass on.
            let _ = worker.join();
        }
    }
}
