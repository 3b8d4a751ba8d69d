//! The threads that make masks while the model computes.

use super::mask::Mask;
use super::matcher::Matcher;
use rbee_queue::JobError;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// Threads for all choices of an engine: a mask mostly takes a tenth of a millisecond, and a step a hundred times that.
const MASK_THREADS: usize = 2;

/// A matcher that has come back with its mask.
pub type Turn = (Box<Matcher>, Result<Mask, JobError>);

/// A mask to be made.
struct Task {
    matcher: Box<Matcher>,
    back: SyncSender<Turn>,
}

/// The way to the threads, which end when the last of these is dropped. At most one task a running choice is on its way.
#[derive(Clone)]
pub struct MaskThreads {
    tasks: Sender<Task>,
}

impl MaskThreads {
    /// Starts them.
    pub fn start() -> MaskThreads {
        let (tasks, coming) = channel();
        let coming = Arc::new(Mutex::new(coming));
        for number in 0..MASK_THREADS {
            let coming = Arc::clone(&coming);
            let thread = thread::Builder::new().name(format!("rbee-mask-{number}"));
            if let Err(error) = thread.spawn(move || run(&coming)) {
                // With none at all the choices that need one fail by themselves.
                tracing::error!(%error, "the system gives no thread for masks");
            }
        }
        MaskThreads { tasks }
    }

    /// Has the next mask made. If nobody can, the receiver says so.
    pub fn mask(&self, matcher: Box<Matcher>) -> Receiver<Turn> {
        let (back, turn) = sync_channel(1);
        // A task that cannot be sent is dropped, and `back` with it.
        let _ = self.tasks.send(Task { matcher, back });
        turn
    }
}

fn run(coming: &Mutex<Receiver<Task>>) {
    loop {
        let task = coming.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Task { mut matcher, back }) = task else {
            return;
        };
        // One that panics is lost with its choice; the others go on.
        let made = catch_unwind(AssertUnwindSafe(move || {
            let mask = matcher.mask();
            (matcher, mask)
        }));
        if let Ok(turn) = made {
            // A choice that was cancelled waits no more.
            let _ = back.send(turn);
        }
    }
}
