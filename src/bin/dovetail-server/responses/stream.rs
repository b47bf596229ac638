//! An answer as events.

use super::answer::{self, Form};
use crate::answer::Answering;
use crate::deltas::Deltas;
use crate::error::Dialect;
use crate::frames::{Gone, Sink};
use crate::job::{End, Event};
use crate::sse;
use serde_json::{Value, json};

/// Sends an answer.
pub async fn stream(sink: Sink, form: Form, mut answering: Answering) -> Result<(), Gone> {
    let mut events = Events { sink, number: 0 };
    for name in ["response.created", "response.in_progress"] {
        events.send(name, json!({ "response": form.begun() })).await?;
    }
    let item = form.message("in_progress", json!([]));
    events.send("response.output_item.added", json!({ "output_index": 0, "item": item })).await?;
    let part = json!({ "part": answer::part("") });
    events.send("response.content_part.added", in_part(&form, part)).await?;
    let (mut text, mut deltas) = (String::new(), Deltas::new());
    let end = loop {
        let delta = match events.sink.wait(sse::PING, answering.next()).await? {
            Event::Rounds(_) => continue,
            Event::Pieces(pieces) => deltas.push(&pieces),
            Event::End(end) => break end,
            Event::Failed(error) => {
                let mut failed = form.begun();
                failed["status"] = json!("failed");
                failed["error"] = error.json(Dialect::OpenAi)["error"].take();
                return events.send("response.failed", json!({ "response": failed })).await;
            }
        };
        text += &delta.content;
        events.delta(&form, &delta.content).await?;
    };
    let rest = deltas.finish().content;
    text += &rest;
    events.delta(&form, &rest).await?;
    events.complete(&form, &text, &end).await
}

/// An event of the one part of the one message.
fn in_part(form: &Form, mut event: Value) -> Value {
    event["item_id"] = json!(form.item);
    (event["output_index"], event["content_index"]) = (json!(0), json!(0));
    event
}

/// Numbers events.
struct Events {
    sink: Sink,
    number: usize,
}

impl Events {
    async fn send(&mut self, name: &str, mut event: Value) -> Result<(), Gone> {
        (event["type"], event["sequence_number"]) = (json!(name), json!(self.number));
        self.number += 1;
        sse::named(&self.sink, name, &event).await
    }

    async fn delta(&mut self, form: &Form, delta: &str) -> Result<(), Gone> {
        if delta.is_empty() {
            return Ok(());
        }
        let event = in_part(form, json!({ "delta": delta, "logprobs": [] }));
        self.send("response.output_text.delta", event).await
    }

    async fn complete(&mut self, form: &Form, text: &str, end: &End) -> Result<(), Gone> {
        let (status, part) = (answer::status(end), answer::part(text));
        let done = in_part(form, json!({ "text": text, "logprobs": [] }));
        self.send("response.output_text.done", done).await?;
        self.send("response.content_part.done", in_part(form, json!({ "part": part }))).await?;
        let item = form.message(status, json!([part]));
        self.send("response.output_item.done", json!({ "output_index": 0, "item": item })).await?;
        let name = format!("response.{status}");
        self.send(&name, json!({ "response": answer::complete(form, text, end) })).await
    }
}
