//! Completions of texts.

use super::chat::{MOST_ANSWERS, answers};
use super::logprobs::{self, Completion, Echo};
use super::types::{
    FINGERPRINT, Prompts, StreamOptions, Totals, finish_reason, new_id, round_of_page,
};
use crate::answer::{self, Answering};
use crate::body::Body;
use crate::embedding::Input;
use crate::error::{ApiError, Dialect};
use crate::fields::Fields;
use crate::frames::{Gone, Sink};
use crate::job::{Event, PromptLogprobs, Wanted};
use crate::native::infill::Parts;
use crate::prompt::{self, blocking};
use crate::sse;
use crate::state::{Call, Ready, unix_seconds};
use axum::Json;
use axum::response::{IntoResponse, Response};
use dovetail::text::Tokenizer;
use dovetail::{Piece, PromptOutput, Request, Stop};
use serde_json::{Value, json};
use std::sync::Arc;

/// `POST /v1/completions`.
pub async fn completions(call: Call, Body(fields): Body) -> Result<Response, ApiError> {
    let ready = call.ready.clone();
    let (requests, form) = blocking(move || read(&ready, fields)).await?;
    let all = call.submit_with(requests, Wanted { rounds: false, prompt: form.prompt_output })?;
    let ready = call.ready.clone();
    if form.stream {
        return Ok(sse::response(move |sink| stream(sink, ready, form, all)));
    }
    whole(&ready, &form, all).await.map(|body| Json(body).into_response())
}

/// The form of the answer.
struct Form {
    stream: bool,
    include_usage: bool,
    rounds: bool,
    /// What is repeated before each answer.
    echo: Vec<Echo>,
    /// Number of answers to each prompt.
    n: usize,
    /// Its log probabilities, if they are wanted.
    prompt_output: PromptOutput,
    id: String,
    created: u64,
}

fn read(ready: &Ready, mut fields: Fields) -> Result<(Vec<Request>, Form), ApiError> {
    let prompts = fields.require::<Prompts>("prompt")?.all();
    if prompts.len() > MOST_ANSWERS {
        let what = format!("has more than {MOST_ANSWERS} texts; send them in several requests");
        return Err(ApiError::field("prompt", &what));
    }
    let options: Option<StreamOptions> = fields.take("stream_options")?;
    let suffix: Option<String> = fields.take("suffix")?;
    let suffix = suffix.filter(|suffix| !suffix.is_empty());
    let n = fields.take("n")?.unwrap_or(1);
    let mut form = Form {
        stream: fields.switch("stream")?,
        include_usage: options.unwrap_or_default().include_usage,
        rounds: fields.wants_rounds(),
        echo: Vec::new(),
        n,
        prompt_output: PromptOutput::None,
        id: new_id("cmpl-"),
        created: unix_seconds(),
    };
    let echo = fields.switch("echo")?;
    let logprobs = logprobs::of_completion(&mut fields)?;
    if let Some(n) = logprobs.filter(|_| echo) {
        form.prompt_output = logprobs::of_echo(n)?;
        if suffix.is_some() {
            let what = "cannot be had with \"echo\" and \"logprobs\"; leave one out";
            return Err(ApiError::field("suffix", what));
        }
    }
    let mut generation = fields.generation(ready)?;
    generation.logprobs = logprobs;
    if n == 0 || prompts.len().saturating_mul(n) > MOST_ANSWERS {
        let what = format!(
            "makes {n} answers to each of {} prompts; ask for 1 to {MOST_ANSWERS} in all",
            prompts.len()
        );
        return Err(ApiError::field("n", &what));
    }
    let mut requests = Vec::new();
    for prompt in prompts {
        let (tokens, text) = match (prompt, &suffix) {
            (Input::Text(text), None) => (prompt::text(ready, &text)?, text),
            (Input::Text(text), Some(suffix)) => {
                let (suffix, middle) = (suffix.clone(), String::new());
                let parts = Parts { prefix: text.clone(), suffix, middle };
                (parts.prompt(ready)?, text)
            }
            (Input::Tokens(_), Some(_)) => {
                return Err(ApiError::field("suffix", "needs a prompt that is a text"));
            }
            (Input::Tokens(tokens), None) => {
                let text = ready.tokenizer().decode(&tokens, true);
                (tokens, String::from_utf8_lossy(&text).into_owned())
            }
        };
        ready.check_prompt(&tokens)?;
        let repeated = if echo { Echo::new(text, &tokens) } else { Echo::default() };
        form.echo.extend(std::iter::repeat_n(repeated, n));
        let request = Request { prompt: tokens, generation: generation.clone(), drafter: None };
        requests.extend(answers(&request, n)?);
    }
    Ok((requests, form))
}

impl Form {
    fn body(&self, ready: &Ready, choices: Vec<Value>) -> Value {
        json!({
            "id": self.id,
            "object": "text_completion",
            "created": self.created,
            "model": ready.name,
            "system_fingerprint": FINGERPRINT,
            "choices": choices,
        })
    }
}

/// What was given of one answer so far.
struct Choice {
    /// What is still to be repeated before it.
    echo: Echo,
    prompt_logprobs: PromptLogprobs,
    /// Number of characters.
    n: usize,
}

impl Choice {
    fn new(echo: &Echo, answering: &Answering) -> Choice {
        Choice { echo: echo.clone(), prompt_logprobs: answering.prompt_logprobs(), n: 0 }
    }

    /// The text that pieces add, and its log probabilities. Before the first ones stands what is repeated.
    ///
    /// Evaluation harnesses take the last entry for a token of the answer, so a token that ends it has an entry too where
    /// the prompt has entries.
    fn add(
        &mut self,
        tokenizer: &Tokenizer,
        pieces: &[Piece],
        stop: Option<Stop>,
    ) -> (String, Option<Value>) {
        let echo = std::mem::take(&mut self.echo);
        let mut logprobs = Completion::default();
        let of_prompt = self.prompt_logprobs.get();
        logprobs.add_echo(tokenizer, &echo, of_prompt);
        self.n += echo.text.chars().count();
        logprobs.add(tokenizer, pieces, self.n);
        let text: String = pieces.iter().map(|piece| &*piece.text).collect();
        self.n += text.chars().count();
        if let (Some(Stop::End(token)), true) = (stop, of_prompt.is_some()) {
            logprobs.push(tokenizer, token, None, self.n);
        }
        (echo.text + &text, logprobs.json())
    }
}

/// The answers as one body.
async fn whole(ready: &Ready, form: &Form, all: Vec<Answering>) -> Result<Value, ApiError> {
    let (mut choices, mut totals) = (Vec::new(), Totals::default());
    let begun = form.echo.iter().zip(&all);
    let begun: Vec<_> = begun.map(|(echo, answering)| Choice::new(echo, answering)).collect();
    let wholes = answer::whole_of(all).await?;
    for (index, (whole, mut choice)) in wholes.into_iter().zip(begun).enumerate() {
        totals.add(&whole.end, index % form.n == 0);
        let (text, logprobs) = choice.add(ready.tokenizer(), &whole.pieces, Some(whole.end.stop));
        choices.push(json!({
            "index": index,
            "text": text,
            "logprobs": logprobs,
            "finish_reason": finish_reason(whole.end.stop),
        }));
    }
    let mut body = form.body(ready, choices);
    (body["usage"], body["timings"]) = (json!(totals.usage()), totals.timings());
    Ok(body)
}

/// The answers as events.
async fn stream(
    sink: Sink,
    ready: Arc<Ready>,
    form: Form,
    mut all: Vec<Answering>,
) -> Result<(), Gone> {
    let choices = form.echo.iter().zip(&all);
    let mut choices: Vec<_> =
        choices.map(|(echo, answering)| Choice::new(echo, answering)).collect();
    let (mut totals, mut left) = (Totals::default(), all.len());
    while let Some((index, event)) = sink.wait(sse::PING, answer::next_of(&mut all)).await? {
        let (pieces, end) = match event {
            Event::Rounds(_) => continue,
            Event::Pieces(pieces) => (pieces, None),
            Event::End(end) => (Vec::new(), Some(end)),
            Event::Failed(error) => return sse::data(&sink, &error.json(Dialect::OpenAi)).await,
        };
        let stop = end.as_ref().map(|end| end.stop);
        let (text, logprobs) = choices[index].add(ready.tokenizer(), &pieces, stop);
        if end.is_none() && text.is_empty() && logprobs.is_none() && !form.rounds {
            continue;
        }
        let choice = json!({
            "index": index,
            "text": text,
            "logprobs": logprobs,
            "finish_reason": end.as_ref().map(|end| finish_reason(end.stop)),
        });
        let mut body = form.body(&ready, vec![choice]);
        if form.rounds && end.is_none() {
            body["dovetail"] = round_of_page(ready.tokenizer(), None, &pieces);
        }
        if let Some(end) = end {
            totals.add(&end, index % form.n == 0);
            left -= 1;
        }
        if left == 0 && !form.include_usage {
            body["timings"] = totals.timings();
        }
        sse::data(&sink, &body).await?;
    }
    if form.include_usage {
        let mut body = form.body(&ready, Vec::new());
        (body["usage"], body["timings"]) = (json!(totals.usage()), totals.timings());
        sse::data(&sink, &body).await?;
    }
    sse::done(&sink).await
}
