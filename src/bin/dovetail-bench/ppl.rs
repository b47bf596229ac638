//! Perplexity, as llama.cpp's `perplexity` defines it.
//!
//! The text is tokenised as a whole and cut into windows of `--ctx-size` tokens; the first token of each window is
//! replaced by BOS if the tokenizer adds one. In each window the tokens after the middle are predicted from all tokens
//! before them. A remainder at the end is dropped.

use crate::common_options::{CommonOptions, Format};
use clap::Args;
use dovetail::infer::Outputs;
use dovetail::{Error, Result, file};
use serde_json::json;
use std::path::PathBuf;

/// Rows of a pass; each keeps a whole row of logits.
const ROWS: usize = 64;

/// Options of `ppl`.
#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    common: CommonOptions,
    /// The text
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    /// Tokens of a window
    #[arg(short, long, default_value_t = 512, value_parser = clap::value_parser!(u32).range(4..))]
    ctx_size: u32,
    /// Also list the most likely token at each counted position (JSON only)
    #[arg(long)]
    top1: bool,
}

/// Measures and prints the perplexity.
pub fn run(o: &Options) -> Result<()> {
    let text =
        file::read_text(&o.file).map_err(|source| Error::Io { path: o.file.clone(), source })?;
    let n_ctx = o.ctx_size as usize;
    let mut session = o.common.session(n_ctx, ROWS)?;
    let model = session.model().clone();
    let tokenizer = model.tokenizer();
    let tokens = tokenizer.encode(&text, true, false)?;
    if tokens.len() < n_ctx {
        let (len, path) = (tokens.len(), o.file.display());
        return Err(Error::Invalid(format!(
            "{path} has {len} tokens, less than one window of {n_ctx}; lower --ctx-size"
        )));
    }
    let bos = tokenizer.bos().filter(|_| tokenizer.adds_bos());
    let (mut sum, mut count, mut top1, mut logits) = (0.0, 0usize, Vec::new(), Vec::new());
    let target = session.target();
    let mut seq = target.sequence(o.common.cache())?;
    for window in tokens.chunks_exact(n_ctx) {
        let mut window = window.to_vec();
        window[0] = bos.unwrap_or(window[0]);
        seq.truncate(0);
        for (i, chunk) in window.chunks(ROWS).enumerate() {
            target.append(&mut seq, chunk, Outputs::All)?;
            for row in 0..chunk.len() {
                let position = i * ROWS + row;
                if position < n_ctx / 2 || position + 1 == n_ctx {
                    continue;
                }
                target.logits(row).copy_to(&mut logits);
                let (likeliest, loss) = score(&logits, window[position + 1]);
                sum += loss;
                count += 1;
                top1.push(likeliest);
            }
        }
    }
    let ppl = (sum / count as f64).exp();
    match o.common.output {
        Format::Md => println!("perplexity = {ppl:.4} over {count} tokens"),
        Format::Json => {
            let mut out = json!({ "ppl": ppl, "tokens": count });
            if o.top1 {
                out["top1"] = json!(top1);
            }
            println!("{out}");
        }
    }
    Ok(())
}

/// The most likely token, and −ln p of the actual one.
fn score(logits: &[f32], came: u32) -> (u32, f64) {
    let mut best = 0;
    for (i, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = i;
        }
    }
    let top = logits[best] as f64;
    let sum: f64 = logits.iter().map(|l| (*l as f64 - top).exp()).sum();
    (best as u32, top + sum.ln() - logits[came as usize] as f64)
}
