//! An answer as events, in the order that clients wait for.

use super::answer::{Form, stop_reason, usage};
use crate::answer::Answering;
use crate::deltas::{Delta, Deltas};
use crate::error::Dialect;
use crate::frames::{Gone, Sink};
use crate::job::Event;
use crate::sse;
use serde_json::{Value, json};

/// Means nothing, and keeps the connection open.
const PING: &str = "event: ping\ndata: {\"type\":\"ping\"}\n\n";

/// Sends an answer: a message with one block of text.
pub async fn stream(sink: Sink, form: Form, mut answering: Answering) -> Result<(), Gone> {
    send(&sink, json!({ "type": "message_start", "message": form.message() })).await?;
    let block = json!({ "type": "text", "text": "" });
    send(&sink, json!({ "type": "content_block_start", "index": 0, "content_block": block }))
        .await?;
    sink.send(PING.to_owned()).await?;
    let mut deltas = Deltas::new();
    let end = loop {
        match sink.wait(PING, answering.next()).await? {
            Event::Rounds(_) => {}
            Event::Pieces(pieces) => delta(&sink, deltas.push(&pieces)).await?,
            Event::End(end) => break end,
            Event::Failed(error) => {
                return sse::named(&sink, "error", &error.json(Dialect::Anthropic)).await;
            }
        }
    };
    delta(&sink, deltas.finish()).await?;
    send(&sink, json!({ "type": "content_block_stop", "index": 0 })).await?;
    let delta = json!({
        "stop_reason": stop_reason(end.stop), "stop_sequence": form.stop_sequence(&end),
    });
    send(&sink, json!({ "type": "message_delta", "delta": delta, "usage": usage(&end) })).await?;
    send(&sink, json!({ "type": "message_stop" })).await
}

async fn delta(sink: &Sink, delta: Delta) -> Result<(), Gone> {
    if delta.is_empty() {
        return Ok(());
    }
    let delta = json!({ "type": "text_delta", "text": delta.content });
    send(sink, json!({ "type": "content_block_delta", "index": 0, "delta": delta })).await
}

/// Sends an event under the name of its type.
async fn send(sink: &Sink, event: Value) -> Result<(), Gone> {
    let name = event["type"].as_str().expect("all have one").to_owned();
    sse::named(sink, &name, &event).await
}
