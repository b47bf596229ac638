//! Embeddings of texts, for the interfaces that have them: how the vectors are made, and the way through the queue.

use crate::error::ApiError;
use crate::job::Wanted;
use crate::prompt::blocking;
use crate::state::{Call, Ready};
use clap::ValueEnum;
use dovetail::{Model, Pooling, PromptOutput, Request};
use std::collections::VecDeque;

/// Most texts of a request.
const MOST_TEXTS: usize = 2048;

/// `--pooling`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PoolingFlag {
    /// The mean of the hidden states of all tokens.
    Mean,
    /// The hidden state of the last token.
    Last,
}

/// How this server makes embeddings: as the flag says, else as the model's file does, else of the last token, the only one
/// that has seen all others. `None` if the file names a way that there is not.
pub fn pooling(flag: Option<PoolingFlag>, model: &Model) -> Option<Pooling> {
    let key = format!("{}.pooling_type", model.config().arch);
    match (flag, model.gguf().metadata().get_u32(&key).ok().flatten()) {
        (Some(PoolingFlag::Mean), _) | (None, Some(1)) => Some(Pooling::Mean),
        (Some(PoolingFlag::Last), _) | (None, None | Some(0 | 3)) => Some(Pooling::Last),
        (None, Some(_)) => None,
    }
}

/// A text, or its tokens.
pub enum Input {
    /// A text.
    Text(String),
    /// Tokens.
    Tokens(Vec<u32>),
}

/// The vectors of some texts.
pub struct Embeddings {
    /// A vector of length 1 for each text: (texts, n_embd).
    pub vectors: Vec<Vec<f32>>,
    /// The number of tokens of all texts together.
    pub n_tokens: usize,
}

/// The embeddings of some texts. With `truncate` the end of a text that is too long has no part in its vector.
///
/// # Errors
/// If the model has no embeddings, a text has no token, or too many, or there is no room in the queue.
pub async fn embeddings(
    call: &Call,
    inputs: Vec<Input>,
    truncate: bool,
) -> Result<Embeddings, ApiError> {
    let pooling = call.ready.pooling.ok_or_else(|| {
        let what = "the file of the model asks for embeddings of a kind that is not supported; \
                    start the server with --pooling mean or last";
        ApiError::not_supported(what)
    })?;
    if inputs.len() > MOST_TEXTS {
        let what = format!("has more than {MOST_TEXTS} texts; send them in several requests");
        return Err(ApiError::field("input", &what));
    }
    let ready = call.ready.clone();
    let tokens = move || inputs.into_iter().map(|input| tokens(&ready, input, truncate)).collect();
    let prompts: Vec<Vec<u32>> = blocking(tokens).await?;
    let n_tokens = prompts.iter().map(Vec::len).sum();
    let wanted = Wanted { prompt: PromptOutput::Embedding(pooling), ..Wanted::default() };
    let (mut vectors, mut running) = (Vec::new(), VecDeque::new());
    for prompt in prompts {
        let request = Request::new(prompt, 0);
        // A request that was let in once is not refused later.
        running.push_back(match running.is_empty() && vectors.is_empty() {
            true => call.submit_with(vec![request], wanted)?.pop().expect("an answer for each"),
            false => call.submit_when_room(request, wanted).await?,
        });
        if running.len() > call.ready.slots {
            let first = running.pop_front().expect("there are some");
            vectors.push(vector(first.whole().await?.end.embedding)?);
        }
    }
    for answering in running {
        vectors.push(vector(answering.whole().await?.end.embedding)?);
    }
    Ok(Embeddings { vectors, n_tokens })
}

fn tokens(ready: &Ready, input: Input, truncate: bool) -> Result<Vec<u32>, ApiError> {
    let mut tokens = match input {
        Input::Tokens(tokens) => tokens,
        Input::Text(text) => {
            if !truncate {
                ready.tokenizer().check_fits(&text, ready.n_ctx)?;
            }
            ready.tokenizer().encode(&text, true, false)?
        }
    };
    if truncate && tokens.len() >= ready.n_ctx {
        // The token that ends a text is the one that `last` takes.
        let end = tokens.pop().filter(|_| ready.tokenizer().adds_eos());
        tokens.truncate(ready.n_ctx - 1 - usize::from(end.is_some()));
        tokens.extend(end);
    }
    ready.check_prompt(&tokens)?;
    Ok(tokens)
}

/// Refuses to give embeddings another width than the model's.
///
/// # Errors
/// If another one is asked for.
pub fn check_width(ready: &Ready, asked: Option<usize>) -> Result<(), ApiError> {
    let width = ready.model.config().n_embd;
    if asked.is_none_or(|asked| asked == width) {
        return Ok(());
    }
    let what = format!("cannot be chosen; the model's embeddings have {width}");
    Err(ApiError::field("dimensions", &what))
}

/// An embedding, scaled to length 1.
fn vector(embedding: Option<Vec<f32>>) -> Result<Vec<f32>, ApiError> {
    let embedding = embedding.ok_or_else(|| ApiError::internal("the prompt was not read"))?;
    let norm = embedding.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
    if !norm.is_finite() || norm == 0.0 {
        let what =
            "the model's hidden states are no numbers, so its file is damaged; fetch it again";
        return Err(ApiError::internal(what));
    }
    Ok(embedding.into_iter().map(|x| (f64::from(x) / norm) as f32).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_have_length_1_or_are_refused() {
        assert_eq!(vector(Some(vec![3.0, 0.0, -4.0])).unwrap(), [0.6, 0.0, -0.8]);
        for wrong in [vec![f32::NAN, 1.0], vec![f32::INFINITY, 1.0], vec![0.0; 4]] {
            assert_eq!(vector(Some(wrong)).unwrap_err().status(), 500);
        }
    }
}
