//! Ctrl-C and SIGTERM, heard as signals or from the supervising parent: the first asks the command to stop, the second
//! leaves at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::exit_code::ExitCode;
use crate::failure::Failure;
use crate::supervisor::Child;
use crate::talk::Talk;

/// Tells whether the user asked to stop. Cheap to clone.
#[derive(Clone)]
pub struct Interrupt(watch::Receiver<bool>);

impl Interrupt {
    /// Starts to listen, on the running tokio runtime; from here on Ctrl-C no longer kills the process by itself.
    pub fn listen(talk: &Talk, supervised: Option<&Child>) -> Result<Interrupt, Failure> {
        let (tell, told) = watch::channel(false);
        let wish = Arc::new(Wish {
            tell,
            talk: talk.clone(),
            signals: AtomicU32::new(0),
            words: AtomicU32::new(0),
        });
        if let Some(parent) = supervised {
            let wish = Arc::clone(&wish);
            parent.listen(move || wish.count(&wish.words))?;
        }
        let mut int = signal(SignalKind::interrupt())?;
        let mut term = signal(SignalKind::terminate())?;
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = int.recv() => {}
                    _ = term.recv() => {}
                }
                wish.count(&wish.signals);
            }
        });
        Ok(Interrupt(told))
    }

    /// Returns when a signal comes; never, if none does.
    pub async fn wait(&self) {
        let mut told = self.0.clone();
        if told.wait_for(|stop| *stop).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// The work's outcome, or that it was interrupted: then the work is dropped where it stands, and `kept` says what
    /// that means.
    pub async fn or<T>(
        &self,
        kept: &str,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        tokio::select! {
            done = work => done,
            () = self.wait() => Err(Failure::Interrupted(kept.to_owned())),
        }
    }
}

/// How often a stop was asked for. In a terminal one Ctrl-C arrives twice, as a signal and as the parent's word, so the
/// two are counted apart.
struct Wish {
    tell: watch::Sender<bool>,
    talk: Talk,
    signals: AtomicU32,
    words: AtomicU32,
}

impl Wish {
    fn count(&self, source: &AtomicU32) {
        if source.fetch_add(1, Ordering::AcqRel) > 0 {
            std::process::exit(i32::from(ExitCode::Interrupted.number()));
        }
        if !self.tell.send_replace(true) {
            self.talk
                .note("stopping: what is finished is being kept (again to leave at once)");
        }
    }
}
