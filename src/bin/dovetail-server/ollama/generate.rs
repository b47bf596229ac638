//! Chats and completions, a line of JSON for each round.

use super::messages::{self, Calls};
use crate::answer::Answering;
use crate::body::Body;
use crate::deltas::{Delta, Deltas, Reading};
use crate::error::{ApiError, Dialect};
use crate::fields::Fields;
use crate::frames::{self, Gone, Sink};
use crate::job::{End, Event};
use crate::native::infill::Parts;
use crate::openai::types::finish_reason;
use crate::prompt::{self, Chat, Content, SentMessage, blocking};
use crate::state::{Call, Ready};
use crate::tools::Tools;
use axum::Json;
use axum::response::{IntoResponse, Response};
use dovetail::Request;
use dovetail::text::AnswerFormat;
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use std::time::Instant;

/// `POST /api/chat`.
pub async fn chat(call: Call, Body(fields): Body) -> Result<Response, ApiError> {
    answer(call, fields, Kind::Chat).await
}

/// `POST /api/generate`.
pub async fn generate(call: Call, Body(fields): Body) -> Result<Response, ApiError> {
    answer(call, fields, Kind::Generate).await
}

/// Which of the two it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Chat,
    Generate,
}

/// The form of an answer.
struct Form {
    kind: Kind,
    stream: bool,
    model: String,
    /// How thoughts and calls are told from the rest; `None` where all is text.
    reading: Option<Reading>,
    start: Instant,
}

async fn answer(call: Call, fields: Fields, kind: Kind) -> Result<Response, ApiError> {
    let (ready, start) = (call.ready.clone(), Instant::now());
    let asked = blocking(move || read(&ready, fields, kind)).await?;
    let Asked { request, stream, reading } = asked;
    let form = Form { kind, stream, model: call.ready.name.clone(), reading, start };
    let Some(request) = request else {
        let mut line = form.line(&Delta::default(), Vec::new());
        (line["done"], line["done_reason"]) = (json!(true), json!("load"));
        return Ok(Json(line).into_response());
    };
    let answering = call.submit(vec![request])?.pop().expect("an answer for each request");
    if form.stream {
        let lines = move |sink| lines(sink, form, answering);
        return Ok(frames::response("application/x-ndjson", lines));
    }
    let whole = answering.whole().await?;
    let (delta, mut calls) = (form.deltas().all(&whole.pieces), Calls::default());
    let mut all = calls.push(&delta.calls);
    all.extend(calls.finish());
    Ok(Json(form.last(&delta, all, &whole.end)).into_response())
}

/// What a request asks for.
struct Asked {
    /// `None` if it only asks for the model to be loaded.
    request: Option<Request>,
    /// Whether the answer comes line by line.
    stream: bool,
    reading: Option<Reading>,
}

fn read(ready: &Ready, mut fields: Fields, kind: Kind) -> Result<Asked, ApiError> {
    let stream = fields.take("stream")?.unwrap_or(true);
    let format: Option<Value> = fields.take("format")?;
    let images: Vec<Value> = fields.take("images")?.unwrap_or_default();
    if !images.is_empty() {
        return Err(ApiError::field("images", "are not understood; leave them out"));
    }
    let prompt = match kind {
        Kind::Chat => chat_prompt(ready, &mut fields)?,
        Kind::Generate => generate_prompt(ready, &mut fields)?,
    };
    let Some(Prompt { tokens, reading }) = prompt else {
        return Ok(Asked { request: None, stream, reading: None });
    };
    let mut options = Fields::new(fields.take::<Map<_, _>>("options")?.unwrap_or_default());
    options.rename("num_predict", "n_predict");
    match format {
        None => {}
        Some(Value::String(format)) if format.is_empty() => {}
        Some(format) if format == "json" => {
            options.set("response_format", json!({ "type": "json_object" }));
        }
        Some(schema) => options.set("json_schema", schema),
    }
    let mut generation = options.generation(ready)?;
    generation.special = reading.as_ref().is_some_and(Reading::is_marked);
    generation.until_call = reading.as_ref().and_then(Reading::until_call);
    let request = Request { prompt: tokens, generation, drafter: None };
    Ok(Asked { request: Some(request), stream, reading })
}

/// A prompt, and how its answers are read.
struct Prompt {
    tokens: Vec<u32>,
    reading: Option<Reading>,
}

impl Prompt {
    /// One whose answers are text.
    fn plain(tokens: Vec<u32>) -> Prompt {
        Prompt { tokens, reading: None }
    }

    /// That of a conversation.
    fn of_chat(
        ready: &Ready,
        messages: Vec<SentMessage>,
        variables: Map<String, Value>,
        tools: &Tools,
    ) -> Result<Prompt, ApiError> {
        let chat = Chat { messages, tools: tools.list.clone(), variables, continues: false };
        let prompt = prompt::chat(ready, chat)?;
        let reading = Reading::new(prompt::template(ready)?, ready.tokenizer(), &prompt, tools);
        Ok(Prompt { tokens: prompt.tokens, reading: Some(reading) })
    }
}

fn chat_prompt(ready: &Ready, fields: &mut Fields) -> Result<Option<Prompt>, ApiError> {
    let messages: Vec<Map<String, Value>> = fields.take("messages")?.unwrap_or_default();
    let tools = Tools::take(fields)?;
    if messages.is_empty() {
        return Ok(None);
    }
    let (messages, variables) = (messages::sent(messages)?, thinking(ready, fields)?);
    Prompt::of_chat(ready, messages, variables, &tools).map(Some)
}

/// The variables of the template that `think` stands for.
fn thinking(ready: &Ready, fields: &mut Fields) -> Result<Map<String, Value>, ApiError> {
    let think = match fields.take::<Value>("think")? {
        None => return Ok(Map::new()),
        Some(Value::Bool(think)) => json!({ "enable_thinking": think, "thinking": think }),
        Some(level) if ["low", "medium", "high"].iter().any(|known| level == *known) => {
            json!({ "enable_thinking": true, "thinking": true, "reasoning_effort": level })
        }
        Some(_) => {
            let what = "is none of true, false, \"low\", \"medium\" and \"high\"";
            return Err(ApiError::field("think", what));
        }
    };
    let can_think = AnswerFormat::of(prompt::template(ready)?).has_thoughts();
    if think["thinking"] == true && !can_think {
        return Err(ApiError::field("think", "is on, but the model does not think; leave it out"));
    }
    serde_json::from_value(think).map_err(|error| ApiError::internal(error.to_string()))
}

fn generate_prompt(ready: &Ready, fields: &mut Fields) -> Result<Option<Prompt>, ApiError> {
    let text: String = fields.take("prompt")?.unwrap_or_default();
    let system: Option<String> = fields.take("system")?;
    let suffix: Option<String> = fields.take("suffix")?;
    for name in ["template", "context"] {
        if fields.take::<Value>(name)?.is_some_and(|value| value != "" && value != json!([])) {
            return Err(ApiError::field(name, "is not supported; leave it out"));
        }
    }
    let raw = fields.switch("raw")?;
    if text.is_empty() {
        return Ok(None);
    }
    if let Some(suffix) = suffix.filter(|suffix| !suffix.is_empty()) {
        let parts = Parts { prefix: text, suffix, middle: String::new() };
        return parts.prompt(ready).map(Prompt::plain).map(Some);
    }
    if raw || ready.template.is_none() {
        return prompt::text(ready, &text).map(Prompt::plain).map(Some);
    }
    let system = system.filter(|text| !text.is_empty());
    let system = system.map(|text| SentMessage::new("system", Content::Text(text)));
    let user = SentMessage::new("user", Content::Text(text));
    let (messages, variables) =
        (system.into_iter().chain([user]).collect(), thinking(ready, fields)?);
    Prompt::of_chat(ready, messages, variables, &Tools::default()).map(Some)
}

impl Form {
    fn deltas(&self) -> Deltas {
        self.reading.as_ref().map_or_else(Deltas::new, Deltas::of_chat)
    }

    fn line(&self, delta: &Delta, calls: Vec<Value>) -> Value {
        let now = Timestamp::now().to_string();
        let mut line = json!({ "model": self.model, "created_at": now, "done": false });
        match self.kind {
            Kind::Chat => line["message"] = messages::message(delta, calls),
            Kind::Generate => {
                line["response"] = json!(delta.content);
                if !delta.reasoning.is_empty() {
                    line["thinking"] = json!(delta.reasoning);
                }
            }
        }
        line
    }

    /// The line at the end, with times in nanoseconds.
    fn last(&self, delta: &Delta, calls: Vec<Value>, end: &End) -> Value {
        let mut line = self.line(delta, calls);
        let fields = json!({
            "done": true,
            "done_reason": finish_reason(end.stop),
            "total_duration": self.start.elapsed().as_nanos() as u64,
            "load_duration": 0,
            "prompt_eval_count": end.stats.prompt_n + end.stats.cached_n,
            "prompt_eval_duration": end.stats.prompt_time.as_nanos() as u64,
            "eval_count": end.stats.predicted_n,
            "eval_duration": end.stats.predicted_time.as_nanos() as u64,
        });
        let (Some(line), Value::Object(fields)) = (line.as_object_mut(), fields) else {
            unreachable!("both are objects");
        };
        line.extend(fields);
        Value::Object(std::mem::take(line))
    }
}

async fn lines(sink: Sink, form: Form, mut answering: Answering) -> Result<(), Gone> {
    let (mut deltas, mut calls) = (form.deltas(), Calls::default());
    loop {
        match answering.next().await {
            Event::Rounds(_) => {}
            Event::Pieces(pieces) => {
                let delta = deltas.push(&pieces);
                let whole = calls.push(&delta.calls);
                if !delta.content.is_empty() || !delta.reasoning.is_empty() || !whole.is_empty() {
                    sink.line(&form.line(&delta, whole)).await?;
                }
            }
            Event::End(end) => {
                let rest = deltas.finish();
                let mut whole = calls.push(&rest.calls);
                whole.extend(calls.finish());
                if !whole.is_empty() {
                    sink.line(&form.line(&Delta::default(), whole)).await?;
                }
                return sink.line(&form.last(&rest, Vec::new(), &end)).await;
            }
            Event::Failed(error) => return sink.line(&error.json(Dialect::Ollama)).await,
        }
    }
}
