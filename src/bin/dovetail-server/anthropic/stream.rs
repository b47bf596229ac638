//! An answer as events, in the order that clients wait for.

use super::answer::{Form, content_block, content_delta, stop_reason, usage};
use crate::answer::Answering;
use crate::blocks::{Blocks, Change, Kind};
use crate::error::Dialect;
use crate::frames::{Gone, Sink};
use crate::job::Event;
use crate::sse;
use serde_json::{Value, json};

/// Means nothing, and keeps the connection open.
const PING: &str = "event: ping\ndata: {\"type\":\"ping\"}\n\n";

/// Sends an answer: a message with its blocks.
pub async fn stream(sink: Sink, form: Form, mut answering: Answering) -> Result<(), Gone> {
    let mut events = Events { sink, index: 0, kind: Kind::Text };
    events.send(json!({ "type": "message_start", "message": form.message() })).await?;
    let mut blocks = Blocks::new(&form.reading);
    let end = loop {
        match events.sink.wait(PING, answering.next()).await? {
            Event::Rounds(_) => {}
            Event::Pieces(pieces) => events.changes(blocks.push(&pieces)).await?,
            Event::End(end) => break end,
            Event::Failed(error) => {
                return sse::named(&events.sink, "error", &error.json(Dialect::Anthropic)).await;
            }
        }
    };
    events.changes(blocks.finish()).await?;
    let delta = json!({
        "stop_reason": stop_reason(end.stop, blocks.has_calls()),
        "stop_sequence": form.stop_sequence(&end),
    });
    let last = json!({ "type": "message_delta", "delta": delta, "usage": usage(&end) });
    events.send(last).await?;
    events.send(json!({ "type": "message_stop" })).await
}

/// Numbers blocks.
struct Events {
    sink: Sink,
    /// The block's number and kind.
    index: usize,
    kind: Kind,
}

impl Events {
    async fn changes(&mut self, changes: Vec<Change>) -> Result<(), Gone> {
        for change in changes {
            match change {
                Change::Begin(kind) => {
                    let block = content_block(&kind, "");
                    self.kind = kind;
                    self.block("content_block_start", json!({ "content_block": block })).await?;
                    if self.index == 0 {
                        self.sink.send(PING.to_owned()).await?;
                    }
                }
                Change::More(text) => {
                    let delta = content_delta(&self.kind, &text);
                    self.block("content_block_delta", json!({ "delta": delta })).await?;
                }
                Change::End(block) => {
                    if block.kind == Kind::Thought {
                        let delta = json!({ "type": "signature_delta", "signature": "" });
                        self.block("content_block_delta", json!({ "delta": delta })).await?;
                    }
                    self.block("content_block_stop", json!({})).await?;
                    self.index += 1;
                }
            }
        }
        Ok(())
    }

    /// Sends an event of the block.
    async fn block(&self, name: &str, mut event: Value) -> Result<(), Gone> {
        (event["type"], event["index"]) = (json!(name), json!(self.index));
        self.send(event).await
    }

    /// Sends an event under the name of its type.
    async fn send(&self, event: Value) -> Result<(), Gone> {
        let name = event["type"].as_str().expect("all have one");
        sse::named(&self.sink, name, &event).await
    }
}
