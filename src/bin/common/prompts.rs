//! Files of prompts: one JSON object on each line.
//!
//! `{"prompt": TEXT}`, `{"turns": [TEXT, …]}` as in Spec-Bench, of which the first turn counts, or `{"messages":
//! [{"role": …, "content": …}, …]}`. Other fields are left to the program.

use crate::words;
use dovetail::text::Tokenizer;
use dovetail::{ChatTemplate, Error, Message, Result, file};
use serde_json::Value;
use std::path::Path;

/// One line.
pub struct Prompt {
    /// Its place: `FILE, line N`.
    pub place: String,
    /// The whole line.
    pub line: Value,
    messages: Vec<Message>,
}

impl Prompt {
    /// The prompt's tokens: rendered by the template, after the message `system` unless the prompt has a system
    /// message, or as it is if there is no template.
    ///
    /// # Errors
    /// If the template refuses the messages, there is no template for a conversation, or the messages cannot fit a
    /// context of `n_ctx` tokens. A prompt that passes may still be too long.
    pub fn tokens(
        &self,
        tokenizer: &Tokenizer,
        template: Option<&ChatTemplate>,
        system: Option<&str>,
        n_ctx: usize,
    ) -> Result<Vec<u32>> {
        let wrong =
            |error: Error| Error::Invalid(format!("{}: {}", self.place, words::line(&error)));
        let tokens = match (template, &self.messages[..]) {
            (Some(template), messages) => {
                let has_one = messages.iter().any(|message| message.role == "system");
                let system = system.filter(|_| !has_one).map(|text| Message::new("system", text));
                let all: Vec<_> = system.into_iter().chain(messages.iter().cloned()).collect();
                template.prompt(tokenizer, &all, true, n_ctx)
            }
            (None, [one]) => {
                let text = &one.content;
                tokenizer.check_fits(text, n_ctx).and_then(|()| tokenizer.encode_prompt(text))
            }
            (None, _) => {
                let what = "a conversation takes a chat template; give one text as \"prompt\"";
                Err(Error::Invalid(what.into()))
            }
        };
        tokens.map_err(wrong)
    }
}

/// Reads the prompts of a file, at most `limit` if given.
///
/// # Errors
/// If the file cannot be read, a line is not a prompt, or there is none.
pub fn read(path: &Path, limit: Option<usize>) -> Result<Vec<Prompt>> {
    let text =
        file::read_text(path).map_err(|source| Error::Io { path: path.to_owned(), source })?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let prompts = lines.take(limit.unwrap_or(usize::MAX)).map(|(i, line)| {
        let place = format!("{}, line {}", path.display(), i + 1);
        parse(line, &place).map_err(|what| Error::Invalid(format!("{place}: {what}")))
    });
    let prompts = prompts.collect::<Result<Vec<_>>>()?;
    if prompts.is_empty() {
        return Err(Error::Invalid(format!("{}: no prompts", path.display())));
    }
    Ok(prompts)
}

fn parse(text: &str, place: &str) -> std::result::Result<Prompt, String> {
    let line: Value = serde_json::from_str(text).map_err(|error| format!("no JSON: {error}"))?;
    let user = |text: &str| vec![Message::new("user", text)];
    let messages = if let Some(text) = line["prompt"].as_str() {
        user(text)
    } else if let Some(text) = line["turns"][0].as_str() {
        user(text)
    } else if let Some(messages) = line["messages"].as_array() {
        messages.iter().map(message).collect::<std::result::Result<_, _>>()?
    } else {
        return Err("no text in \"prompt\" or \"turns\"[0], and no \"messages\"".into());
    };
    if messages.iter().all(|message| message.content.is_empty()) {
        return Err("the prompt is empty; give some text".into());
    }
    Ok(Prompt { place: place.to_owned(), line, messages })
}

/// A message of a conversation. A field that a template might have read is not dropped.
fn message(message: &Value) -> std::result::Result<Message, String> {
    let wrong = "each of \"messages\" needs a \"role\" and a text as \"content\"";
    let fields = message.as_object().ok_or(wrong)?;
    let known = |(name, value): &(&String, &Value)| {
        ["role", "content"].contains(&&name[..]) || value.is_null()
    };
    if let Some((name, _)) = fields.iter().find(|field| !known(field)) {
        return Err(format!("\"{name}\" of a message is not supported; leave it out"));
    }
    let text = |name: &str| message[name].as_str().ok_or(wrong);
    Ok(Message::new(text("role")?, text("content")?))
}
