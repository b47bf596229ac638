//! What the server does: one entry a slot.

use crate::state::Call;
use axum::Json;
use serde_json::{Value, json};

/// `GET /slots`.
pub async fn slots(call: Call) -> Json<Value> {
    let ready = &call.ready;
    let slot = |(id, slot): (usize, Option<crate::metrics::SlotState>)| {
        let mut value = json!({
            "id": id,
            "n_ctx": ready.n_ctx,
            "speculative": ready.has_drafter,
            "is_processing": slot.is_some(),
        });
        if let Some(slot) = slot {
            let (stats, rounds) = slot.stats.read();
            value["id_task"] = json!(slot.id);
            value["n_prompt_tokens"] = json!(slot.prompt_len);
            value["n_prompt_tokens_processed"] = json!(stats.prompt_n);
            value["n_prompt_tokens_cache"] = json!(stats.cached_n);
            value["next_token"] = json!([{ "n_decoded": stats.predicted_n }]);
            value["dovetail"] = json!({
                "rounds": rounds.rounds, "drafted": rounds.drafted, "accepted": rounds.accepted,
            });
        }
        value
    };
    Json(ready.metrics.slots().into_iter().enumerate().map(slot).collect())
}
