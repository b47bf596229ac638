//! What the server is.

use crate::state::Call;
use axum::Json;
use serde_json::{Value, json};

/// `GET /props`.
pub async fn props(call: Call) -> Json<Value> {
    let ready = &call.ready;
    let tokenizer = ready.tokenizer();
    let text = |token: Option<u32>| token.and_then(|token| tokenizer.token_text(token));
    let sampling = ready.sampling.sampling();
    let n_predict = i64::try_from(ready.n_predict).unwrap_or(-1);
    Json(json!({
        "default_generation_settings": {
            "id": 0,
            "n_ctx": ready.n_ctx,
            "speculative": ready.has_drafter,
            "params": {
                "n_predict": n_predict,
                "temperature": sampling.temperature,
                "top_k": sampling.top_k,
                "top_p": sampling.top_p,
                "min_p": sampling.min_p,
                "repeat_penalty": sampling.repeat_penalty,
                "repeat_last_n": sampling.repeat_last_n,
                "presence_penalty": sampling.presence_penalty,
                "frequency_penalty": sampling.frequency_penalty,
            },
        },
        "total_slots": ready.slots,
        "model_alias": ready.name,
        "model_path": ready.path,
        "modalities": { "vision": false, "audio": false },
        "chat_template": ready.template.as_ref().map_or("", |template| template.source()),
        "bos_token": text(tokenizer.bos()).unwrap_or_default(),
        "eos_token": text(tokenizer.eos()).unwrap_or_default(),
        "build_info": crate::openai::types::FINGERPRINT,
    }))
}
