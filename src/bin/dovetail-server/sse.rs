//! Server-sent events.

use crate::frames::{self, Gone, Sink};
use axum::response::Response;
use serde::Serialize;
use std::future::Future;

/// A comment: it keeps the connection open and means nothing.
pub const PING: &str = ":\n\n";

/// A response of events that a future sends.
pub fn response<F>(body: impl FnOnce(Sink) -> F) -> Response
where
    F: Future<Output = Result<(), Gone>> + Send + 'static,
{
    frames::response("text/event-stream", body)
}

/// Sends an event without a name.
///
/// # Errors
/// If the client has gone.
pub async fn data(sink: &Sink, value: &impl Serialize) -> Result<(), Gone> {
    sink.send(format!("data: {}\n\n", frames::json(value))).await
}

/// Sends an event with a name.
///
/// # Errors
/// If the client has gone.
pub async fn named(sink: &Sink, name: &str, value: &impl Serialize) -> Result<(), Gone> {
    sink.send(format!("event: {name}\ndata: {}\n\n", frames::json(value))).await
}

/// Sends the event with which OpenAI's streams end.
///
/// # Errors
/// If the client has gone.
pub async fn done(sink: &Sink) -> Result<(), Gone> {
    sink.send("data: [DONE]\n\n".into()).await
}
