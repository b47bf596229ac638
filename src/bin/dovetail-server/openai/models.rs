//! The model, as clients list it.

use crate::error::ApiError;
use crate::state::{Call, Ready};
use axum::Json;
use axum::extract::Path;
use serde_json::{Value, json};

/// The list, which has one entry.
pub async fn list(call: Call) -> Json<Value> {
    Json(json!({ "object": "list", "data": [model(&call.ready)] }))
}

/// The model of this name.
pub async fn one(call: Call, Path(id): Path<String>) -> Result<Json<Value>, ApiError> {
    if id == call.ready.name {
        return Ok(Json(model(&call.ready)));
    }
    let name = &call.ready.name;
    Err(ApiError::not_found(format!("there is no model {id:?}; there is {name:?}")).about("model"))
}

fn model(ready: &Ready) -> Value {
    let config = ready.model.config();
    json!({
        "id": ready.name,
        "object": "model",
        "created": ready.created,
        "owned_by": "dovetail",
        "meta": {
            "n_vocab": config.n_vocab,
            "n_ctx": ready.n_ctx,
            "n_ctx_train": config.n_ctx,
            "n_embd": config.n_embd,
            "n_params": ready.model.weights().count(),
            "size": ready.model.gguf().total_bytes(),
        },
    })
}
