//! Code between two parts, by the model's own tokens for that.

use super::completion::{self, Asked};
use crate::body::Body;
use crate::error::ApiError;
use crate::fields::Fields;
use crate::prompt::blocking;
use crate::state::{Call, Ready};
use axum::response::Response;
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
        let tokens = FillIn::of(ready)?;
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
        let FillIn { prefix, suffix, middle, .. } = FillIn::of(ready)?;
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
struct FillIn {
    prefix: u32,
    suffix: u32,
    middle: u32,
    file: Option<u32>,
}

/// For each role the keys that name its token, and the texts of the token where no key does.
const PREFIX: Role = Role {
    keys: &["fim_pre", "prefix"],
    texts: &[
        "<|fim_prefix|>",
        "<fim-prefix>",
        "<fim_prefix>",
        "<｜fim▁begin｜>",
        "▁<PRE>",
        "<PRE>",
    ],
};
const SUFFIX: Role = Role {
    keys: &["fim_suf", "suffix"],
    texts: &["<|fim_suffix|>", "<fim-suffix>", "<fim_suffix>", "<｜fim▁hole｜>", "▁<SUF>", "<SUF>"],
};
const MIDDLE: Role = Role {
    keys: &["fim_mid", "middle"],
    texts: &["<|fim_middle|>", "<fim-middle>", "<fim_middle>", "<｜fim▁end｜>", "▁<MID>", "<MID>"],
};
const FILE: Role = Role { keys: &["fim_sep"], texts: &["<|file_sep|>", "<|file_separator|>"] };

struct Role {
    keys: &'static [&'static str],
    texts: &'static [&'static str],
}

impl Role {
    fn token(&self, ready: &Ready) -> Option<u32> {
        let metadata = ready.model.gguf().metadata();
        let named =
            |key: &&str| metadata.get_u32(&format!("tokenizer.ggml.{key}_token_id")).ok().flatten();
        let found = || self.texts.iter().find_map(|text| ready.tokenizer().token_id(text));
        self.keys.iter().find_map(named).or_else(found)
    }
}

impl FillIn {
    fn of(ready: &Ready) -> Result<FillIn, ApiError> {
        let token = |role: &Role, name: &str| {
            role.token(ready).ok_or_else(|| {
                let what =
                    format!("the model has no token for the {name} of code; use one made for code");
                ApiError::not_supported(what)
            })
        };
        Ok(FillIn {
            prefix: token(&PREFIX, "prefix")?,
            suffix: token(&SUFFIX, "suffix")?,
            middle: token(&MIDDLE, "middle")?,
            file: FILE.token(ready),
        })
    }
}
