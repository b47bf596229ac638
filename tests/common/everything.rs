//! A made-up architecture whose models have whatever a block can have: which of it says [`Extras`], by the name
//! of the model.
//!
//! Tensors are named as in other files. Nothing here rounds as the naive pass does, or the other way round: both
//! are told the same numbers and make of them what they do.

use super::tiny::{Extras, Tiny, tiny};
use dovetail::gguf::Gguf;
use dovetail::model::arch::Arch;
use dovetail::model::block::{Activation, Attention, Block, Branch, Dense, FeedForward, Mixer};
use dovetail::model::{Config, LayerKind, Rope, Source, Weights};
use dovetail::{Error, Result};

/// Its row in the table of architectures.
pub const ARCH: Arch = Arch { name: "everything", config, weights };

fn config(gguf: &Gguf) -> Result<Config> {
    let name = gguf.metadata().require_str("general.name")?;
    let Tiny { n_layers, n_embd, n_heads, n_kv_heads, head_dim, n_ff, extras, .. } = *tiny(name);
    let kinds = extras.kinds.iter().map(|kind| {
        let frequency = |i: usize| kind.base.powf(-2.0 * i as f64 / kind.n_rotated as f64);
        let frequencies = (0..kind.n_rotated / 2).map(frequency).collect();
        LayerKind {
            window: kind.window,
            rope: Rope { style: kind.style, frequencies, factor: kind.factor },
        }
    });
    Ok(Config {
        arch: ARCH.name.to_owned(),
        name: name.to_owned(),
        n_layers,
        n_embd,
        n_heads,
        n_kv_heads,
        head_dim,
        n_ff,
        n_vocab: super::tiny::N_VOCAB,
        n_ctx: super::tiny::N_CTX as usize,
        rms_eps: super::tiny::RMS_EPS,
        kinds: kinds.collect(),
        embedding_scale: extras.embedding_scale as f32,
        logit_scale: extras.logit_scale as f32,
        logit_soft_cap: extras.logit_cap.map(|cap| cap as f32),
    })
}

fn weights(c: &Config, source: &mut Source) -> Result<Weights> {
    let extras = tiny(&c.name).extras;
    let blocks = (0..c.n_layers).map(|i| block(i, c, &extras, source));
    let blocks = blocks.collect::<Result<_>>()?;
    let output_norm = source.vector("output_norm.weight", c.n_embd)?;
    Ok(Weights { blocks, output_norm, output: source.head(c.n_vocab, c.n_embd)? })
}

fn block(i: usize, c: &Config, extras: &Extras, source: &mut Source) -> Result<Block> {
    let (q, kv, hd) = (c.n_heads * c.head_dim, c.n_kv_heads * c.head_dim, c.head_dim);
    let mut vector = |there: bool, part: &str, n: usize| -> Result<Option<Vec<f32>>> {
        let name = format!("blk.{i}.{part}.weight");
        there.then(|| source.vector(&name, n)).transpose()
    };
    let scale = extras.branch_scale as f32;
    let attn_norm = vector(extras.norms, "attn_norm", c.n_embd)?;
    let post_attn = vector(extras.post_norms, "post_attention_norm", c.n_embd)?;
    let ffn_norm = vector(extras.norms, "ffn_norm", c.n_embd)?;
    let post_ffn = vector(extras.post_norms, "post_ffw_norm", c.n_embd)?;
    let q_norm = vector(extras.head_norms, "attn_q_norm", hd)?;
    let k_norm = vector(extras.head_norms, "attn_k_norm", hd)?;
    let v_norm = extras.head_norms.then(|| vec![1.0; hd]);
    let sinks = vector(extras.sinks, "attn_sinks", c.n_heads)?;
    let mut linear = |part: &str, n_out, n_in| {
        let linear = source.linear(&format!("blk.{i}.{part}"), n_out, n_in)?;
        match linear.bias().is_some() == extras.biases {
            true => Ok(linear),
            false => Err(Error::Invalid(format!("a bias of {part}, or none"))),
        }
    };
    let attention = Attention {
        kind: i % c.kinds.len(),
        qkv: [
            linear("attn_q", q, c.n_embd)?,
            linear("attn_k", kv, c.n_embd)?,
            linear("attn_v", kv, c.n_embd)?,
        ],
        head_norms: [q_norm, k_norm, v_norm],
        scale: extras.score_scale.map_or(c.attention_scale(), |scale| scale as f32),
        soft_cap: extras.score_cap.map(|cap| cap as f32),
        sinks,
        gate: extras.gate.then(|| linear("attn_gate", q, c.n_embd)).transpose()?,
        output: linear("attn_output", c.n_embd, q)?,
    };
    let dense = Dense {
        activation: if extras.geglu { Activation::GeGlu } else { Activation::SwiGlu },
        gate: linear("ffn_gate", c.n_ff, c.n_embd)?,
        up: linear("ffn_up", c.n_ff, c.n_embd)?,
        down: linear("ffn_down", c.n_embd, c.n_ff)?,
    };
    let (mixer, ffn) = (Mixer::Attention(attention), FeedForward::Dense(dense));
    Ok(Block {
        mixer: Branch { norm: attn_norm, layer: mixer, post_norm: post_attn, scale },
        ffn: Branch { norm: ffn_norm, layer: ffn, post_norm: post_ffn, scale },
    })
}
