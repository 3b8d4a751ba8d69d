//! Ctrl-C and SIGTERM: the first asks the command to stop, the second leaves at once.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::exit_code::ExitCode;
use crate::talk::Talk;

/// Tells whether the user asked to stop. Cheap to clone.
#[derive(Clone)]
pub struct Interrupt(watch::Receiver<bool>);

impl Interrupt {
    /// Starts to listen, on the running tokio runtime; from here on Ctrl-C no longer kills the process by itself.
    pub fn listen(talk: &Talk) -> std::io::Result<Interrupt> {
        let mut int = signal(SignalKind::interrupt())?;
        let mut term = signal(SignalKind::terminate())?;
        let (tell, told) = watch::channel(false);
        let talk = talk.clone();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = int.recv() => {}
                    _ = term.recv() => {}
                }
                if *tell.borrow() {
                    std::process::exit(i32::from(ExitCode::Interrupted.number()));
                }
                talk.note("stopping: what is finished is being kept (again to leave at once)");
                tell.send_replace(true);
            }
        });
        Ok(Interrupt(told))
    }

    /// Whether a signal came.
    pub fn is_set(&self) -> bool {
        *self.0.borrow()
    }

    /// Returns when a signal comes; never, if none does.
    pub async fn wait(&self) {
        let mut told = self.0.clone();
        if told.wait_for(|stop| *stop).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
