//! `llama`: Llama 2 and 3, Mistral, SmolLM2, TinyLlama, Vicuna, …

use super::Arch;
use crate::error::{Error, Result};
use crate::gguf::Gguf;
use crate::model::config::Keys;
use crate::model::weights::Source;
use crate::model::{Config, Layer, Weights};
use dovetail_kernels::cpu::RopeStyle;

pub(super) const ARCH: Arch = Arch { name: "llama", config: |gguf| config(gguf, "llama"), weights };

/// The configuration of an architecture of this name whose keys and mathematics are these.
pub(super) fn config(gguf: &Gguf, arch: &str) -> Result<Config> {
    let mut config = Keys { gguf, arch }.config(RopeStyle::Adjacent)?;
    // A window that hides earlier tokens would need its own mask.
    match gguf.metadata().get_u32(&format!("{arch}.attention.sliding_window"))? {
        None | Some(0) => {}
        Some(window) => config.n_ctx = config.n_ctx.min(window as usize),
    }
    if gguf.metadata().get_u32(&format!("{arch}.expert_count"))?.is_some_and(|n| n > 0) {
        let path = gguf.path().display();
        return Err(Error::Unsupported(format!("{path}: mixtures of experts cannot be run yet")));
    }
    Ok(config)
}

/// The weights of one whose tensors are these.
pub(super) fn weights(c: &Config, source: &mut Source) -> Result<Weights> {
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
