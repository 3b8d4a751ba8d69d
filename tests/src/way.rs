//! A way to a server that a test can cut: connections that break, or that stay open and say nothing.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::thread;

/// What a way does with what passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passing {
    /// Everything, both ways.
    Open = 0,
    /// Nothing, both ways, and nobody is told: packets are dropped.
    Silent = 1,
    /// Everything; but a connection that says `COMMIT` breaks before that arrives. Once.
    BreakBeforeCommit = 2,
    /// Everything; but a connection that says `COMMIT` breaks after that arrived and before the answer. Once.
    BreakAfterCommit = 3,
}

/// A way to one server on this machine.
pub struct Way {
    pub port: u16,
    state: Arc<State>,
}

struct State {
    to: u16,
    passing: AtomicU8,
    /// Connections that were broken at a commit.
    broken: AtomicU64,
}

impl Way {
    /// A way to this port of this machine.
    pub fn to(port: u16) -> Way {
        Way::from(Ipv4Addr::LOCALHOST, port)
    }

    /// The same that begins at another of this machine's addresses.
    pub fn from(address: Ipv4Addr, port: u16) -> Way {
        let listener = TcpListener::bind((address, 0)).expect("a port can be had");
        let own = listener.local_addr().expect("a listener has an address");
        let state = Arc::new(State {
            to: port,
            passing: AtomicU8::new(Passing::Open as u8),
            broken: AtomicU64::new(0),
        });
        let carrying = Arc::clone(&state);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let state = Arc::clone(&carrying);
                thread::spawn(move || carry(client, &state));
            }
        });
        Way {
            port: own.port(),
            state,
        }
    }

    pub fn set(&self, passing: Passing) {
        self.state.passing.store(passing as u8, Ordering::SeqCst);
    }

    /// How many connections were broken at a commit.
    pub fn broken(&self) -> u64 {
        self.state.broken.load(Ordering::SeqCst)
    }
}

impl State {
    fn is(&self, passing: Passing) -> bool {
        self.passing.load(Ordering::SeqCst) == passing as u8
    }

    /// True for one of those who ask, if the way was set so.
    fn take(&self, passing: Passing) -> bool {
        let open = Passing::Open as u8;
        let was = (self.passing).compare_exchange(
            passing as u8,
            open,
            Ordering::SeqCst,
            Ordering::SeqCst,
        );
        self.broken
            .fetch_add(u64::from(was.is_ok()), Ordering::SeqCst);
        was.is_ok()
    }
}

/// Carries one connection, both ways, until one end closes it.
fn carry(client: TcpStream, state: &Arc<State>) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", state.to)) else {
        return;
    };
    let ends = || Some((client.try_clone().ok()?, server.try_clone().ok()?));
    let Some((mut to_client, mut from_server)) = ends() else {
        return;
    };
    let back_state = Arc::clone(state);
    let back = thread::spawn(move || {
        let mut bytes = [0; 16_384];
        while let Ok(count @ 1..) = from_server.read(&mut bytes) {
            let silent = back_state.is(Passing::Silent);
            if !silent && to_client.write_all(&bytes[..count]).is_err() {
                break;
            }
        }
        let _ = to_client.shutdown(Shutdown::Both);
    });
    forth(&client, &server, state);
    let _ = server.shutdown(Shutdown::Both);
    let _ = client.shutdown(Shutdown::Both);
    let _ = back.join();
}

fn forth(mut client: &TcpStream, mut server: &TcpStream, state: &State) {
    let mut bytes = [0; 16_384];
    while let Ok(count @ 1..) = client.read(&mut bytes) {
        if state.is(Passing::Silent) {
            continue;
        }
        let said = &bytes[..count];
        let commit = said.windows(7).any(|word| word == b"COMMIT\0");
        if commit && state.take(Passing::BreakBeforeCommit) {
            return;
        }
        if commit && state.take(Passing::BreakAfterCommit) {
            // The client hears nothing any more; the server reads the commit before it reads the end.
            let _ = client.shutdown(Shutdown::Both);
            let _ = server.write_all(said);
            let _ = server.shutdown(Shutdown::Write);
            return;
        }
        if server.write_all(said).is_err() {
            return;
        }
    }
}
