//! Paths and their handlers. To add one: a row here.

use crate::body::MOST_BYTES;
use crate::error::ApiError;
use crate::native::{completion, infill, metrics, props, slots, tokenize};
use crate::state::App;
use crate::{anthropic, gate, ollama, openai, openapi, page, responses};
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use axum::{Json, Router, middleware};
use serde_json::{Value, json};
use std::sync::Arc;
use tower_http::cors::CorsLayer;

/// All paths.
pub fn router(app: Arc<App>) -> Router {
    let openai = Router::new()
        .route("/v1/chat/completions", post(openai::chat::chat))
        .route("/chat/completions", post(openai::chat::chat))
        .route("/v1/completions", post(openai::completions::completions))
        .route("/v1/embeddings", post(openai::embeddings::embeddings))
        .route("/v1/models", get(openai::models::list))
        .route("/models", get(openai::models::list))
        .route("/v1/models/{*id}", get(openai::models::one));
    let others = Router::new()
        .route("/v1/responses", post(responses::request::responses))
        .route("/v1/messages", post(anthropic::messages::messages))
        .route("/v1/messages/count_tokens", post(anthropic::messages::count_tokens))
        .route("/api/chat", post(ollama::generate::chat))
        .route("/api/generate", post(ollama::generate::generate))
        .route("/api/embed", post(ollama::embed::embed))
        .route("/api/embeddings", post(ollama::embed::embedding))
        .route("/api/show", post(ollama::models::show))
        .route("/api/tags", get(ollama::models::tags))
        .route("/api/ps", get(ollama::models::ps))
        .route("/api/version", get(ollama::models::version));
    let native = Router::new()
        .route("/completion", post(completion::completion))
        .route("/completions", post(completion::completion))
        .route("/infill", post(infill::infill))
        .route("/tokenize", post(tokenize::tokenize))
        .route("/detokenize", post(tokenize::detokenize))
        .route("/apply-template", post(tokenize::apply_template))
        .route("/props", get(props::props))
        .route("/slots", get(slots::slots))
        .route("/metrics", get(metrics::metrics));
    Router::new()
        .route("/health", get(health))
        .route("/v1/health", get(health))
        .merge(openai)
        .merge(others)
        .merge(native)
        .route("/openapi.json", get(openapi::document))
        .merge(page::router())
        .fallback(async || ApiError::not_found("there is no such path"))
        .method_not_allowed_fallback(async || ApiError::method())
        .layer(middleware::from_fn_with_state(app.clone(), gate::around))
        .layer(DefaultBodyLimit::max(MOST_BYTES))
        .layer(CorsLayer::permissive())
        .with_state(app)
}

/// The gate lets nobody through before the model is loaded.
async fn health() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}
