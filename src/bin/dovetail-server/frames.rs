//! A response's body that is sent while it is made.
//!
//! A future makes the body and sends it, part by part, to a channel that holds one; the body polls both. So no task has to
//! be ended when the client goes away: the future is dropped with the body, and what it waits for with it.

use axum::body::{Body, Bytes};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use futures_core::Stream;
use serde::Serialize;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::mpsc;

/// How often something is sent though there is nothing to send, so that no one in between gives the connection up.
const PING: Duration = Duration::from_secs(15);

/// The client has gone.
#[derive(Debug)]
pub struct Gone;

/// Where the parts of a body go.
pub struct Sink(mpsc::Sender<Bytes>);

impl Sink {
    /// Sends a part as it is.
    ///
    /// # Errors
    /// If the client has gone.
    pub async fn send(&self, part: String) -> Result<(), Gone> {
        self.0.send(part.into()).await.map_err(|_| Gone)
    }

    /// Sends a line of JSON.
    ///
    /// # Errors
    /// If the client has gone.
    pub async fn line(&self, value: &impl Serialize) -> Result<(), Gone> {
        self.send(json(value) + "\n").await
    }

    /// Waits for a value, and sends `ping` while there is none.
    ///
    /// # Errors
    /// If the client has gone.
    pub async fn wait<T>(&self, ping: &str, value: impl Future<Output = T>) -> Result<T, Gone> {
        let mut value = std::pin::pin!(value);
        loop {
            match tokio::time::timeout(PING, &mut value).await {
                Ok(value) => return Ok(value),
                Err(_) => self.send(ping.to_owned()).await?,
            }
        }
    }
}

/// A value as JSON.
pub fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("texts, numbers and lists")
}

/// A response whose body is what a future sends.
pub fn response<F>(content_type: &'static str, body: impl FnOnce(Sink) -> F) -> Response
where
    F: Future<Output = Result<(), Gone>> + Send + 'static,
{
    let (sender, parts) = mpsc::channel(1);
    let maker = Some(Box::pin(body(Sink(sender))) as Maker);
    let headers = [(CONTENT_TYPE, content_type), (CACHE_CONTROL, "no-cache")];
    (headers, Body::from_stream(Parts { maker, parts })).into_response()
}

type Maker = Pin<Box<dyn Future<Output = Result<(), Gone>> + Send>>;

/// The parts of a body, and who makes them.
struct Parts {
    /// `None` once all is made.
    maker: Option<Maker>,
    parts: mpsc::Receiver<Bytes>,
}

impl Stream for Parts {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context) -> Poll<Option<Self::Item>> {
        if let Some(maker) = &mut self.maker
            && maker.as_mut().poll(context).is_ready()
        {
            self.maker = None;
        }
        self.parts.poll_recv(context).map(|part| part.map(Ok))
    }
}
