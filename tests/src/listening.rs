//! Servers of the tests' own, that programs under test talk to.

use axum::Router;
use std::net::{SocketAddr, TcpListener};

/// Serves on a free port until the test's process ends. Returns the address, where connections are taken from now on.
pub fn until_the_end(router: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime can be made");
        runtime.block_on(async {
            listener.set_nonblocking(true).expect("a socket can be set");
            let listener = tokio::net::TcpListener::from_std(listener);
            axum::serve(listener.expect("it is a socket"), router).await
        })
    });
    address
}
