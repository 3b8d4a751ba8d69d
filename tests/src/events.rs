//! A client of server-sent events that is not rbee's own: HTTP/1.0 over a socket, read line by line.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value as Json;

use crate::cluster::TOKEN;

/// The longest silence; a server says that it lives more often.
const PATIENCE: Duration = Duration::from_secs(180);

/// One event.
#[derive(Clone, Debug)]
pub struct Event {
    pub name: String,
    pub id: Option<String>,
    pub data: String,
}

impl Event {
    pub fn body(&self) -> Json {
        serde_json::from_str(&self.data).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// A stream of events.
pub struct Events {
    reader: BufReader<TcpStream>,
    /// The id of the last event that had one.
    pub last_id: Option<String>,
}

impl Events {
    /// Opens a path of the server at `url`, behind the event `last_id` if there is one.
    pub fn open(url: &str, path: &str, last_id: Option<&str>) -> Events {
        let last = last_id.map(|id| format!("Last-Event-ID: {id}\r\n"));
        Events::send(url, "GET", path, &last.unwrap_or_default(), "")
    }

    /// The JSON at a path.
    pub fn get(url: &str, path: &str) -> Json {
        let mut events = Events::open(url, path, None);
        serde_json::from_reader(&mut events.reader).expect("the answer is JSON")
    }

    /// Posts JSON.
    pub fn post(url: &str, path: &str, body: &Json) -> Events {
        let body = body.to_string();
        let head = format!(
            "Content-Type: application/json\r\nContent-Length: {}\r\n",
            body.len()
        );
        Events::send(url, "POST", path, &head, &body)
    }

    fn send(url: &str, verb: &str, path: &str, head: &str, body: &str) -> Events {
        let address = url.trim_start_matches("http://");
        let mut stream = TcpStream::connect(address).expect("the server listens");
        stream
            .set_read_timeout(Some(PATIENCE))
            .expect("a socket takes the option");
        write!(
            stream,
            "{verb} {path} HTTP/1.0\r\nHost: {address}\r\nAuthorization: Bearer {TOKEN}\r\n{head}\r\n{body}"
        )
        .expect("the server reads");
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line).expect("the server answers");
        assert!(line.contains(" 200 "), "{verb} {path}: {line}");
        while line != "\r\n" {
            line.clear();
            reader.read_line(&mut line).expect("the answer has a head");
        }
        Events {
            reader,
            last_id: None,
        }
    }

    /// The next event; `None` at the end.
    pub fn next_event(&mut self) -> Option<Event> {
        let (mut name, mut id, mut data) = (String::new(), None, String::new());
        loop {
            let mut line = String::new();
            let read = self.reader.read_line(&mut line);
            if read.expect("the stream is not silent for long") == 0 {
                return None;
            }
            let line = line.trim_end_matches(['\r', '\n']);
            if line.is_empty() && !data.is_empty() {
                if let Some(id) = &id {
                    self.last_id = Some(String::clone(id));
                }
                return Some(Event { name, id, data });
            }
            match line.split_once(": ") {
                Some(("event", value)) => value.clone_into(&mut name),
                Some(("id", value)) => id = Some(value.to_owned()),
                Some(("data", value)) => data.push_str(value),
                _ => {}
            }
        }
    }

    /// The events up to the end of the stream.
    pub fn rest(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.next_event()).collect()
    }
}
