//! Connections: how many there are at once, and how long a client may take for the head of a request.
//!
//! A body has its time in `body.rs`. An answer may take as long as it likes.

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
/// Connections beside those of requests: of monitors, and of pages in browsers.
const OTHERS: usize = 64;

/// Limits of connections.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How many there may be at once; further ones wait until one ends.
    pub connections: usize,
    /// How long the head of a request may take.
    pub head: Duration,
}

impl Limits {
    /// The limits for so many requests at once, whose bodies may take `body`. A client may keep some connections for each
    /// request.
    pub fn new(requests: usize, body: Duration) -> Limits {
        Limits { connections: 4 * requests + OTHERS, head: HEAD.min(body) }
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
