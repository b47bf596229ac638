//! Connections: how many there are at once, how long a client may take for the head of a request, and how long it may
//! leave its answer unread.
//!
//! A body has its time in `body.rs`. An answer may take as long as it likes.

use crate::write_timeout::WriteTimeout;
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::sleep;

/// How long the head of a request may take, and how long a connection may have none.
const HEAD: Duration = Duration::from_secs(30);
/// How long a client may read nothing of what was sent.
const UNREAD: Duration = Duration::from_secs(30);
/// Connections beside those of requests: of monitors, and of pages in browsers.
const BESIDE_REQUESTS: usize = 64;

/// Limits of connections.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How many there may be at once; further ones wait until one ends.
    pub connections: usize,
    /// How long the head of a request may take.
    pub head: Duration,
    /// How long a client may read nothing while there is more to send.
    pub unread: Duration,
}

impl Limits {
    /// The limits for so many requests at once, whose bodies may take `body`. A client may keep some connections for each
    /// request.
    pub fn new(requests: usize, body: Duration) -> Limits {
        Limits {
            connections: 4 * requests + BESIDE_REQUESTS,
            head: HEAD.min(body),
            unread: UNREAD.min(body),
        }
    }
}

/// Serves connections until `closed`, and then until the last response is sent.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    mut closed: oneshot::Receiver<()>,
) {
    let places = Arc::new(Semaphore::new(limits.connections));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(limits.head);
    let open = GracefulShutdown::new();
    loop {
        let (stream, place) = tokio::select! {
            next = accept(&listener, &places) => next,
            _ = &mut closed => break,
        };
        let service = TowerToHyperService::new(router.clone());
        let stream = WriteTimeout::new(stream, limits.unread);
        let connection = http.serve_connection(TokioIo::new(stream), service);
        let connection = open.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!("a connection ended: {error}");
            }
            drop(place);
        });
    }
    drop(listener);
    open.shutdown().await;
}

/// The next connection, and its place among those that there may be.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> (TcpStream, OwnedSemaphorePermit) {
    let place = places.clone().acquire_owned().await.expect("it is never closed");
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // Each event of a stream is a small packet that must not wait for the next one. Without this it still comes.
                let _ = stream.set_nodelay(true);
                return (stream, place);
            }
            Err(error) if is_of_client(error.kind()) => {}
            Err(error) => {
                // There are too many open files, for example.
                tracing::error!("no connection can be accepted: {error}");
                sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

/// Whether an error means that the client has gone already.
fn is_of_client(kind: ErrorKind) -> bool {
    use ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(kind, ConnectionAborted | ConnectionRefused | ConnectionReset)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;
    use std::io::{Read, Write};
    use std::net::SocketAddr;
    use std::thread;
    use std::time::Instant;
    use tokio::net::TcpSocket;
    use tokio::task::spawn_blocking;
    use tokio::time::timeout;

    /// More than the buffers between both sides hold.
    const BYTES: usize = 16 << 20;
    const SECOND: Duration = Duration::from_secs(1);

    /// Serves one client at a time, which must have read something after each second.
    async fn start() -> (SocketAddr, oneshot::Sender<()>) {
        let router = Router::new().route("/", get(|| async { vec![b'x'; BYTES] }));
        let limits = Limits { connections: 1, head: SECOND, unread: SECOND };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (close, closed) = oneshot::channel();
        tokio::spawn(serve(listener, router, limits, closed));
        (address, close)
    }

    /// A client that has asked, for which its system holds next to nothing.
    async fn ask(address: SocketAddr) -> std::net::TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(8 << 10).unwrap();
        let mut stream = socket.connect(address).await.unwrap().into_std().unwrap();
        stream.set_nonblocking(false).unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n").unwrap();
        stream
    }

    /// The number of bytes that arrive, of which for a while 8 KiB are read every 40 ms.
    async fn read(mut stream: std::net::TcpStream, slowly: Duration) -> usize {
        let reading = spawn_blocking(move || {
            let (start, mut all, mut buffer) = (Instant::now(), 0, vec![0; 1 << 20]);
            loop {
                let is_slow = start.elapsed() < slowly;
                if is_slow {
                    thread::sleep(Duration::from_millis(40));
                }
                let most = if is_slow { 8 << 10 } else { buffer.len() };
                match stream.read(&mut buffer[..most]) {
                    Ok(n) if n > 0 => all += n,
                    _ => return all,
                }
            }
        });
        timeout(Duration::from_secs(60), reading).await.expect("it comes to an end").unwrap()
    }

    #[tokio::test]
    async fn a_client_that_reads_slowly_is_kept() {
        let (address, _close) = start().await;
        let found = read(ask(address).await, 4 * SECOND).await;
        assert!(found > BYTES, "{found} bytes");
    }

    #[tokio::test]
    async fn a_client_that_reads_nothing_is_given_up() {
        let (address, _close) = start().await;
        let stopped = ask(address).await;
        // The second gets the place of the first.
        let second = read(ask(address).await, Duration::ZERO).await;
        let found = read(stopped, Duration::ZERO).await;
        assert!(second > BYTES, "{second} bytes");
        assert!((1..BYTES).contains(&found), "{found} bytes");
    }
}
