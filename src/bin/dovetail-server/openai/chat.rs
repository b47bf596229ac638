//! Chat completions.

use super::logprobs;
use super::types::{
    FINGERPRINT, StreamOptions, Totals, finish_reason, new_call_id, new_id, round_of_page,
};
use crate::answer::{self, Answering};
use crate::body::Body;
use crate::chat_request::chat_request;
use crate::deltas::{self, Delta, Deltas, Reading};
use crate::error::{ApiError, Dialect};
use crate::fields::Fields;
use crate::frames::{Gone, Sink};
use crate::job::{Event, Round, Wanted};
use crate::prompt::{Chat, SentMessage, blocking};
use crate::sse;
use crate::state::{Call, Ready, unix_seconds};
use crate::tools::Tools;
use axum::Json;
use axum::response::{IntoResponse, Response};
use dovetail::{Piece, Request, Stop};
use serde::Serialize;
use serde_json::{Value, json};
use std::sync::Arc;

/// `POST /v1/chat/completions`.
pub async fn chat(call: Call, Body(fields): Body) -> Result<Response, ApiError> {
    let ready = call.ready.clone();
    let Asked { requests, form } = blocking(move || read(&ready, fields)).await?;
    let wanted = Wanted { rounds: form.rounds && form.stream, ..Wanted::default() };
    let all = call.submit_with(requests, wanted)?;
    let ready = call.ready.clone();
    if form.stream {
        return Ok(sse::response(move |sink| stream(sink, ready, form, all)));
    }
    whole(&ready, &form, all).await.map(|body| Json(body).into_response())
}

/// What a request asks for.
struct Asked {
    /// One for each answer.
    requests: Vec<Request>,
    form: Form,
}

/// The form of the answer.
struct Form {
    stream: bool,
    include_usage: bool,
    /// Whether the page shows it.
    rounds: bool,
    /// How thoughts and calls are told from the rest.
    reading: Reading,
    id: String,
    created: u64,
}

fn read(ready: &Ready, mut fields: Fields) -> Result<Asked, ApiError> {
    let messages: Vec<SentMessage> = fields.require("messages")?;
    let options: Option<StreamOptions> = fields.take("stream_options")?;
    let variables = fields.take("chat_template_kwargs")?.unwrap_or_default();
    let tools = Tools::take(&mut fields)?;
    let logprobs = logprobs::of_chat(&mut fields)?;
    let n = fields.take("n")?.unwrap_or(1);
    let (stream, rounds) = (fields.switch("stream")?, fields.wants_rounds());
    let mut generation = fields.generation(ready)?;
    generation.logprobs = logprobs;
    let chat = Chat { messages, variables, continues: true, ..Chat::default() };
    let (request, reading) = chat_request(ready, chat, &tools, generation)?;
    let form = Form {
        stream,
        include_usage: options.unwrap_or_default().include_usage,
        rounds,
        reading,
        id: new_id("chatcmpl-"),
        created: unix_seconds(),
    };
    let requests = answers(&request, n)?;
    Ok(Asked { requests, form })
}

/// Most answers to one prompt, and most prompts of a request.
pub const MOST_ANSWERS: usize = 128;

/// The request `n` times, each with a seed of its own.
///
/// # Errors
/// If `n` is 0 or too large.
pub fn answers(request: &Request, n: usize) -> Result<Vec<Request>, ApiError> {
    if !(1..=MOST_ANSWERS).contains(&n) {
        let what = format!("is {n}; give a number from 1 to {MOST_ANSWERS}");
        return Err(ApiError::field("n", &what));
    }
    let with_seed = |i: usize| {
        let mut request = request.clone();
        let seed = &mut request.generation.sampling.seed;
        *seed = seed.wrapping_add(i as u64);
        request
    };
    Ok((0..n).map(with_seed).collect())
}

/// The answers as one body.
async fn whole(ready: &Ready, form: &Form, all: Vec<Answering>) -> Result<Value, ApiError> {
    let (mut choices, mut totals) = (Vec::new(), Totals::default());
    for (index, whole) in answer::whole_of(all).await?.into_iter().enumerate() {
        totals.add(&whole.end, index == 0);
        let delta = Deltas::of_chat(&form.reading).all(&whole.pieces);
        choices.push(json!({
            "index": index,
            "message": message(&delta),
            "logprobs": logprobs::chat(ready.tokenizer(), &whole.pieces),
            "finish_reason": reason(whole.end.stop, !delta.calls.is_empty()),
        }));
    }
    Ok(json!({
        "id": form.id,
        "object": "chat.completion",
        "created": form.created,
        "model": ready.name,
        "system_fingerprint": FINGERPRINT,
        "choices": choices,
        "usage": totals.usage(),
        "timings": totals.timings(),
    }))
}

/// An event of the stream.
#[derive(Serialize)]
struct Chunk<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    system_fingerprint: &'static str,
    choices: Vec<Choice>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<super::types::Usage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timings: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dovetail: Option<Value>,
}

#[derive(Serialize)]
struct Choice {
    index: usize,
    delta: Value,
    logprobs: Option<Value>,
    finish_reason: Option<&'static str>,
}

/// Why an answer ended; one that calls tools ends for them.
fn reason(stop: Stop, has_calls: bool) -> &'static str {
    match finish_reason(stop) {
        "stop" if has_calls => "tool_calls",
        reason => reason,
    }
}

/// A whole message.
fn message(delta: &Delta) -> Value {
    let mut message = deltas::openai(delta, |_| new_call_id());
    message["role"] = json!("assistant");
    if message.get("content").is_none() {
        let has_others = message.get("tool_calls").is_some();
        message["content"] = if has_others { Value::Null } else { json!("") };
    }
    let calls = message.get_mut("tool_calls").and_then(Value::as_array_mut);
    for call in calls.into_iter().flatten().filter_map(Value::as_object_mut) {
        call.remove("index");
    }
    message
}

impl Form {
    fn chunk<'a>(&'a self, ready: &'a Ready, choice: Option<Choice>) -> Chunk<'a> {
        Chunk {
            id: &self.id,
            object: "chat.completion.chunk",
            created: self.created,
            model: &ready.name,
            system_fingerprint: FINGERPRINT,
            choices: choice.into_iter().collect(),
            usage: None,
            timings: None,
            dovetail: None,
        }
    }

    /// The event of some pieces; `None` if they change nothing.
    fn delta<'a>(
        &'a self,
        ready: &'a Ready,
        index: usize,
        delta: &Delta,
        (round, pieces): (Option<&Round>, &[Piece]),
    ) -> Option<Chunk<'a>> {
        let logprobs = logprobs::chat(ready.tokenizer(), pieces);
        if delta.is_empty() && logprobs.is_none() && !self.rounds {
            return None;
        }
        let mut delta = deltas::openai(delta, |_| new_call_id());
        if delta.as_object().is_some_and(|delta| delta.is_empty()) {
            delta["content"] = json!("");
        }
        let choice = Choice { index, delta, logprobs, finish_reason: None };
        let mut chunk = self.chunk(ready, Some(choice));
        chunk.dovetail = self.rounds.then(|| round_of_page(ready.tokenizer(), round, pieces));
        Some(chunk)
    }
}

/// The answers as events: the role first, then what each round brings.
async fn stream(
    sink: Sink,
    ready: Arc<Ready>,
    form: Form,
    mut all: Vec<Answering>,
) -> Result<(), Gone> {
    let (ready, form) = (&*ready, &form);
    for index in 0..all.len() {
        let delta = json!({ "role": "assistant", "content": "" });
        let choice = Choice { index, delta, logprobs: None, finish_reason: None };
        sse::data(&sink, &form.chunk(ready, Some(choice))).await?;
    }
    let mut deltas: Vec<Deltas> = all.iter().map(|_| Deltas::of_chat(&form.reading)).collect();
    let mut have_calls = vec![false; all.len()];
    let mut totals = Totals::default();
    let mut left = all.len();
    let mut rounds: Vec<Vec<Round>> = all.iter().map(|_| Vec::new()).collect();
    while let Some((i, event)) = sink.wait(sse::PING, answer::next_of(&mut all)).await? {
        match event {
            Event::Rounds(more) => rounds[i].extend(more),
            Event::Pieces(pieces) => {
                let delta = deltas[i].push(&pieces);
                have_calls[i] |= !delta.calls.is_empty();
                // Where a slow client gets pieces of several rounds together, all but the last come without pieces.
                let last = rounds[i].pop();
                for round in std::mem::take(&mut rounds[i]) {
                    let none = (Some(&round), &[][..]);
                    if let Some(chunk) = form.delta(ready, i, &Delta::default(), none) {
                        sse::data(&sink, &chunk).await?;
                    }
                }
                if let Some(chunk) = form.delta(ready, i, &delta, (last.as_ref(), &pieces)) {
                    sse::data(&sink, &chunk).await?;
                }
            }
            Event::End(end) => {
                totals.add(&end, i == 0);
                left -= 1;
                let rest = deltas[i].finish();
                have_calls[i] |= !rest.calls.is_empty();
                if !rest.is_empty()
                    && let Some(chunk) = form.delta(ready, i, &rest, (None, &[]))
                {
                    sse::data(&sink, &chunk).await?;
                }
                let finish_reason = Some(reason(end.stop, have_calls[i]));
                let choice = Choice { index: i, delta: json!({}), logprobs: None, finish_reason };
                let mut chunk = form.chunk(ready, Some(choice));
                chunk.timings = (left == 0 && !form.include_usage).then(|| totals.timings());
                sse::data(&sink, &chunk).await?;
            }
            Event::Failed(error) => return sse::data(&sink, &error.json(Dialect::OpenAi)).await,
        }
    }
    if form.include_usage {
        let mut chunk = form.chunk(ready, None);
        (chunk.usage, chunk.timings) = (Some(totals.usage()), Some(totals.timings()));
        sse::data(&sink, &chunk).await?;
    }
    sse::done(&sink).await
}
