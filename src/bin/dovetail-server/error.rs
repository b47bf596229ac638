//! What goes wrong with a request, in the words of each interface.
//!
//! A handler returns an [`ApiError`]; `gate.rs` makes the response of it, in the shape of the interface that the path
//! belongs to. To add one: a case of [`Kind`] and its row in [`Kind::row`].

use crate::words::FlagNames;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use dovetail::setting::{Choice, Face, Setting};
use serde_json::{Value, json};

/// What kind of error it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Invalid,
    ContextFull { prompt: usize, n_ctx: usize },
    Unauthorized,
    NotFound,
    Method,
    Timeout,
    TooLarge,
    Busy,
    Internal,
    NotSupported,
    Loading,
    Ending,
}

impl Kind {
    /// Status, type in OpenAI's interface, code there, type in Anthropic's.
    fn row(self) -> (u16, &'static str, Option<&'static str>, &'static str) {
        let invalid = "invalid_request_error";
        match self {
            Kind::Invalid => (400, invalid, None, invalid),
            Kind::ContextFull { .. } => (400, invalid, Some("context_length_exceeded"), invalid),
            Kind::Unauthorized => {
                (401, "authentication_error", Some("invalid_api_key"), "authentication_error")
            }
            Kind::NotFound => (404, "not_found_error", None, "not_found_error"),
            Kind::Method => (405, invalid, None, invalid),
            Kind::Timeout => (408, invalid, None, invalid),
            Kind::TooLarge => (413, invalid, None, "request_too_large"),
            Kind::Busy => {
                (429, "rate_limit_error", Some("rate_limit_exceeded"), "rate_limit_error")
            }
            Kind::Internal => (500, "server_error", None, "api_error"),
            Kind::NotSupported => (501, "not_supported_error", None, invalid),
            Kind::Loading | Kind::Ending => (503, "unavailable_error", None, "overloaded_error"),
        }
    }
}

/// An error of a request.
#[derive(Clone, Debug)]
pub struct ApiError {
    /// Its kind.
    pub kind: Kind,
    /// What is wrong, and the next step.
    pub message: String,
    /// The field that is wrong.
    pub param: Option<String>,
}

/// The interface that a path belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    OpenAi,
    Anthropic,
    Ollama,
}

impl Dialect {
    /// The interface of a path.
    pub fn of(path: &str) -> Dialect {
        match path {
            _ if path.starts_with("/v1/messages") => Dialect::Anthropic,
            _ if path.starts_with("/api/") => Dialect::Ollama,
            _ => Dialect::OpenAi,
        }
    }
}

impl ApiError {
    fn new(kind: Kind, message: impl Into<String>) -> ApiError {
        ApiError { kind, message: message.into(), param: None }
    }

    /// A mistake of the client.
    pub fn invalid(message: impl Into<String>) -> ApiError {
        ApiError::new(Kind::Invalid, message)
    }

    /// A field with a value that cannot be; `what` follows the field's name.
    pub fn field(name: &str, what: &str) -> ApiError {
        ApiError::invalid(format!("{name:?} {what}")).about(name)
    }

    /// Names the field that is wrong.
    pub fn about(self, name: &str) -> ApiError {
        ApiError { param: Some(name.into()), ..self }
    }

    /// A prompt that leaves no room for an answer.
    pub fn context_full(prompt: usize, n_ctx: usize) -> ApiError {
        let message = format!(
            "the prompt has {prompt} tokens, and a request may have {n_ctx} with its answer; shorten it"
        );
        ApiError::new(Kind::ContextFull { prompt, n_ctx }, message)
    }

    /// A key is missing or wrong.
    pub fn unauthorized() -> ApiError {
        ApiError::new(Kind::Unauthorized, "no valid API key; send Authorization: Bearer KEY")
    }

    /// There is no such path or thing.
    pub fn not_found(message: impl Into<String>) -> ApiError {
        ApiError::new(Kind::NotFound, message)
    }

    /// The path is there, for another method.
    pub fn method() -> ApiError {
        ApiError::new(Kind::Method, "this path takes another method")
    }

    /// The body did not arrive in time.
    pub fn timeout() -> ApiError {
        ApiError::new(
            Kind::Timeout,
            "the body of the request did not arrive in time; send it again",
        )
    }

    /// The body is too large.
    pub fn too_large(most: usize) -> ApiError {
        let most = most >> 20;
        ApiError::new(
            Kind::TooLarge,
            format!("the body is larger than {most} MiB; send a smaller one"),
        )
    }

    /// The queue is full.
    pub fn busy() -> ApiError {
        ApiError::new(Kind::Busy, "too many requests wait; try again later")
    }

    /// A fault of the server or the model.
    pub fn internal(message: impl Into<String>) -> ApiError {
        ApiError::new(Kind::Internal, message)
    }

    /// Something that this model or server cannot do.
    pub fn not_supported(message: impl Into<String>) -> ApiError {
        ApiError::new(Kind::NotSupported, message)
    }

    /// The model is being loaded.
    pub fn loading() -> ApiError {
        ApiError::new(Kind::Loading, "Loading model")
    }

    /// The server ends.
    pub fn ending() -> ApiError {
        ApiError::new(Kind::Ending, "the server ends; send the request elsewhere")
    }

    /// The status.
    pub fn status(&self) -> u16 {
        self.kind.row().0
    }

    /// The body in the shape of an interface.
    pub fn json(&self, dialect: Dialect) -> Value {
        let (status, kind, code, anthropic) = self.kind.row();
        match dialect {
            Dialect::Ollama => json!({ "error": self.message }),
            Dialect::Anthropic => {
                let message = match self.kind {
                    // Clients look for these words, and shorten the conversation.
                    Kind::ContextFull { prompt, n_ctx } => {
                        format!("prompt is too long: {prompt} tokens > {n_ctx} maximum")
                    }
                    _ => self.message.clone(),
                };
                json!({ "type": "error", "error": { "type": anthropic, "message": message } })
            }
            Dialect::OpenAi => {
                let code = code.map_or_else(|| json!(status), |code| json!(code));
                let mut error = json!({
                    "message": self.message, "type": kind, "param": self.param, "code": code,
                });
                if let Kind::ContextFull { prompt, n_ctx } = self.kind {
                    error["n_prompt_tokens"] = json!(prompt);
                    error["n_ctx"] = json!(n_ctx);
                }
                json!({ "error": error })
            }
        }
    }

    /// The response in the shape of an interface.
    pub fn response(&self, dialect: Dialect) -> Response {
        let status = StatusCode::from_u16(self.status()).expect("the table has valid ones");
        let mut response = (status, axum::Json(self.json(dialect))).into_response();
        let header = match self.kind {
            Kind::Unauthorized => Some(("www-authenticate", "Bearer")),
            Kind::Busy | Kind::Loading => Some(("retry-after", "1")),
            // Clients try again after other errors of the server.
            Kind::NotSupported => Some(("x-should-retry", "false")),
            _ => None,
        };
        if let Some((name, value)) = header {
            response.headers_mut().insert(name, value.parse().expect("a plain text"));
        }
        response
    }
}

impl IntoResponse for ApiError {
    /// The error alone: whoever knows the path words it.
    fn into_response(self) -> Response {
        let mut response = StatusCode::INTERNAL_SERVER_ERROR.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<dovetail::Error> for ApiError {
    fn from(error: dovetail::Error) -> ApiError {
        match &error {
            dovetail::Error::Context { needed, available } => {
                ApiError::context_full(needed - 1, *available)
            }
            // Templates refuse conversations.
            dovetail::Error::Template(_) => ApiError::invalid(error.line(&FieldNames)),
            error if error.is_usage() => ApiError::invalid(error.line(&FieldNames)),
            error => ApiError::internal(error.line(&FieldNames)),
        }
    }
}

/// The names of settings in errors: those of fields where a request has one, else those of flags.
struct FieldNames;

impl Face for FieldNames {
    fn name(&self, setting: Setting) -> &'static str {
        match setting {
            Setting::Temperature => "temperature",
            Setting::TopP => "top_p",
            Setting::MinP => "min_p",
            Setting::RepeatPenalty => "repeat_penalty",
            Setting::RepeatLastN => "repeat_last_n",
            Setting::PresencePenalty => "presence_penalty",
            Setting::FrequencyPenalty => "frequency_penalty",
            other => FlagNames.name(other),
        }
    }

    fn usage(&self, setting: Setting) -> String {
        FlagNames.usage(setting)
    }

    fn choice(&self, choice: &Choice) -> String {
        FlagNames.choice(choice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_interface_has_its_own_shape() {
        let error = ApiError::field("top_k", "is \"x\"; give a number");
        let whole = json!({"error": {
            "message": "\"top_k\" is \"x\"; give a number", "type": "invalid_request_error",
            "param": "top_k", "code": 400,
        }});
        assert_eq!(error.json(Dialect::of("/v1/chat/completions")), whole);
        let anthropic = error.json(Dialect::of("/v1/messages/count_tokens"));
        assert_eq!(
            (&anthropic["type"], &anthropic["error"]["type"]),
            (&json!("error"), &whole["error"]["type"])
        );
        assert_eq!(error.json(Dialect::of("/api/chat"))["error"], whole["error"]["message"]);
    }

    #[test]
    fn a_full_context_has_its_numbers() {
        let error = ApiError::from(dovetail::Error::Context { needed: 11, available: 5 });
        let error = &error.json(Dialect::OpenAi)["error"];
        assert_eq!((&error["n_prompt_tokens"], &error["n_ctx"]), (&json!(10), &json!(5)));
        assert_eq!(error["code"], "context_length_exceeded");
        let error = ApiError::context_full(10, 5).json(Dialect::Anthropic);
        assert_eq!(error["error"]["message"], "prompt is too long: 10 tokens > 5 maximum");
    }
}
