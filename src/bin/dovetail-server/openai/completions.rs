//! Completions of texts.

use super::chat::{MOST_ANSWERS, answers};
use super::logprobs;
use super::types::{FINGERPRINT, StreamOptions, Totals, finish_reason, new_id, round_of_page};
use crate::answer::{self, Answering};
use crate::body::Body;
use crate::error::{ApiError, Dialect};
use crate::fields::Fields;
use crate::frames::{Gone, Sink};
use crate::job::Event;
use crate::native::infill::Parts;
use crate::prompt::{self, blocking};
use crate::sse;
use crate::state::{Call, Ready, unix_seconds};
use axum::Json;
use axum::response::{IntoResponse, Response};
use dovetail::{Piece, Request};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

/// `POST /v1/completions`.
pub async fn completions(call: Call, Body(fields): Body) -> Result<Response, ApiError> {
    let ready = call.ready.clone();
    let (requests, form) = blocking(move || read(&ready, fields)).await?;
    let all = call.submit(requests)?;
    let ready = call.ready.clone();
    if form.stream {
        return Ok(sse::response(move |sink| stream(sink, ready, form, all)));
    }
    whole(&ready, &form, all).await.map(|body| Json(body).into_response())
}

/// A text or tokens to be continued, or several of either.
#[derive(Deserialize)]
#[serde(untagged)]
enum Prompts {
    Text(String),
    Tokens(Vec<u32>),
    Texts(Vec<String>),
    TokenLists(Vec<Vec<u32>>),
}

/// A text or tokens to be continued.
enum Prompt {
    Text(String),
    Tokens(Vec<u32>),
}

impl Prompts {
    fn all(self) -> Vec<Prompt> {
        match self {
            Prompts::Text(text) => vec![Prompt::Text(text)],
            Prompts::Tokens(tokens) => vec![Prompt::Tokens(tokens)],
            Prompts::Texts(texts) => texts.into_iter().map(Prompt::Text).collect(),
            Prompts::TokenLists(lists) => lists.into_iter().map(Prompt::Tokens).collect(),
        }
    }
}

/// The form of the answer.
struct Form {
    stream: bool,
    include_usage: bool,
    rounds: bool,
    /// What is repeated before each answer; empty for nothing.
    echo: Vec<String>,
    id: String,
    created: u64,
}

fn read(ready: &Ready, mut fields: Fields) -> Result<(Vec<Request>, Form), ApiError> {
    let prompts = fields.require::<Prompts>("prompt")?.all();
    if prompts.len() > MOST_ANSWERS {
        let what = format!("has more than {MOST_ANSWERS} texts; send them in several requests");
        return Err(ApiError::field("prompt", &what));
    }
    let options: Option<StreamOptions> = fields.take("stream_options")?;
    let suffix: Option<String> = fields.take("suffix")?;
    let suffix = suffix.filter(|suffix| !suffix.is_empty());
    let mut form = Form {
        stream: fields.switch("stream")?,
        include_usage: options.unwrap_or_default().include_usage,
        rounds: fields.wants_rounds(),
        echo: Vec::new(),
        id: new_id("cmpl-"),
        created: unix_seconds(),
    };
    let (n, echo) = (fields.take("n")?.unwrap_or(1), fields.switch("echo")?);
    let logprobs = logprobs::of_completion(&mut fields)?;
    if echo && logprobs.is_some() {
        return Err(ApiError::field("echo", "cannot be had with \"logprobs\"; leave one out"));
    }
    let mut generation = fields.generation(ready)?;
    generation.logprobs = logprobs;
    let mut requests = Vec::new();
    for prompt in prompts {
        let (tokens, text) = match (prompt, &suffix) {
            (Prompt::Text(text), None) => (prompt::text(ready, &text)?, text),
            (Prompt::Text(text), Some(suffix)) => {
                let (suffix, middle) = (suffix.clone(), String::new());
                let parts = Parts { prefix: text.clone(), suffix, middle };
                (parts.prompt(ready)?, text)
            }
            (Prompt::Tokens(_), Some(_)) => {
                return Err(ApiError::field("suffix", "needs a prompt that is a text"));
            }
            (Prompt::Tokens(tokens), None) => {
                let text = ready.tokenizer().decode(&tokens, true);
                (tokens, String::from_utf8_lossy(&text).into_owned())
            }
        };
        ready.check_prompt(&tokens)?;
        let request = Request { prompt: tokens, generation: generation.clone(), drafter: None };
        requests.extend(answers(&request, n)?);
        let text = if echo { text } else { String::new() };
        form.echo.extend(std::iter::repeat_n(text, n));
    }
    Ok((requests, form))
}

impl Form {
    fn body(&self, ready: &Ready, choices: Vec<Value>) -> Value {
        json!({
            "id": self.id,
            "object": "text_completion",
            "created": self.created,
            "model": ready.name,
            "system_fingerprint": FINGERPRINT,
            "choices": choices,
        })
    }
}

/// The answers as one body.
async fn whole(ready: &Ready, form: &Form, all: Vec<Answering>) -> Result<Value, ApiError> {
    let (mut choices, mut totals) = (Vec::new(), Totals::default());
    for (index, answering) in all.into_iter().enumerate() {
        let whole = answering.whole().await?;
        totals.add(&whole.end);
        choices.push(json!({
            "index": index,
            "text": form.echo[index].clone() + &text(&whole.pieces),
            "logprobs": logprobs::completion(ready.tokenizer(), &whole.pieces, 0),
            "finish_reason": finish_reason(whole.end.stop),
        }));
    }
    let mut body = form.body(ready, choices);
    (body["usage"], body["timings"]) = (json!(totals.usage()), totals.timings());
    Ok(body)
}

fn text(pieces: &[Piece]) -> String {
    pieces.iter().map(|piece| &*piece.text).collect()
}

/// The answers as events.
async fn stream(
    sink: Sink,
    ready: Arc<Ready>,
    form: Form,
    mut all: Vec<Answering>,
) -> Result<(), Gone> {
    let (mut echo, mut offsets) = (form.echo.clone(), vec![0; all.len()]);
    let (mut totals, mut left) = (Totals::default(), all.len());
    while let Some((index, event)) = sink.wait(sse::PING, answer::next_of(&mut all)).await? {
        let mut body = match event {
            Event::Rounds(_) => continue,
            Event::Pieces(pieces) => {
                let logprobs = logprobs::completion(ready.tokenizer(), &pieces, offsets[index]);
                let text = std::mem::take(&mut echo[index]) + &text(&pieces);
                offsets[index] += text.chars().count();
                if text.is_empty() && logprobs.is_none() && !form.rounds {
                    continue;
                }
                let choice = json!({
                    "index": index, "text": text, "logprobs": logprobs, "finish_reason": null,
                });
                let mut body = form.body(&ready, vec![choice]);
                if form.rounds {
                    body["dovetail"] = round_of_page(ready.tokenizer(), None, &pieces);
                }
                body
            }
            Event::End(end) => {
                totals.add(&end);
                left -= 1;
                let text = std::mem::take(&mut echo[index]);
                let finish_reason = finish_reason(end.stop);
                let choice = json!({
                    "index": index, "text": text, "logprobs": null, "finish_reason": finish_reason,
                });
                form.body(&ready, vec![choice])
            }
            Event::Failed(error) => return sse::data(&sink, &error.json(Dialect::OpenAi)).await,
        };
        if left == 0 && !form.include_usage {
            body["timings"] = totals.timings();
        }
        sse::data(&sink, &body).await?;
    }
    if form.include_usage {
        let mut body = form.body(&ready, Vec::new());
        (body["usage"], body["timings"]) = (json!(totals.usage()), totals.timings());
        sse::data(&sink, &body).await?;
    }
    sse::done(&sink).await
}
