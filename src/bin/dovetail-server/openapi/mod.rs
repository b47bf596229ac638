//! All paths as an OpenAPI document, with what each takes and returns. To add one: a row in [`PATHS`], beside that in
//! `router.rs`, and its answer in `schemas.rs`.

mod schemas;

use axum::Json;
use schemas::Answer;
use utoipa::openapi::path::{HttpMethod, Operation, OperationBuilder, PathItem, PathsBuilder};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::{
    ContentBuilder, InfoBuilder, ObjectBuilder, OpenApi, OpenApiBuilder, Ref, Response,
    ResponseBuilder, Type,
};

/// Path, the fields that a body must have if it takes one, what it does, and what it returns.
type Row = (&'static str, Option<&'static [&'static str]>, &'static str, Answer);

const PATHS: &[Row] = &[
    (
        "/v1/chat/completions",
        Some(&["messages"]),
        "A chat, whole or as events",
        Answer::json("ChatCompletion").or_events("ChatCompletionChunk"),
    ),
    (
        "/v1/completions",
        Some(&["prompt"]),
        "A completion of texts, whole or as events",
        Answer::json("Completion").or_events("CompletionChunk"),
    ),
    ("/v1/embeddings", Some(&["input"]), "The vectors of texts", Answer::json("Embeddings")),
    (
        "/v1/responses",
        Some(&["input"]),
        "OpenAI's later interface",
        Answer::json("Response").or_events("ResponseEvent"),
    ),
    ("/v1/models", None, "The model", Answer::json("Models")),
    (
        "/v1/messages",
        Some(&["messages"]),
        "Anthropic's interface",
        Answer::json("Message").or_events("MessageEvent").failing_as("AnthropicError"),
    ),
    (
        "/v1/messages/count_tokens",
        Some(&["messages"]),
        "The tokens of a conversation",
        Answer::json("TokenCount").failing_as("AnthropicError"),
    ),
    (
        "/api/chat",
        Some(&["messages"]),
        "Ollama's chat, whole or line by line",
        Answer::json("OllamaChat").or_lines().failing_as("OllamaError"),
    ),
    (
        "/api/generate",
        Some(&["prompt"]),
        "Ollama's completion, whole or line by line",
        Answer::json("OllamaCompletion").or_lines().failing_as("OllamaError"),
    ),
    (
        "/api/embed",
        Some(&["input"]),
        "The vectors of texts in Ollama's form",
        Answer::json("OllamaEmbeddings").failing_as("OllamaError"),
    ),
    (
        "/api/embeddings",
        Some(&["prompt"]),
        "The vector of a text in Ollama's earlier form",
        Answer::json("OllamaEmbedding").failing_as("OllamaError"),
    ),
    (
        "/api/show",
        Some(&[]),
        "The model, as Ollama describes it",
        Answer::json("OllamaModel").failing_as("OllamaError"),
    ),
    (
        "/api/tags",
        None,
        "The model, as Ollama lists it",
        Answer::json("OllamaModels").failing_as("OllamaError"),
    ),
    (
        "/api/ps",
        None,
        "The loaded model, as Ollama lists it",
        Answer::json("OllamaModels").failing_as("OllamaError"),
    ),
    (
        "/api/version",
        None,
        "The version of Ollama's interface",
        Answer::json("OllamaVersion").failing_as("OllamaError"),
    ),
    (
        "/completion",
        Some(&["prompt"]),
        "A completion in the form of llama.cpp's server",
        Answer::json("NativeCompletion").or_events("NativeCompletionChunk"),
    ),
    (
        "/infill",
        Some(&["input_prefix", "input_suffix"]),
        "Code between two parts",
        Answer::json("NativeCompletion").or_events("NativeCompletionChunk"),
    ),
    ("/tokenize", Some(&["content"]), "A text to tokens", Answer::json("Tokens")),
    ("/detokenize", Some(&["tokens"]), "Tokens to a text", Answer::json("Content")),
    (
        "/apply-template",
        Some(&["messages"]),
        "The text of a conversation's prompt",
        Answer::json("Prompt"),
    ),
    ("/props", None, "What the server is", Answer::json("Props")),
    ("/slots", None, "What the server does", Answer::json("Slots")),
    ("/metrics", None, "Counters for Prometheus", Answer::text()),
    ("/health", None, "Whether the model is loaded", Answer::json("Health")),
];

/// `GET /openapi.json`.
pub async fn document() -> Json<OpenApi> {
    let mut paths = PathsBuilder::new();
    for (path, required, summary, answer) in PATHS {
        let method = if required.is_some() { HttpMethod::Post } else { HttpMethod::Get };
        let operation = operation(summary, *required, answer);
        paths = paths.path(*path, PathItem::new(method, operation));
    }
    let info = InfoBuilder::new().title("dovetail-server").version(env!("CARGO_PKG_VERSION"));
    let document = OpenApiBuilder::new().info(info.build()).paths(paths.build());
    Json(document.components(Some(schemas::components())).build())
}

fn operation(summary: &str, required: Option<&[&str]>, answer: &Answer) -> Operation {
    let operation = OperationBuilder::new().summary(Some(summary));
    let operation = operation.response("200", done(answer)).response("default", refused(answer));
    let Some(required) = required else { return operation.build() };
    let object = ObjectBuilder::new().schema_type(Type::Object);
    let object = required.iter().fold(object, |object, name| object.required(*name));
    let content = ContentBuilder::new().schema(Some(object.build())).build();
    let body = RequestBodyBuilder::new().content("application/json", content).build();
    operation.request_body(Some(body)).build()
}

fn done(answer: &Answer) -> Response {
    let contents = answer.contents().into_iter();
    contents
        .fold(ResponseBuilder::new().description("Done"), |response, (kind, schema)| {
            let content = ContentBuilder::new().schema(Some(schema)).build();
            response.content(kind, content)
        })
        .build()
}

fn refused(answer: &Answer) -> Response {
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name(answer.error))).build();
    let response = ResponseBuilder::new().description("Refused, with the reason");
    response.content("application/json", content).build()
}
