//! One completion, in the form of llama.cpp's server.

use crate::answer::Answering;
use crate::body::Body;
use crate::error::{ApiError, Dialect};
use crate::fields::Fields;
use crate::frames::{Gone, Sink};
use crate::job::{End, Event};
use crate::openai::logprobs;
use crate::openai::types::round_of_page;
use crate::prompt::{self, blocking};
use crate::sse;
use crate::state::{Call, Ready};
use crate::timings;
use axum::Json;
use axum::response::{IntoResponse, Response};
use dovetail::{Piece, Request, Stop};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

/// `POST /completion`.
pub async fn completion(call: Call, Body(fields): Body) -> Result<Response, ApiError> {
    let ready = call.ready.clone();
    let asked = blocking(move || {
        let mut fields = fields;
        let prompt = tokens(&ready, fields.require("prompt")?)?;
        read(&ready, fields, prompt)
    });
    answer(call, asked.await?).await
}

/// A request and the form of its answer.
pub struct Asked {
    request: Request,
    stream: bool,
    rounds: bool,
}

/// A text, tokens, or both mixed.
#[derive(Deserialize)]
#[serde(untagged, expecting = "give a text, or a list of texts and tokens")]
enum Mixed {
    Text(String),
    List(Vec<TextOrToken>),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum TextOrToken {
    Token(u32),
    Text(String),
}

fn tokens(ready: &Ready, prompt: Mixed) -> Result<Vec<u32>, ApiError> {
    let list = match prompt {
        Mixed::Text(text) => return prompt::text(ready, &text),
        Mixed::List(list) => list,
    };
    let mut tokens = Vec::new();
    for part in list {
        match part {
            TextOrToken::Token(token) => tokens.push(token),
            TextOrToken::Text(text) => {
                ready.tokenizer().check_fits(&text, ready.n_ctx)?;
                tokens.extend(ready.tokenizer().encode(&text, tokens.is_empty(), true)?);
            }
        }
    }
    Ok(tokens)
}

/// What a request asks for with this prompt.
///
/// # Errors
/// If a field has a wrong value, or the prompt does not fit.
pub fn read(ready: &Ready, mut fields: Fields, prompt: Vec<u32>) -> Result<Asked, ApiError> {
    let (stream, rounds) = (fields.switch("stream")?, fields.wants_rounds());
    let n_probs = fields.take::<usize>("n_probs")?.filter(|n| *n > 0);
    let mut generation = fields.generation(ready)?;
    generation.logprobs = logprobs::check("n_probs", n_probs)?;
    ready.check_prompt(&prompt)?;
    let request = Request { prompt, generation, drafter: None };
    Ok(Asked { request, stream, rounds })
}

/// Answers it.
///
/// # Errors
/// If it cannot be answered.
pub async fn answer(call: Call, asked: Asked) -> Result<Response, ApiError> {
    let Asked { request, stream: streamed, rounds } = asked;
    let answering = call.submit(vec![request])?.pop().expect("an answer for each request");
    let ready = call.ready;
    if streamed {
        return Ok(sse::response(move |sink| stream(sink, ready, answering, rounds)));
    }
    let whole = answering.whole().await?;
    let mut body = last(&ready, &whole.end);
    body["content"] = json!(text(&whole.pieces));
    body["tokens"] = json!(whole.pieces.iter().filter_map(|piece| piece.token).collect::<Vec<_>>());
    if let Some(mut all) = logprobs::chat(ready.tokenizer(), &whole.pieces) {
        body["completion_probabilities"] = all["content"].take();
    }
    Ok(Json(body).into_response())
}

fn text(pieces: &[Piece]) -> String {
    pieces.iter().map(|piece| &*piece.text).collect()
}

/// What the end of an answer says about it.
fn last(ready: &Ready, end: &End) -> Value {
    let kind = match end.stop {
        Stop::End(_) | Stop::Call => "eos",
        Stop::Text(_) => "word",
        Stop::Length | Stop::Context | Stop::NotANumber | Stop::Constraint => "limit",
    };
    json!({
        "index": 0,
        "content": "",
        "tokens": [],
        "stop": true,
        "stop_type": kind,
        "model": ready.name,
        "tokens_predicted": end.stats.predicted_n,
        "tokens_evaluated": end.stats.prompt_n + end.stats.cached_n,
        "tokens_cached": end.stats.cached_n,
        "truncated": end.stop == Stop::Context,
        "timings": timings::timings(&end.stats, &end.rounds),
    })
}

async fn stream(
    sink: Sink,
    ready: Arc<Ready>,
    mut answering: Answering,
    rounds: bool,
) -> Result<(), Gone> {
    loop {
        match sink.wait(sse::PING, answering.next()).await? {
            Event::Rounds(_) => {}
            Event::Pieces(pieces) => {
                let tokens: Vec<_> = pieces.iter().filter_map(|piece| piece.token).collect();
                let content = text(&pieces);
                let mut body =
                    json!({ "index": 0, "content": content, "tokens": tokens, "stop": false });
                if let Some(mut all) = logprobs::chat(ready.tokenizer(), &pieces) {
                    body["completion_probabilities"] = all["content"].take();
                }
                if rounds {
                    body["dovetail"] = round_of_page(ready.tokenizer(), None, &pieces);
                }
                sse::data(&sink, &body).await?;
            }
            Event::End(end) => return sse::data(&sink, &last(&ready, &end)).await,
            Event::Failed(error) => return sse::data(&sink, &error.json(Dialect::OpenAi)).await,
        }
    }
}
