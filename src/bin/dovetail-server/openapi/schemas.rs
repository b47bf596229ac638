//! The schemas of what paths return, in a short notation that [`schema`] reads.
//!
//! A field whose name ends with `?` may be missing. A type is `string`, `integer`, `number`, `boolean` or `object` (with any
//! fields), the name of a row, `[T]` for a list, or `T|null`.

use utoipa::openapi::schema::{AdditionalProperties, AnyOfBuilder, SchemaType};
use utoipa::openapi::{
    ArrayBuilder, Components, ComponentsBuilder, ObjectBuilder, Ref, RefOr, Schema, Type,
};

/// What a path returns.
pub struct Answer {
    /// Its JSON; none for plain text.
    json: Option<&'static str>,
    /// The schema of each event, if it can be a stream of events.
    events: Option<&'static str>,
    /// Whether it can be a stream of lines, each with the same schema.
    lines: bool,
    /// The schema of errors.
    pub error: &'static str,
}

impl Answer {
    /// JSON with this schema.
    pub const fn json(name: &'static str) -> Answer {
        Answer { json: Some(name), events: None, lines: false, error: "Error" }
    }

    /// A plain text.
    pub const fn text() -> Answer {
        Answer { json: None, events: None, lines: false, error: "Error" }
    }

    /// The same, or events with this schema.
    pub const fn or_events(self, name: &'static str) -> Answer {
        Answer { events: Some(name), ..self }
    }

    /// The same, or lines of it.
    pub const fn or_lines(self) -> Answer {
        Answer { lines: true, ..self }
    }

    /// The same, with errors of this schema.
    pub const fn failing_as(self, name: &'static str) -> Answer {
        Answer { error: name, ..self }
    }

    /// Content types and the schemas of their JSON; that of one event or line for streams, which may also be an error.
    pub fn contents(&self) -> Vec<(&'static str, RefOr<Schema>)> {
        let json = self.json.map(|name| ("application/json", schema(name)));
        let lines = self.json.filter(|_| self.lines);
        let lines = lines.map(|name| ("application/x-ndjson", any_of(&[name, self.error])));
        let event = |name| ("text/event-stream", any_of(&[name, self.error]));
        let events = self.events.map(event);
        let text = self.json.is_none().then(|| ("text/plain", schema("string")));
        [json, lines, events, text].into_iter().flatten().collect()
    }
}

/// Objects and their fields: each a name and a type.
const OBJECTS: &[(&str, &str)] = &[
    ("Error", "error ErrorDetails"),
    (
        "ErrorDetails",
        "message string, type string, param string|null, code IntegerOrString, \
         n_prompt_tokens? integer, n_ctx? integer",
    ),
    ("AnthropicError", "type string, error AnthropicErrorDetails"),
    ("AnthropicErrorDetails", "type string, message string"),
    ("OllamaError", "error string"),
    (
        "ChatCompletion",
        "id string, object string, created integer, model string, system_fingerprint string, \
         choices [ChatChoice], usage Usage, timings object",
    ),
    (
        "ChatChoice",
        "index integer, message ChatMessage, logprobs ChatLogprobs|null, finish_reason string",
    ),
    (
        "ChatMessage",
        "role string, content string|null, reasoning_content? string, tool_calls? [ToolCall]",
    ),
    ("ToolCall", "id string, type string, function ToolFunction"),
    ("ToolFunction", "name string, arguments string"),
    ("ChatLogprobs", "content [ChatLogprob], refusal string|null"),
    (
        "ChatLogprob",
        "id integer, token string, bytes [integer], logprob number, \
         top_logprobs? [ChatLogprob]",
    ),
    (
        "Usage",
        "prompt_tokens integer, completion_tokens integer, total_tokens integer, \
         prompt_tokens_details PromptDetails",
    ),
    ("PromptDetails", "cached_tokens integer"),
    (
        "ChatCompletionChunk",
        "id string, object string, created integer, model string, system_fingerprint string, \
         choices [ChatChunkChoice], usage? Usage, timings? object, dovetail? object",
    ),
    (
        "ChatChunkChoice",
        "index integer, delta ChatDelta, logprobs ChatLogprobs|null, \
         finish_reason string|null",
    ),
    (
        "ChatDelta",
        "role? string, content? string, reasoning_content? string, \
         tool_calls? [ToolCallDelta]",
    ),
    ("ToolCallDelta", "index integer, id? string, type? string, function ToolFunctionDelta"),
    ("ToolFunctionDelta", "name? string, arguments string"),
    (
        "Completion",
        "id string, object string, created integer, model string, system_fingerprint string, \
         choices [CompletionChoice], usage Usage, timings object",
    ),
    (
        "CompletionChunk",
        "id string, object string, created integer, model string, system_fingerprint string, \
         choices [CompletionChoice], usage? Usage, timings? object, dovetail? object",
    ),
    (
        "CompletionChoice",
        "index integer, text string, logprobs CompletionLogprobs|null, \
         finish_reason string|null",
    ),
    (
        "CompletionLogprobs",
        "tokens [string], token_logprobs [number|null], top_logprobs [object|null], \
         text_offset [integer]",
    ),
    ("Embeddings", "object string, data [Embedding], model string, usage EmbeddingUsage"),
    ("Embedding", "object string, index integer, embedding NumbersOrString"),
    ("EmbeddingUsage", "prompt_tokens integer, total_tokens integer"),
    ("Models", "object string, data [Model]"),
    ("Model", "id string, object string, created integer, owned_by string, meta object"),
    (
        "Response",
        "id string, object string, created_at integer, status string, model string, \
         output [object], error object|null, incomplete_details object|null, \
         usage object|null, *",
    ),
    ("ResponseEvent", "type string, sequence_number integer, *"),
    (
        "Message",
        "id string, type string, role string, model string, content [object], \
         stop_reason string|null, stop_sequence string|null, usage object, *",
    ),
    ("MessageEvent", "type string, *"),
    ("TokenCount", "input_tokens integer"),
    (
        "OllamaChat",
        "model string, created_at string, done boolean, message OllamaMessage, \
         done_reason? string, total_duration? integer, load_duration? integer, \
         prompt_eval_count? integer, prompt_eval_duration? integer, eval_count? integer, \
         eval_duration? integer",
    ),
    ("OllamaMessage", "role string, content string, thinking? string, tool_calls? [OllamaCall]"),
    ("OllamaCall", "function OllamaFunction"),
    ("OllamaFunction", "index integer, name string, arguments object"),
    (
        "OllamaCompletion",
        "model string, created_at string, done boolean, response string, thinking? string, \
         done_reason? string, total_duration? integer, load_duration? integer, \
         prompt_eval_count? integer, prompt_eval_duration? integer, eval_count? integer, \
         eval_duration? integer",
    ),
    (
        "OllamaEmbeddings",
        "model string, embeddings [Numbers], total_duration integer, load_duration integer, \
         prompt_eval_count integer",
    ),
    ("OllamaEmbedding", "embedding Numbers"),
    (
        "OllamaModel",
        "modelfile string, parameters string, template string, details OllamaDetails, \
         model_info object, capabilities [string], modified_at string",
    ),
    ("OllamaModels", "models [OllamaEntry]"),
    (
        "OllamaEntry",
        "name string, model string, modified_at string, size integer, digest string, \
         details OllamaDetails, expires_at? string, size_vram? integer, \
         context_length? integer",
    ),
    (
        "OllamaDetails",
        "parent_model string, format string, family string, families [string], \
         parameter_size string, quantization_level string",
    ),
    ("OllamaVersion", "version string"),
    (
        "NativeCompletion",
        "index integer, content string, tokens [integer], stop boolean, stop_type string, \
         model string, tokens_predicted integer, tokens_evaluated integer, \
         tokens_cached integer, truncated boolean, timings object, \
         completion_probabilities? [ChatLogprob]",
    ),
    ("NativeCompletionChunk", "index integer, content string, tokens [integer], stop boolean, *"),
    ("Tokens", "tokens [IntegerOrPiece]"),
    ("Piece", "id integer, piece StringOrNumbers"),
    ("Content", "content string"),
    ("Prompt", "prompt string"),
    (
        "Props",
        "default_generation_settings object, total_slots integer, model_alias string, \
         model_path string, modalities object, chat_template string, bos_token string, \
         eos_token string, build_info string",
    ),
    (
        "Slot",
        "id integer, n_ctx integer, speculative boolean, is_processing boolean, \
         id_task? integer, n_prompt_tokens? integer, n_prompt_tokens_processed? integer, \
         n_prompt_tokens_cache? integer, next_token? [object], dovetail? object",
    ),
    ("Health", "status string"),
];

/// Other types, and those that a value can have.
const OTHERS: &[(&str, &[&str])] = &[
    ("IntegerOrString", &["integer", "string"]),
    ("IntegerOrPiece", &["integer", "Piece"]),
    ("Numbers", &["[number]"]),
    ("NumbersOrString", &["[number]", "string"]),
    ("StringOrNumbers", &["string", "[integer]"]),
    ("Slots", &["[Slot]"]),
];

/// All schemas under their names.
pub fn components() -> Components {
    let objects = OBJECTS.iter().map(|(name, fields)| (*name, object(fields)));
    let others = OTHERS.iter().map(|(name, types)| (*name, any_of(types)));
    objects
        .chain(others)
        .fold(ComponentsBuilder::new(), |all, (name, schema)| all.schema(name, schema))
        .build()
}

/// An object with these fields, which commas separate; `*` allows others.
fn object(fields: &str) -> RefOr<Schema> {
    let mut object = ObjectBuilder::new().schema_type(Type::Object);
    let mut is_closed = true;
    for field in fields.split(", ") {
        match field.split_once(' ') {
            None => is_closed = false,
            Some((name, kind)) => {
                let is_required = !name.ends_with('?');
                let name = name.trim_end_matches('?');
                object = object.property(name, schema(kind));
                if is_required {
                    object = object.required(name);
                }
            }
        }
    }
    if is_closed {
        object = object.additional_properties(Some(AdditionalProperties::FreeForm(false)));
    }
    object.build().into()
}

fn any_of(types: &[&str]) -> RefOr<Schema> {
    match types {
        [one] => schema(one),
        types => types.iter().fold(AnyOfBuilder::new(), |all, one| all.item(schema(one))).into(),
    }
}

/// The schema of a type in the notation of this file.
fn schema(notation: &str) -> RefOr<Schema> {
    if let Some(item) = notation.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return ArrayBuilder::new().items(schema(item)).build().into();
    }
    if let Some(kind) = notation.strip_suffix("|null") {
        return any_of(&[kind, "null"]);
    }
    let kind = match notation {
        "string" => Type::String,
        "integer" => Type::Integer,
        "number" => Type::Number,
        "boolean" => Type::Boolean,
        "object" => Type::Object,
        "null" => Type::Null,
        name => return Ref::from_schema_name(name).into(),
    };
    ObjectBuilder::new().schema_type(SchemaType::Type(kind)).build().into()
}
