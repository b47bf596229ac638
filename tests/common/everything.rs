//! A made-up architecture whose models have whatever a block can have: which of it says [`Extras`], by the name
//! of the model.
//!
//! Tensors are named as in other files. Nothing here rounds as the naive pass does, or the other way round: both
//! are told the same numbers and make of them what they do.

use super::tiny::{Extras, Tiny, tiny};
use dovetail::model::arch::Arch;
use dovetail::model::block::{
    Activation, Attention, Block, Branch, Dense, FeedForward, KeysValues, Linear, Mixer, Norm,
    NormKind, QkNorm, QkNormPlace,
};
use dovetail::model::{Config, Keys, LayerKind, QueryScale, Rope, Source, Weights};
use dovetail::{Error, Result};
use dovetail_kernels::cpu::RopeStyle;

/// Its row in the table of architectures.
pub const ARCH: Arch = Arch { name: "everything", config, weights };

fn config(keys: &Keys) -> Result<Config> {
    let config = keys.config(RopeStyle::Adjacent)?;
    let Tiny { n_layers, extras, .. } = *tiny(&config.name);
    let heads = config.heads(0);
    let kinds = extras.kinds.iter().map(|kind| {
        let frequency = |i: usize| kind.base.powf(-2.0 * i as f64 / kind.n_rotated as f64);
        let frequencies = (0..kind.n_rotated / 2).map(frequency).collect();
        let query_scale = extras.query_scale.map(|(scale, every)| QueryScale { scale, every });
        let rope = Rope { style: kind.style, frequencies, long: None, factor: kind.factor };
        LayerKind { heads, window: kind.window, rope, query_scale }
    });
    Ok(Config {
        kinds: kinds.collect(),
        layer_kinds: (0..n_layers).map(|i| i % extras.kinds.len()).collect(),
        embedding_rms_eps: extras.embedding_norm.then_some(super::tiny::RMS_EPS),
        embedding_scale: extras.embedding_scale as f32,
        logit_scale: extras.logit_scale as f32,
        logit_soft_cap: extras.logit_cap.map(|cap| cap as f32),
        ..config
    })
}

fn weights(c: &Config, source: &mut Source) -> Result<Weights> {
    let extras = tiny(&c.name).extras;
    let blocks = (0..c.n_layers).map(|i| block(i, c, &extras, source));
    let blocks = blocks.collect::<Result<_>>()?;
    let weight = source.vector("output_norm.weight", c.n_embd)?;
    let output_norm = Norm { kind: norm_kind(&extras), weight, eps: c.norm_eps };
    Ok(Weights { per_layer: None, blocks, output_norm, output: source.head(c.n_vocab, c.n_embd)? })
}

fn norm_kind(extras: &Extras) -> NormKind {
    if extras.layer_norms { NormKind::Layer } else { NormKind::Rms }
}

fn block(i: usize, c: &Config, extras: &Extras, source: &mut Source) -> Result<Block> {
    let (heads, n_ff) = (c.heads(i), c.n_ff[i]);
    let (q, kv, hd) = (heads.q_width(), heads.kv_width(), heads.dim);
    let mut vector = |there: bool, part: &str, n: usize| -> Result<Option<Vec<f32>>> {
        let name = format!("blk.{i}.{part}.weight");
        there.then(|| source.vector(&name, n)).transpose()
    };
    let (scale, kind) = (extras.branch_scale as f32, norm_kind(extras));
    let mut norm = |there: bool, part: &str, eps: f32| -> Result<Option<Norm>> {
        let weight = vector(there, part, c.n_embd)?;
        Ok(weight.map(|weight| Norm { kind, weight, eps }))
    };
    let post_eps = extras.post_eps.unwrap_or(c.norm_eps);
    let attn_norm = norm(extras.norms, "attn_norm", c.norm_eps)?;
    let post_attn = norm(extras.post_norms, "post_attention_norm", post_eps)?;
    let ffn_norm = norm(extras.norms, "ffn_norm", c.norm_eps)?;
    let post_ffn = norm(extras.post_norms, "post_ffw_norm", post_eps)?;
    let whole = extras.qk_norms == Some(QkNormPlace::WholeRow);
    let [n_q, n_k] = if whole { [q, kv] } else { [hd, hd] };
    let q_norm = vector(extras.qk_norms.is_some(), "attn_q_norm", n_q)?;
    let k_norm = vector(extras.qk_norms.is_some(), "attn_k_norm", n_k)?;
    let qk_norm = extras.qk_norms.zip(q_norm.zip(k_norm)).map(|(place, (q, k))| QkNorm {
        q: Norm::rms(q, c.norm_eps),
        k: Some(Norm::rms(k, c.norm_eps)),
        place,
    });
    let v_norm = extras.v_norms.then(|| Norm::rms(vec![1.0; hd], c.norm_eps));
    let sinks = vector(extras.sinks, "attn_sinks", heads.n)?;
    let check = |linear: Linear, part: &str| match linear.bias().is_some() == extras.biases {
        true => Ok(linear),
        false => Err(Error::Invalid(format!("a bias of {part}, or none"))),
    };
    let mut linear = |part: &str, n_out, n_in| {
        check(source.linear(&format!("blk.{i}.{part}"), n_out, n_in)?, part)
    };
    let gate = extras.gate.then(|| linear("attn_gate", q, c.n_embd)).transpose()?;
    let output = linear("attn_output", c.n_embd, q)?;
    let down = linear("ffn_down", c.n_embd, n_ff)?;
    let ([q, k, v], [ffn_gate, up]) = if extras.fused {
        let qkv = format!("blk.{i}.attn_qkv");
        let qkv = source.split_linear(&qkv, [q, kv, kv], c.n_embd)?;
        (qkv, source.split_linear(&format!("blk.{i}.ffn_up"), [n_ff; 2], c.n_embd)?)
    } else {
        let qkv = [
            linear("attn_q", q, c.n_embd)?,
            linear("attn_k", kv, c.n_embd)?,
            linear("attn_v", kv, c.n_embd)?,
        ];
        (qkv, [linear("ffn_gate", n_ff, c.n_embd)?, linear("ffn_up", n_ff, c.n_embd)?])
    };
    let attention = Attention {
        q,
        kv: Some(KeysValues { k, v: Some(v), v_norm }),
        qk_norm,
        scale: extras.score_scale.map_or(c.attention_scale(i), |scale| scale as f32),
        soft_cap: extras.score_cap.map(|cap| cap as f32),
        sinks,
        gate,
        output,
    };
    let dense = Dense {
        activation: if extras.geglu { Activation::GeGlu } else { Activation::SwiGlu },
        gate: ffn_gate,
        up,
        down,
    };
    let (mixer, ffn) = (Mixer::Attention(attention), FeedForward::Dense(dense));
    Ok(Block {
        mixer: Branch { norm: attn_norm, layer: mixer, post_norm: post_attn, scale },
        ffn: Branch { norm: ffn_norm, layer: ffn, post_norm: post_ffn, scale },
        parallel: extras.parallel,
        per_layer: None,
        output_scale: 1.0,
    })
}
