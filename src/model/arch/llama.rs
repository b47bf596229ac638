//! `llama`: Llama 2 and 3, Mistral, SmolLM2, TinyLlama, Vicuna, …

use super::Arch;
use crate::error::{Error, Result};
use crate::gguf::Gguf;
use crate::model::config::Keys;
use crate::model::weights::Source;
use crate::model::{Config, Layer, Weights};
use dovetail_kernels::cpu::RopeStyle;

pub(super) const ARCH: Arch = Arch { name: "llama", config, weights };

fn config(gguf: &Gguf) -> Result<Config> {
    // A window that hides earlier tokens would need its own mask.
    const WINDOW: &str = "llama.attention.sliding_window";
    let mut config = Keys { gguf, arch: "llama" }.config(RopeStyle::Adjacent)?;
    match gguf.metadata().get_u32(WINDOW)? {
        None | Some(0) => {}
        Some(window) => config.n_ctx = config.n_ctx.min(window as usize),
    }
    if gguf.metadata().get_u32("llama.expert_count")?.is_some_and(|n| n > 0) {
        let path = gguf.path().display();
        return Err(Error::Unsupported(format!("{path}: mixtures of experts cannot be run yet")));
    }
    Ok(config)
}

fn weights(c: &Config, source: &mut Source) -> Result<Weights> {
    let layers = layers(c, source, None)?;
    let output_norm = source.vector("output_norm.weight", c.n_embd)?;
    Ok(Weights { layers, output_norm, output: source.head(c)? })
}

/// The decoder blocks, which the files of drafters name alike. `given` is the width of what the first
/// block's attention reads, if that is not the hidden state, normed.
pub(crate) fn layers(c: &Config, source: &mut Source, given: Option<usize>) -> Result<Vec<Layer>> {
    let (q, kv) = (c.n_heads * c.head_dim, c.n_kv_heads * c.head_dim);
    let mut layers = Vec::new();
    for i in 0..c.n_layers {
        let name = |part: &str| format!("blk.{i}.{part}.weight");
        let (attn_norm, width) = match given {
            Some(width) if i == 0 => (None, width),
            _ => (Some(source.vector(&name("attn_norm"), c.n_embd)?), c.n_embd),
        };
        layers.push(Layer {
            attn_norm,
            qkv: [
                source.matrix(&name("attn_q"), q, width)?,
                source.matrix(&name("attn_k"), kv, width)?,
                source.matrix(&name("attn_v"), kv, width)?,
            ],
            attn_output: source.matrix(&name("attn_output"), c.n_embd, q)?,
            ffn_norm: source.vector(&name("ffn_norm"), c.n_embd)?,
            gate: source.matrix(&name("ffn_gate"), c.n_ff, c.n_embd)?,
            up: source.matrix(&name("ffn_up"), c.n_ff, c.n_embd)?,
            down: source.matrix(&name("ffn_down"), c.n_embd, c.n_ff)?,
        });
    }
    Ok(layers)
}
