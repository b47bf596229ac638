//! `dovetail-server` on a made-up model, and a client that speaks HTTP over a socket, so that tests can misbehave.

#![allow(dead_code, reason = "each test binary uses a part of this")]

use crate::common::gguf::Parts;
use crate::common::process::without_flags;
use serde_json::Value;
use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(60);

/// A server that runs; it ends with the value.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
    pub folder: TempDir,
}

/// A response.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub headers: HashMap<String, String>,
    pub body: String,
}

impl Response {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// The events of a stream without names, but for the last one, which says that it is over.
    pub fn events(&self) -> Vec<Value> {
        assert_eq!(self.status, 200, "{}", self.body);
        assert_eq!(self.headers["content-type"], "text/event-stream");
        let events: Vec<_> = self.body.split_terminator("\n\n").filter(|e| *e != ":").collect();
        let (last, events) = events.split_last().expect("a stream has an event");
        assert_eq!(*last, "data: [DONE]");
        let json = |event: &&str| serde_json::from_str(event.strip_prefix("data: ").unwrap());
        events.iter().map(|event| json(event).unwrap()).collect()
    }

    /// The events of a stream, each with its name.
    pub fn named_events(&self) -> Vec<(String, Value)> {
        assert_eq!(self.status, 200, "{}", self.body);
        let event = |event: &str| {
            let (name, data) = event.split_once('\n').unwrap();
            let data = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
            (name.strip_prefix("event: ").unwrap().to_owned(), data)
        };
        self.body.split_terminator("\n\n").filter(|event| *event != ":").map(event).collect()
    }
}

impl Server {
    /// Starts a server on a model and waits until it is loaded.
    pub fn start(parts: &Parts, flags: &[&str]) -> Server {
        let server = Server::spawn(parts, flags);
        let start = Instant::now();
        while server.get("/health").status != 200 {
            assert!(start.elapsed() < LONG, "the model is not loaded");
            std::thread::sleep(Duration::from_millis(10));
        }
        server
    }

    /// Starts a server on a model and waits until it listens.
    pub fn spawn(parts: &Parts, flags: &[&str]) -> Server {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("m.gguf"), parts.bytes()).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_dovetail-server"));
        without_flags(&mut command);
        command.env_remove("LLAMA_API_KEY").env_remove("RUST_LOG");
        command.env("HOME", folder.path()).env("DOVETAIL_CACHE", folder.path().join("cache"));
        command.current_dir(folder.path()).env("DOVETAIL_SPEC_TYPE", "none").stdin(Stdio::null());
        command.args(["m.gguf", "--port", "0", "-t", "1", "--chat-template", "chatml"]);
        let mut child = command.args(flags).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut seen = Vec::new();
        let address = loop {
            let Some(Ok(line)) = lines.next() else { panic!("it does not listen: {seen:?}") };
            if let Some((_, address)) = line.split_once("listening at http://") {
                break address.parse().unwrap();
            }
            seen.push(line);
        };
        // What is not read would stop the server.
        std::thread::spawn(move || lines.for_each(drop));
        Server { child, address, folder }
    }

    /// A connection.
    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream
    }

    /// Sends a request and leaves the response unread.
    pub fn send(&self, method: &str, path: &str, headers: &str, body: &str) -> TcpStream {
        let mut stream = self.connect();
        let len = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len}\r\n{headers}\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        // A server that refuses a body may not read it.
        let _ = stream.write_all(body.as_bytes());
        stream
    }

    pub fn get(&self, path: &str) -> Response {
        read(self.send("GET", path, "", ""))
    }

    pub fn post(&self, path: &str, body: &Value) -> Response {
        read(self.send("POST", path, "", &body.to_string()))
    }

    /// The value of a counter.
    pub fn metric(&self, name: &str) -> f64 {
        let metrics = self.get("/metrics").body;
        let line = metrics.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
        line.unwrap_or_else(|| panic!("{name} in {metrics}")).parse().unwrap()
    }

    /// Waits until no request runs or waits.
    pub fn wait_until_idle(&self, most: Duration) {
        let start = Instant::now();
        while self.metric("llamacpp:requests_processing")
            + self.metric("llamacpp:requests_deferred")
            > 0.0
        {
            assert!(start.elapsed() < most, "a slot is stuck");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Sends a signal.
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(start.elapsed() < LONG, "the server does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The names of events, without repetitions.
pub fn names(events: &[(String, Value)]) -> Vec<&str> {
    let mut names: Vec<&str> = events.iter().map(|(name, _)| &**name).collect();
    names.dedup();
    names
}

/// Reads a response to its end.
pub fn read(mut stream: TcpStream) -> Response {
    let mut bytes = Vec::new();
    // A server that refuses a body may close a connection that is still written to.
    let _ = stream.read_to_end(&mut bytes);
    parse(&bytes)
}

/// What arrives until the other side closes or `done`.
pub fn read_until(stream: &mut TcpStream, part: &str) -> String {
    let (mut all, mut buffer) = (Vec::new(), [0; 4096]);
    while !String::from_utf8_lossy(&all).contains(part) {
        let n = stream.read(&mut buffer).unwrap();
        assert!(n > 0, "no {part:?} in {:?}", String::from_utf8_lossy(&all));
        all.extend(&buffer[..n]);
    }
    String::from_utf8(all).unwrap()
}

fn parse(bytes: &[u8]) -> Response {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
    let end = end.unwrap_or_else(|| panic!("no head: {:?}", String::from_utf8_lossy(bytes)));
    let head = std::str::from_utf8(&bytes[..end]).unwrap();
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let header = |line: &str| {
        let (name, value) = line.split_once(": ").unwrap();
        (name.to_ascii_lowercase(), value.to_owned())
    };
    let headers: HashMap<_, _> = lines.map(header).collect();
    let body = &bytes[end + 4..];
    let is_chunked = headers.get("transfer-encoding").is_some_and(|how| how == "chunked");
    let body = if is_chunked { unchunked(body) } else { body.to_vec() };
    Response { status, headers, body: String::from_utf8(body).unwrap() }
}

fn unchunked(mut bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some(end) = bytes.windows(2).position(|two| two == b"\r\n") {
        let len = std::str::from_utf8(&bytes[..end]).unwrap();
        let len = usize::from_str_radix(len, 16).unwrap();
        let data = end + 2..end + 2 + len;
        out.extend(bytes.get(data.clone()).unwrap_or_else(|| panic!("a chunk is cut off")));
        bytes = &bytes[data.end + 2..];
    }
    out
}

/// Runs `work` with each item at the same time, and returns the results in order.
pub fn side_by_side<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    std::thread::scope(|scope| {
        let work = &work;
        let spawn = |item| scope.spawn(move || work(item));
        let threads: Vec<_> = items.iter().map(spawn).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}
