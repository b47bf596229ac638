//! Embeddings.

use crate::body::Body;
use crate::embedding::{self, Input};
use crate::error::ApiError;
use crate::state::Call;
use axum::Json;
use serde::{Deserialize, Serialize};
use std::time::Instant;

/// A text, or several.
#[derive(Deserialize)]
#[serde(untagged, expecting = "give a text or a list of texts")]
enum Texts {
    One(String),
    Several(Vec<String>),
}

/// The answer of `/api/embed`, with times in nanoseconds.
#[derive(Serialize)]
pub struct Embedded {
    model: String,
    embeddings: Vec<Vec<f32>>,
    total_duration: u64,
    load_duration: u64,
    prompt_eval_count: usize,
}

/// `POST /api/embed`. Without a text it only asks for the model to be loaded, which it is.
pub async fn embed(call: Call, Body(mut fields): Body) -> Result<Json<Embedded>, ApiError> {
    let start = Instant::now();
    let texts = match fields.take("input")? {
        None => Vec::new(),
        Some(Texts::One(text)) => Some(text).filter(|text| !text.is_empty()).into_iter().collect(),
        Some(Texts::Several(texts)) => texts,
    };
    let width = fields.take("dimensions")?.filter(|width| *width != 0);
    embedding::check_width(&call.ready, width)?;
    let truncate = fields.take("truncate")?.unwrap_or(true);
    let inputs = texts.into_iter().map(Input::Text).collect();
    let embeddings = embedding::embeddings(&call, inputs, truncate).await?;
    Ok(Json(Embedded {
        model: call.ready.name.clone(),
        embeddings: embeddings.vectors,
        total_duration: start.elapsed().as_nanos() as u64,
        load_duration: 0,
        prompt_eval_count: embeddings.n_tokens,
    }))
}

/// The answer of `/api/embeddings`.
#[derive(Serialize)]
pub struct Single {
    embedding: Vec<f32>,
}

/// `POST /api/embeddings`, which takes one text.
pub async fn embedding(call: Call, Body(mut fields): Body) -> Result<Json<Single>, ApiError> {
    let text: Option<String> = fields.take("prompt")?;
    let text = text.filter(|text| !text.is_empty());
    let inputs = text.into_iter().map(Input::Text).collect();
    let mut embeddings = embedding::embeddings(&call, inputs, true).await?;
    Ok(Json(Single { embedding: embeddings.vectors.pop().unwrap_or_default() }))
}
