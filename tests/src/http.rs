//! Plain requests over a socket: what goes over the wire is what a test wrote, right or wrong.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::Value as Json;

use crate::cluster::PATIENCE;

/// An answer: its status and everything that came.
pub struct Answer {
    pub status: u16,
    pub text: String,
}

impl Answer {
    pub fn body(&self) -> &str {
        self.text
            .split_once("\r\n\r\n")
            .map_or("", |(_, body)| body)
    }

    pub fn json(&self) -> Json {
        serde_json::from_str(self.body()).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// What the events of a stream say, without their frame.
    pub fn events(&self) -> Vec<&str> {
        self.text
            .lines()
            .filter_map(|line| line.strip_prefix("data: "))
            .collect()
    }

    /// The events that are JSON.
    pub fn told(&self) -> Vec<Json> {
        let events = self.events();
        let json = events.iter().filter(|event| **event != "[DONE]");
        json.map(|event| serde_json::from_str(event).expect("an event is JSON"))
            .collect()
    }
}

/// A request to a port of this machine as it goes over the wire; its first line lacks the version.
pub fn send(port: u16, request: &str, body: &str) -> Answer {
    let (line, headers) = request
        .split_once("\r\n")
        .unwrap_or((request, "X-None: none"));
    let text = format!(
        "{line} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n{headers}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        port,
        body.len()
    );
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the face listens");
    stream
        .set_read_timeout(Some(PATIENCE))
        .expect("a stream has a timeout");
    stream.write_all(text.as_bytes()).expect("it can be sent");
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("an answer comes");
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let status = text
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    Answer {
        status: status.unwrap_or_else(|| panic!("no status: {text}")),
        text,
    }
}
