//! An answer as events.

use super::answer::{self, Form};
use super::tools::custom_input;
use crate::answer::Answering;
use crate::blocks::{Block, Blocks, Change, Kind};
use crate::frames::{Gone, Sink};
use crate::job::Event;
use crate::sse;
use serde_json::{Value, json};

/// Sends an answer.
pub async fn stream(sink: Sink, form: Form, mut answering: Answering) -> Result<(), Gone> {
    let mut events = Events::new(sink, &form);
    for name in ["response.created", "response.in_progress"] {
        events.send(name, json!({ "response": form.begun() })).await?;
    }
    let mut blocks = Blocks::new(&form.reading);
    let end = loop {
        match events.sink.wait(sse::PING, answering.next()).await? {
            Event::Rounds(_) => {}
            Event::Pieces(pieces) => events.changes(blocks.push(&pieces), "completed").await?,
            Event::End(end) => break end,
            Event::Failed(error) => {
                let response = answer::failed(&form, &error);
                return events.send("response.failed", json!({ "response": response })).await;
            }
        }
    };
    let status = answer::status(&end);
    events.changes(blocks.finish(), status).await?;
    let output = std::mem::take(&mut events.output);
    let response = answer::complete(&form, output, &blocks, &end);
    events.send(&format!("response.{status}"), json!({ "response": response })).await
}

/// Numbers events and items.
struct Events<'a> {
    sink: Sink,
    form: &'a Form,
    /// The number of the next event.
    number: usize,
    /// The item that has begun: its name and kind.
    id: String,
    kind: Kind,
    /// The items that have ended.
    output: Vec<Value>,
}

impl Events<'_> {
    fn new(sink: Sink, form: &Form) -> Events<'_> {
        Events { sink, form, number: 0, id: String::new(), kind: Kind::Text, output: Vec::new() }
    }

    /// Sends what changes; items that end have this status.
    async fn changes(&mut self, changes: Vec<Change>, status: &str) -> Result<(), Gone> {
        for change in changes {
            match change {
                Change::Begin(kind) => self.begin(kind).await?,
                Change::More(text) => self.more(&text).await?,
                Change::End(block) => self.end(&block, status).await?,
            }
        }
        Ok(())
    }

    async fn begin(&mut self, kind: Kind) -> Result<(), Gone> {
        self.id = self.form.new_item(&kind);
        self.kind = kind.clone();
        let block = Block { kind, text: String::new() };
        let item = self.form.item(&self.id, &block, "in_progress");
        let event = json!({ "output_index": self.output.len(), "item": item });
        self.send("response.output_item.added", event).await?;
        match block.kind {
            Kind::Call { .. } => Ok(()),
            kind => {
                let part = json!({ "part": answer::part(&kind, "") });
                self.send_part("response.content_part.added", part).await
            }
        }
    }

    async fn more(&mut self, text: &str) -> Result<(), Gone> {
        let delta = json!({ "delta": text });
        match &self.kind {
            Kind::Thought => self.send_part("response.reasoning_text.delta", delta).await,
            Kind::Text => {
                let delta = json!({ "delta": text, "logprobs": [] });
                self.send_part("response.output_text.delta", delta).await
            }
            // Its input is known once its arguments are complete.
            Kind::Call { function, .. } if self.form.offered.is_custom(function) => Ok(()),
            Kind::Call { .. } => {
                self.send_item("response.function_call_arguments.delta", delta).await
            }
        }
    }

    async fn end(&mut self, block: &Block, status: &str) -> Result<(), Gone> {
        let text = &block.text;
        match &block.kind {
            Kind::Thought => {
                let done = json!({ "text": text });
                self.send_part("response.reasoning_text.done", done).await?;
            }
            Kind::Text => {
                let done = json!({ "text": text, "logprobs": [] });
                self.send_part("response.output_text.done", done).await?;
            }
            Kind::Call { function, .. } if self.form.offered.is_custom(function) => {
                let input = custom_input(text);
                let delta = json!({ "delta": input });
                self.send_item("response.custom_tool_call_input.delta", delta).await?;
                let done = json!({ "input": input });
                self.send_item("response.custom_tool_call_input.done", done).await?;
            }
            Kind::Call { function, .. } => {
                let name = self.form.offered.own_name(function);
                let done = json!({ "name": name, "arguments": text });
                self.send_item("response.function_call_arguments.done", done).await?;
            }
        }
        if !matches!(block.kind, Kind::Call { .. }) {
            let part = json!({ "part": answer::part(&block.kind, text) });
            self.send_part("response.content_part.done", part).await?;
        }
        let item = self.form.item(&self.id, block, status);
        let event = json!({ "output_index": self.output.len(), "item": item });
        self.output.push(item);
        self.send("response.output_item.done", event).await
    }

    /// Sends an event of the item's one part.
    async fn send_part(&mut self, name: &str, mut event: Value) -> Result<(), Gone> {
        event["content_index"] = json!(0);
        self.send_item(name, event).await
    }

    /// Sends an event of the item.
    async fn send_item(&mut self, name: &str, mut event: Value) -> Result<(), Gone> {
        event["item_id"] = json!(self.id);
        event["output_index"] = json!(self.output.len());
        self.send(name, event).await
    }

    async fn send(&mut self, name: &str, mut event: Value) -> Result<(), Gone> {
        (event["type"], event["sequence_number"]) = (json!(name), json!(self.number));
        self.number += 1;
        sse::named(&self.sink, name, &event).await
    }
}
