//! The model, as clients list it.

use crate::body::Body;
use crate::error::ApiError;
use crate::state::{Call, Ready};
use axum::Json;
use dovetail::text::AnswerFormat;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

/// The version of Ollama whose interface this is; clients ask for a least one.
const VERSION: &str = "0.12.6";

/// `GET /api/version`.
pub async fn version() -> Json<Value> {
    Json(json!({ "version": VERSION }))
}

/// `GET /api/tags`.
pub async fn tags(call: Call) -> Json<Value> {
    Json(json!({ "models": [entry(&call.ready)] }))
}

/// `GET /api/ps`.
pub async fn ps(call: Call) -> Json<Value> {
    let mut entry = entry(&call.ready);
    entry["expires_at"] = json!("9999-12-31T23:59:59Z");
    entry["size_vram"] = json!(0);
    entry["context_length"] = json!(call.ready.n_ctx);
    Json(json!({ "models": [entry] }))
}

/// `POST /api/show`.
pub async fn show(call: Call, Body(_): Body) -> Result<Json<Value>, ApiError> {
    let ready = &call.ready;
    let metadata = ready.model.gguf().metadata();
    let info = metadata.iter().filter_map(|(key, value)| {
        // Lists, such as the vocabulary, are of megabytes.
        let value = match value {
            dovetail::gguf::Value::String(text) => json!(text),
            dovetail::gguf::Value::Bool(on) => json!(on),
            dovetail::gguf::Value::U32(n) => json!(n),
            dovetail::gguf::Value::F32(x) => json!(x),
            _ => return None,
        };
        Some((key.to_owned(), value))
    });
    Ok(Json(json!({
        "modelfile": "",
        "parameters": "",
        "template": ready.template.as_ref().map_or("", |template| template.source()),
        "details": details(ready),
        "model_info": info.collect::<Map<_, _>>(),
        "capabilities": capabilities(ready),
        "modified_at": modified(ready),
    })))
}

/// What the model can do, in Ollama's words.
fn capabilities(ready: &Ready) -> Vec<&'static str> {
    let format = ready.template.as_ref().map(AnswerFormat::of);
    let has_tools = ready.template.as_ref().is_some_and(|one| one.source().contains("tools"));
    let has_tools = has_tools && format.as_ref().is_some_and(AnswerFormat::has_tool_calls);
    let all = [
        ("completion", true),
        ("tools", has_tools),
        ("thinking", format.as_ref().is_some_and(AnswerFormat::has_thoughts)),
        ("insert", ready.tokenizer().fill_in().is_some()),
        ("embedding", ready.pooling.is_some()),
    ];
    all.into_iter().filter(|(_, can)| *can).map(|(name, _)| name).collect()
}

fn entry(ready: &Ready) -> Value {
    let gguf = ready.model.gguf();
    // Clients look for names with a tag.
    let name = match ready.name.contains(':') {
        true => ready.name.clone(),
        false => format!("{}:latest", ready.name),
    };
    json!({
        "name": name,
        "model": name,
        "modified_at": modified(ready),
        "size": gguf.total_bytes(),
        "digest": format!("{:064x}", gguf.fingerprint()),
        "details": details(ready),
    })
}

fn details(ready: &Ready) -> Value {
    let arch = &ready.model.config().arch;
    let millions = ready.model.weights().count() as f64 / 1e6;
    let size = match millions {
        ..1000.0 => format!("{millions:.1}M"),
        _ => format!("{:.1}B", millions / 1000.0),
    };
    json!({
        "parent_model": "",
        "format": "gguf",
        "family": arch,
        "families": [arch],
        "parameter_size": size,
        "quantization_level": "",
    })
}

fn modified(ready: &Ready) -> String {
    Timestamp::from_second(ready.created as i64).unwrap_or_default().to_string()
}
