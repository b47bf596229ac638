//! All paths as an OpenAPI document. To add one: a row here, beside that in `router.rs`.

use axum::Json;
use utoipa::openapi::path::{HttpMethod, OperationBuilder, PathItem, PathsBuilder};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::{
    ContentBuilder, InfoBuilder, ObjectBuilder, OpenApi, OpenApiBuilder, ResponseBuilder, Type,
};

/// Path, whether it takes a body, what it does, and the fields that a body must have.
const PATHS: &[(&str, bool, &str, &[&str])] = &[
    ("/v1/chat/completions", true, "A chat, whole or as events", &["messages"]),
    ("/v1/completions", true, "A completion of texts, whole or as events", &["prompt"]),
    ("/v1/responses", true, "OpenAI's later interface", &["input"]),
    ("/v1/models", false, "The model", &[]),
    ("/v1/messages", true, "Anthropic's interface", &["messages"]),
    ("/v1/messages/count_tokens", true, "The tokens of a conversation", &["messages"]),
    ("/api/chat", true, "Ollama's chat", &["messages"]),
    ("/api/generate", true, "Ollama's completion", &["prompt"]),
    ("/api/show", true, "The model, as Ollama describes it", &[]),
    ("/api/tags", false, "The model, as Ollama lists it", &[]),
    ("/api/ps", false, "The loaded model, as Ollama lists it", &[]),
    ("/api/version", false, "The version of Ollama's interface", &[]),
    ("/completion", true, "A completion in the form of llama.cpp's server", &["prompt"]),
    ("/infill", true, "Code between two parts", &["input_prefix", "input_suffix"]),
    ("/tokenize", true, "A text to tokens", &["content"]),
    ("/detokenize", true, "Tokens to a text", &["tokens"]),
    ("/apply-template", true, "The text of a conversation's prompt", &["messages"]),
    ("/props", false, "What the server is", &[]),
    ("/slots", false, "What the server does", &[]),
    ("/metrics", false, "Counters for Prometheus", &[]),
    ("/health", false, "Whether the model is loaded", &[]),
];

/// `GET /openapi.json`.
pub async fn document() -> Json<OpenApi> {
    let mut paths = PathsBuilder::new();
    for &(path, takes_body, summary, required) in PATHS {
        let method = if takes_body { HttpMethod::Post } else { HttpMethod::Get };
        let done = ResponseBuilder::new().description("Done").build();
        let refused = ResponseBuilder::new().description("Refused, with the reason").build();
        let mut operation = OperationBuilder::new().summary(Some(summary));
        operation = operation.response("200", done).response("default", refused);
        if takes_body {
            let object = ObjectBuilder::new().schema_type(Type::Object);
            let object = required.iter().fold(object, |object, name| object.required(*name));
            let content = ContentBuilder::new().schema(Some(object.build())).build();
            let body = RequestBodyBuilder::new().content("application/json", content).build();
            operation = operation.request_body(Some(body));
        }
        paths = paths.path(path, PathItem::new(method, operation.build()));
    }
    let info = InfoBuilder::new().title("dovetail-server").version(env!("CARGO_PKG_VERSION"));
    Json(OpenApiBuilder::new().info(info.build()).paths(paths.build()).build())
}
