//! Code between two parts, by the model's own tokens for that.

use super::completion::{self, Asked};
use crate::body::Body;
use crate::error::ApiError;
use crate::fields::Fields;
use crate::prompt::blocking;
use crate::state::{Call, Ready};
use axum::response::Response;
use dovetail::text::FillInTokens;
use serde::Deserialize;

/// `POST /infill`.
pub async fn infill(call: Call, Body(fields): Body) -> Result<Response, ApiError> {
    let ready = call.ready.clone();
    let asked = blocking(move || read(&ready, fields)).await?;
    completion::answer(call, asked).await
}

/// Another file of the project.
#[derive(Deserialize)]
struct Extra {
    #[serde(default)]
    filename: Option<String>,
    text: String,
}

fn read(ready: &Ready, mut fields: Fields) -> Result<Asked, ApiError> {
    let parts = Parts {
        prefix: fields.require("input_prefix")?,
        suffix: fields.require("input_suffix")?,
        middle: fields.take("prompt")?.unwrap_or_default(),
    };
    let extra: Vec<Extra> = fields.take("input_extra")?.unwrap_or_default();
    let mut prompt = Vec::new();
    for Extra { filename, text } in extra {
        let tokens = fill_in(ready)?;
        let name = filename.unwrap_or_else(|| "tmp".into());
        match tokens.file {
            Some(token) => {
                prompt.push(token);
                prompt.extend(encode(ready, &format!("{name}\n{text}"))?);
            }
            None => prompt.extend(encode(ready, &format!("\n\n--- {name} ---\n\n{text}"))?),
        }
    }
    prompt.extend(parts.prompt(ready)?);
    completion::read(ready, fields, prompt)
}

/// The code before and behind a gap, and how the gap begins.
pub struct Parts {
    /// Before it.
    pub prefix: String,
    /// Behind it.
    pub suffix: String,
    /// Its beginning.
    pub middle: String,
}

impl Parts {
    /// The tokens of the prompt after which the model fills the gap in.
    ///
    /// # Errors
    /// If the model has no tokens for that, or the parts do not fit.
    pub fn prompt(&self, ready: &Ready) -> Result<Vec<u32>, ApiError> {
        let FillInTokens { prefix, suffix, middle, file: _ } = fill_in(ready)?;
        let bos = ready.tokenizer().bos().filter(|_| ready.tokenizer().adds_bos());
        let mut prompt: Vec<u32> = bos.into_iter().collect();
        for (token, text) in
            [(prefix, &self.prefix), (suffix, &self.suffix), (middle, &self.middle)]
        {
            prompt.push(token);
            prompt.extend(encode(ready, text)?);
        }
        ready.check_prompt(&prompt)?;
        Ok(prompt)
    }
}

/// The tokens of a text from outside.
fn encode(ready: &Ready, text: &str) -> Result<Vec<u32>, ApiError> {
    ready.tokenizer().check_fits(text, ready.n_ctx)?;
    Ok(ready.tokenizer().encode(text, false, false)?)
}

/// The tokens around the parts.
fn fill_in(ready: &Ready) -> Result<FillInTokens, ApiError> {
    ready.tokenizer().fill_in().ok_or_else(|| {
        let what = "the model has no tokens for code between two parts; use one made for code";
        ApiError::not_supported(what)
    })
}
