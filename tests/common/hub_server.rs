//! A hub of models on this machine, over HTTP: it has one repository, `u/r`, and fails as it is told.
//!
//! Files are on a second server, to which the first one redirects, as hubs do.

use serde_json::json;
use sha2::{Digest, Sha256};
use std::collections::{HashMap, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The commit of the repository.
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A request that a server got.
#[derive(Clone, Debug)]
pub struct Request {
    pub path: String,
    pub headers: HashMap<String, String>,
}

/// What is wrong with the next answer of the server with files.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// It is this status; the server says when to ask again.
    Status(u16, &'static str),
    /// It is this text with the status 200, as from the page of a network that asks who one is.
    Page(&'static str),
    /// It ends after so many bytes.
    Cut(usize),
    /// After so many bytes nothing more comes for a long time.
    Stall(usize),
    /// It is the whole file, whatever was asked for.
    Whole,
    /// It is the whole file, whatever was asked for, and ends after so many bytes.
    WholeAndCut(usize),
    /// It begins one byte behind the one that was asked for.
    OtherStart,
    /// Its bytes are others, of the right number.
    OtherBytes,
    /// It has more bytes than the file.
    Longer,
}

#[derive(Default)]
struct State {
    files: Vec<(String, Vec<u8>)>,
    /// What the list of files says beside those.
    extra: Vec<serde_json::Value>,
    listing_faults: VecDeque<(u16, &'static str)>,
    faults: VecDeque<Fault>,
    listings: Vec<Request>,
    resolved: Vec<Request>,
    fetched: Vec<Request>,
}

/// The two servers.
#[derive(Clone)]
pub struct Hub {
    state: Arc<Mutex<State>>,
    pub endpoint: String,
}

impl Hub {
    /// A hub with these files in its repository.
    pub fn new(files: &[(&str, &[u8])]) -> Hub {
        let files =
            files.iter().map(|(path, bytes)| ((*path).to_owned(), bytes.to_vec())).collect();
        let state = Arc::new(Mutex::new(State { files, ..State::default() }));
        let files_at = serve(state.clone(), String::new());
        let endpoint = serve(state.clone(), files_at);
        Hub { state, endpoint }
    }

    /// The next requests for files fail like this.
    pub fn fail(&self, faults: &[Fault]) {
        self.state.lock().unwrap().faults.extend(faults);
    }

    /// The next requests for the list of files are answered with these statuses.
    pub fn fail_listing(&self, statuses: &[(u16, &'static str)]) {
        self.state.lock().unwrap().listing_faults.extend(statuses);
    }

    /// The list of files says this too.
    pub fn list(&self, sibling: serde_json::Value) {
        self.state.lock().unwrap().extra.push(sibling);
    }

    /// The requests for the list of files, since the last call.
    pub fn listings(&self) -> Vec<Request> {
        std::mem::take(&mut self.state.lock().unwrap().listings)
    }

    /// The requests that were redirected, since the last call.
    pub fn resolved(&self) -> Vec<Request> {
        std::mem::take(&mut self.state.lock().unwrap().resolved)
    }

    /// The requests for bytes, since the last call.
    pub fn fetched(&self) -> Vec<Request> {
        std::mem::take(&mut self.state.lock().unwrap().fetched)
    }
}

/// The SHA-256 of some bytes.
pub fn sha256(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

/// Starts a server; returns its address. With `files_at` it is the hub, else the server with files.
fn serve(state: Arc<Mutex<State>>, files_at: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (state, files_at) = (state.clone(), files_at.clone());
            std::thread::spawn(move || {
                let _ = answer(stream, &state, &files_at);
            });
        }
    });
    address
}

/// Answers the request on a connection; a tunnel through a proxy leads back here.
fn answer(mut stream: TcpStream, state: &Mutex<State>, files_at: &str) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut request = read(&mut reader)?;
    if request.path.starts_with("CONNECT ") {
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
        request = read(&mut reader)?;
    }
    let path = request.path.split_once(' ').map_or("", |(_, path)| path);
    // A proxy is given the whole address.
    let path =
        path.strip_prefix("http://").map_or(path, |rest| &rest[rest.find('/').unwrap_or(0)..]);
    let request = Request { path: path.to_owned(), ..request };
    match files_at {
        "" => send_file(stream, state, request),
        _ => send_listing(stream, state, files_at, request),
    }
}

/// The first line, without the version, and the headers.
fn read(reader: &mut impl BufRead) -> std::io::Result<Request> {
    let (mut line, mut headers) = (String::new(), HashMap::new());
    reader.read_line(&mut line)?;
    let path = line.rsplit_once(' ').map_or("", |(path, _)| path).to_owned();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    Ok(Request { path, headers })
}

fn send(stream: &mut TcpStream, status: u16, headers: &str, body: &[u8]) -> std::io::Result<()> {
    let len = body.len();
    write!(
        stream,
        "HTTP/1.1 {status} Status\r\nConnection: close\r\nContent-Length: {len}\r\n{headers}\r\n"
    )?;
    stream.write_all(body)
}

fn send_listing(
    mut stream: TcpStream,
    state: &Mutex<State>,
    files_at: &str,
    request: Request,
) -> std::io::Result<()> {
    let mut state = state.lock().unwrap();
    let path = request.path.clone();
    if path.starts_with("/u/r/resolve/") {
        state.resolved.push(request);
        drop(state);
        return send(&mut stream, 302, &format!("Location: {files_at}{path}\r\n"), b"");
    }
    state.listings.push(request);
    if let Some((status, retry_after)) = state.listing_faults.pop_front() {
        return send(&mut stream, status, &format!("Retry-After: {retry_after}\r\n"), b"{}");
    }
    if path != "/api/models/u/r/revision/main?blobs=true" {
        return send(&mut stream, 404, "", b"{}");
    }
    let sibling = |(path, bytes): &(String, Vec<u8>)| {
        let lfs = json!({"sha256": sha256(bytes), "size": bytes.len(), "pointerSize": 134});
        json!({"rfilename": path, "size": bytes.len(), "blobId": COMMIT, "lfs": lfs})
    };
    let siblings: Vec<_> = state.files.iter().map(sibling).chain(state.extra.clone()).collect();
    let text = json!({"id": "u/r", "sha": COMMIT, "siblings": siblings}).to_string();
    send(&mut stream, 200, "Content-Type: application/json\r\n", text.as_bytes())
}

fn send_file(mut stream: TcpStream, state: &Mutex<State>, request: Request) -> std::io::Result<()> {
    let prefix = format!("/u/r/resolve/{COMMIT}/");
    let (file, fault) = {
        let mut state = state.lock().unwrap();
        state.fetched.push(request.clone());
        let name = request.path.strip_prefix(&prefix).unwrap_or_default().replace("%20", " ");
        let file =
            state.files.iter().find(|(path, _)| *path == name).map(|(_, bytes)| bytes.clone());
        (file, state.faults.pop_front())
    };
    let Some(mut bytes) = file else { return send(&mut stream, 404, "", b"") };
    let range = request
        .headers
        .get("range")
        .filter(|_| !matches!(fault, Some(Fault::Whole | Fault::WholeAndCut(_))));
    let start =
        range.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    let start = start.unwrap_or(0) + usize::from(matches!(fault, Some(Fault::OtherStart)));
    let total = bytes.len();
    let (mut status, mut headers) = (200, format!("ETag: \"{}\"\r\n", sha256(&bytes)));
    if start > 0 {
        status = 206;
        headers += &format!("Content-Range: bytes {start}-{}/{total}\r\n", total - 1);
    }
    let end = match fault {
        Some(Fault::Status(status, retry_after)) => {
            return send(&mut stream, status, &format!("Retry-After: {retry_after}\r\n"), b"");
        }
        Some(Fault::Page(text)) => return send(&mut stream, 200, "", text.as_bytes()),
        Some(Fault::Cut(len) | Fault::WholeAndCut(len) | Fault::Stall(len)) => {
            (start + len).min(total)
        }
        Some(Fault::OtherBytes) => {
            bytes.iter_mut().for_each(|byte| *byte ^= 1);
            total
        }
        Some(Fault::Longer) => {
            bytes.push(0);
            total + 1
        }
        Some(Fault::Whole | Fault::OtherStart) | None => total,
    };
    let len = bytes.len() - start;
    write!(
        stream,
        "HTTP/1.1 {status} Status\r\nConnection: close\r\nContent-Length: {len}\r\n{headers}\r\n"
    )?;
    stream.write_all(&bytes[start..end])?;
    if matches!(fault, Some(Fault::Stall(_))) {
        // Until the other side has gone, or for longer than any test waits.
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let _ = stream.read(&mut [0]);
    }
    Ok(())
}
