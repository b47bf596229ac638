//! Chats and completions, a line of JSON for each round.

use crate::answer::Answering;
use crate::body::Body;
use crate::deltas::Deltas;
use crate::error::{ApiError, Dialect};
use crate::fields::Fields;
use crate::frames::{self, Gone, Sink};
use crate::job::{End, Event};
use crate::native::infill::Parts;
use crate::openai::types::finish_reason;
use crate::prompt::{self, Content, SentMessage, blocking};
use crate::state::{Call, Ready};
use crate::unsupported;
use axum::Json;
use axum::response::{IntoResponse, Response};
use dovetail::Request;
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
    start: Instant,
}

async fn answer(call: Call, fields: Fields, kind: Kind) -> Result<Response, ApiError> {
    let (ready, start) = (call.ready.clone(), Instant::now());
    let (request, stream) = blocking(move || read(&ready, fields, kind)).await?;
    let form = Form { kind, stream, model: call.ready.name.clone(), start };
    let Some(request) = request else {
        let mut line = form.line("");
        (line["done"], line["done_reason"]) = (json!(true), json!("load"));
        return Ok(Json(line).into_response());
    };
    let answering = call.submit(vec![request])?.pop().expect("an answer for each request");
    if form.stream {
        let lines = move |sink| lines(sink, form, answering);
        return Ok(frames::response("application/x-ndjson", lines));
    }
    let whole = answering.whole().await?;
    let text = Deltas::whole(&whole.pieces).content;
    Ok(Json(form.last(&text, &whole.end)).into_response())
}

/// The request, unless it only asks for the model to be loaded; and whether its answer comes line by line.
fn read(
    ready: &Ready,
    mut fields: Fields,
    kind: Kind,
) -> Result<(Option<Request>, bool), ApiError> {
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
    let Some(prompt) = prompt else { return Ok((None, stream)) };
    // Tools and the like stand beside the options.
    let tools: Option<Value> = fields.take("tools")?;
    tools.map_or(Ok(()), |tools| unsupported::check("tools", &tools))?;
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
    let generation = options.generation(ready)?;
    Ok((Some(Request { prompt, generation, drafter: None }), stream))
}

fn chat_prompt(ready: &Ready, fields: &mut Fields) -> Result<Option<Vec<u32>>, ApiError> {
    let messages: Vec<SentMessage> = fields.take("messages")?.unwrap_or_default();
    if messages.is_empty() { Ok(None) } else { prompt::chat(ready, messages).map(Some) }
}

fn generate_prompt(ready: &Ready, fields: &mut Fields) -> Result<Option<Vec<u32>>, ApiError> {
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
        return Parts { prefix: text, suffix, middle: String::new() }.prompt(ready).map(Some);
    }
    if raw || ready.template.is_none() {
        return prompt::text(ready, &text).map(Some);
    }
    let system = system.filter(|text| !text.is_empty());
    let system = system.map(|text| SentMessage::new("system", Content::Text(text)));
    let user = SentMessage::new("user", Content::Text(text));
    prompt::chat(ready, system.into_iter().chain([user]).collect::<Vec<_>>()).map(Some)
}

impl Form {
    fn line(&self, text: &str) -> Value {
        let now = Timestamp::now().to_string();
        let mut line = json!({ "model": self.model, "created_at": now, "done": false });
        match self.kind {
            Kind::Chat => line["message"] = json!({ "role": "assistant", "content": text }),
            Kind::Generate => line["response"] = json!(text),
        }
        line
    }

    /// The line at the end, with times in nanoseconds.
    fn last(&self, text: &str, end: &End) -> Value {
        let mut line = self.line(text);
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
    let mut deltas = Deltas::new();
    loop {
        match answering.next().await {
            Event::Rounds(_) => {}
            Event::Pieces(pieces) => {
                let delta = deltas.push(&pieces);
                if !delta.is_empty() {
                    sink.line(&form.line(&delta.content)).await?;
                }
            }
            Event::End(end) => {
                return sink.line(&form.last(&deltas.finish().content, &end)).await;
            }
            Event::Failed(error) => return sink.line(&error.json(Dialect::Ollama)).await,
        }
    }
}
