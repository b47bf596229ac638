//! Embeddings.

use super::types::Prompts;
use crate::body::Body;
use crate::embedding;
use crate::error::ApiError;
use crate::fields::Fields;
use crate::state::{Call, Ready};
use axum::Json;
use serde::{Deserialize, Serialize};

/// `POST /v1/embeddings`.
pub async fn embeddings(call: Call, Body(fields): Body) -> Result<Json<List>, ApiError> {
    let (inputs, encoding) = read(&call.ready, fields)?;
    let embeddings = embedding::embeddings(&call, inputs, false).await?;
    let vector = |(index, vector)| {
        let embedding = match encoding {
            Encoding::Float => Vector::Floats(vector),
            Encoding::Base64 => Vector::Text(base64(&little_endian(&vector))),
        };
        Embedding { object: "embedding", index, embedding }
    };
    let n = embeddings.n_tokens;
    Ok(Json(List {
        object: "list",
        data: embeddings.vectors.into_iter().enumerate().map(vector).collect(),
        model: call.ready.name.clone(),
        usage: Usage { prompt_tokens: n, total_tokens: n },
    }))
}

/// How a vector is sent.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Encoding {
    #[default]
    Float,
    Base64,
}

fn read(ready: &Ready, mut fields: Fields) -> Result<(Vec<embedding::Input>, Encoding), ApiError> {
    let inputs = fields.require::<Prompts>("input")?.all();
    if inputs.is_empty() {
        return Err(ApiError::field("input", "is empty; give a text"));
    }
    embedding::check_width(ready, fields.take("dimensions")?)?;
    let encoding = fields.take("encoding_format")?.unwrap_or_default();
    Ok((inputs, encoding))
}

/// The answer.
#[derive(Serialize)]
pub struct List {
    object: &'static str,
    data: Vec<Embedding>,
    model: String,
    usage: Usage,
}

#[derive(Serialize)]
struct Embedding {
    object: &'static str,
    index: usize,
    embedding: Vector,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Vector {
    Floats(Vec<f32>),
    Text(String),
}

#[derive(Serialize)]
struct Usage {
    prompt_tokens: usize,
    total_tokens: usize,
}

fn little_endian(vector: &[f32]) -> Vec<u8> {
    vector.iter().flat_map(|x| x.to_le_bytes()).collect()
}

/// Base64 with padding (RFC 4648, section 4).
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let byte = |i: usize| u32::from(three.get(i).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for i in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * i)) as usize & 63];
            out.push(if i <= three.len() { digit as char } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc() {
        let pairs = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ];
        for (bytes, text) in pairs {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
        assert_eq!(base64(&[0xff, 0xfe, 0xfb]), "//77");
        assert_eq!(little_endian(&[1.0]), [0, 0, 0x80, 0x3f]);
    }
}
