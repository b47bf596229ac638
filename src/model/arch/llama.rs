//! `llama`: Llama 2 and 3, Mistral, SmolLM2, TinyLlama, Vicuna, …

use super::Arch;
use crate::error::{Error, Result};
use crate::gguf::Gguf;
use crate::model::block::{Activation, Attention, Block, Branch, Dense, FeedForward, Mixer};
use crate::model::config::Keys;
use crate::model::weights::Source;
use crate::model::{Config, Weights};
use dovetail_kernels::cpu::RopeStyle;

pub(super) const ARCH: Arch = Arch { name: "llama", config: |gguf| config(gguf, "llama"), weights };

/// The configuration of an architecture of this name whose keys and mathematics are these.
pub(super) fn config(gguf: &Gguf, arch: &str) -> Result<Config> {
    let keys = Keys { gguf, arch };
    let mut config = keys.config(RopeStyle::Adjacent)?;
    // Mistral's first models have a window in every layer.
    config.kinds[0].window = keys.size("attention.sliding_window")?.filter(|window| *window > 0);
    if gguf.metadata().get_u32(&format!("{arch}.expert_count"))?.is_some_and(|n| n > 0) {
        let path = gguf.path().display();
        return Err(Error::Unsupported(format!("{path}: mixtures of experts cannot be run yet")));
    }
    Ok(config)
}

/// The weights of one whose tensors are these.
pub(super) fn weights(c: &Config, source: &mut Source) -> Result<Weights> {
    let blocks = blocks(c, source, None)?;
    let output_norm = source.rms_norm("output_norm", c.n_embd, c.norm_eps)?;
    Ok(Weights { blocks, output_norm, output: source.head(c.n_vocab, c.n_embd)? })
}

/// The decoder blocks, which the files of drafters name alike. `given` is the width of what the first
/// block's attention reads, if that is not the hidden state, normed.
pub(crate) fn blocks(c: &Config, source: &mut Source, given: Option<usize>) -> Result<Vec<Block>> {
    let (q, kv) = (c.n_heads * c.head_dim, c.n_kv_heads * c.head_dim);
    let mut blocks = Vec::new();
    for i in 0..c.n_layers {
        let name = |part: &str| format!("blk.{i}.{part}");
        let (norm, width) = match given {
            Some(width) if i == 0 => (None, width),
            _ => (Some(source.rms_norm(&name("attn_norm"), c.n_embd, c.norm_eps)?), c.n_embd),
        };
        let attention = Attention {
            kind: 0,
            qkv: [
                source.linear(&name("attn_q"), q, width)?,
                source.linear(&name("attn_k"), kv, width)?,
                source.linear(&name("attn_v"), kv, width)?,
            ],
            qk_norm: None,
            v_norm: None,
            scale: c.attention_scale(),
            soft_cap: None,
            sinks: None,
            gate: None,
            output: source.linear(&name("attn_output"), c.n_embd, q)?,
        };
        let mixer =
            Branch { norm, layer: Mixer::Attention(attention), post_norm: None, scale: 1.0 };
        let norm = Some(source.rms_norm(&name("ffn_norm"), c.n_embd, c.norm_eps)?);
        let dense = Dense {
            activation: Activation::SwiGlu,
            gate: source.linear(&name("ffn_gate"), c.n_ff, c.n_embd)?,
            up: source.linear(&name("ffn_up"), c.n_ff, c.n_embd)?,
            down: source.linear(&name("ffn_down"), c.n_embd, c.n_ff)?,
        };
        let ffn = Branch { norm, layer: FeedForward::Dense(dense), post_norm: None, scale: 1.0 };
        blocks.push(Block { mixer, ffn, parallel: false });
    }
    Ok(blocks)
}
