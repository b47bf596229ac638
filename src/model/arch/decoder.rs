//! The weights of a dense decoder: attention with grouped heads and a gated feed-forward layer in each block.
//!
//! [`BlockTensors`] says what a block has and what its tensors are called; an architecture names what differs from
//! [`LLAMA`].

use crate::error::Result;
use crate::model::block::{
    Activation, Attention, Block, Branch, Dense, FeedForward, Mixer, Norm, NormKind, QkNorm,
    QkNormPlace,
};
use crate::model::weights::Source;
use crate::model::{Config, Weights};

/// What a block has.
#[derive(Clone, Copy)]
pub(crate) struct BlockTensors {
    /// Norms before and behind attention, by name.
    pub attn_norm: Option<&'static str>,
    pub post_attn_norm: Option<&'static str>,
    /// Norms before and behind the feed-forward layer, by name.
    pub ffn_norm: Option<&'static str>,
    pub post_ffn_norm: Option<&'static str>,
    /// ε of the norms behind, if it is another.
    pub post_eps: Option<f32>,
    pub norm_kind: NormKind,
    /// Whether queries, keys and values have biases; otherwise the file says it.
    pub qkv_biases: bool,
    /// `attn_q_norm` and `attn_k_norm`.
    pub qk_norm: Option<QkNormPlace>,
    /// Whether `attn_gate` gates the heads.
    pub gate: bool,
    /// Whether `attn_qkv` is queries, keys and values.
    pub fused_qkv: bool,
    /// Whether `ffn_up` is gate and up.
    pub fused_gate_up: bool,
    pub activation: Activation,
    /// Whether both branches read what `attn_norm` gives.
    pub parallel: bool,
}

/// Llama's.
pub(crate) const LLAMA: BlockTensors = BlockTensors {
    attn_norm: Some("attn_norm"),
    post_attn_norm: None,
    ffn_norm: Some("ffn_norm"),
    post_ffn_norm: None,
    post_eps: None,
    norm_kind: NormKind::Rms,
    qkv_biases: false,
    qk_norm: None,
    gate: false,
    fused_qkv: false,
    fused_gate_up: false,
    activation: Activation::SwiGlu,
    parallel: false,
};

/// All weights of a decoder whose blocks have these tensors.
pub(crate) fn weights(c: &Config, source: &mut Source, tensors: &BlockTensors) -> Result<Weights> {
    let blocks = blocks(c, source, tensors, None)?;
    let weight = source.vector("output_norm.weight", c.n_embd)?;
    let output_norm = Norm { kind: tensors.norm_kind, weight, eps: c.norm_eps };
    Ok(Weights { blocks, output_norm, output: source.head(c.n_vocab, c.n_embd)? })
}

/// The blocks, which the files of drafters name alike. `given` is the width of what the first block's attention reads,
/// if that is not the hidden state, normed.
pub(crate) fn blocks(
    c: &Config,
    source: &mut Source,
    tensors: &BlockTensors,
    given: Option<usize>,
) -> Result<Vec<Block>> {
    (0..c.n_layers).map(|i| block(i, c, source, tensors, given.filter(|_| i == 0))).collect()
}

fn block(
    i: usize,
    c: &Config,
    source: &mut Source,
    tensors: &BlockTensors,
    given: Option<usize>,
) -> Result<Block> {
    let BlockTensors {
        attn_norm,
        post_attn_norm,
        ffn_norm,
        post_ffn_norm,
        post_eps,
        norm_kind,
        qkv_biases,
        qk_norm,
        gate,
        fused_qkv,
        fused_gate_up,
        activation,
        parallel,
    } = *tensors;
    let name = |part: &str| format!("blk.{i}.{part}");
    let (q, kv) = (c.n_heads * c.head_dim, c.n_kv_heads * c.head_dim);
    let mut norm =
        |part: Option<&str>, kind: NormKind, n: usize, eps: f32| -> Result<Option<Norm>> {
            let weight = part.map(|part| source.vector(&name(&format!("{part}.weight")), n));
            Ok(weight.transpose()?.map(|weight| Norm { kind, weight, eps }))
        };
    let post_eps = post_eps.unwrap_or(c.norm_eps);
    let attn_norm = match given {
        Some(_) => None,
        None => norm(attn_norm, norm_kind, c.n_embd, c.norm_eps)?,
    };
    let post_attn_norm = norm(post_attn_norm, norm_kind, c.n_embd, post_eps)?;
    let ffn_norm = match parallel {
        true => attn_norm.clone(),
        false => norm(ffn_norm, norm_kind, c.n_embd, c.norm_eps)?,
    };
    let post_ffn_norm = norm(post_ffn_norm, norm_kind, c.n_embd, post_eps)?;
    let qk_norm = match qk_norm {
        None => None,
        Some(place) => {
            let [n_q, n_k] = match place {
                QkNormPlace::WholeRow => [q, kv],
                QkNormPlace::HeadsBeforeRope | QkNormPlace::HeadsAfterRope => [c.head_dim; 2],
            };
            let mut of = |part, n| norm(Some(part), NormKind::Rms, n, c.norm_eps);
            let norms = of("attn_q_norm", n_q)?.zip(of("attn_k_norm", n_k)?);
            norms.map(|(q, k)| QkNorm { norms: [q, k], place })
        }
    };
    let width = given.unwrap_or(c.n_embd);
    let qkv = match fused_qkv {
        true => source.split_linear(&name("attn_qkv"), [q, kv, kv], width)?,
        false => [
            source.linear(&name("attn_q"), q, width)?,
            source.linear(&name("attn_k"), kv, width)?,
            source.linear(&name("attn_v"), kv, width)?,
        ],
    };
    if qkv_biases {
        let mut biases = ["attn_q", "attn_k", "attn_v"].into_iter();
        biases.try_for_each(|part| source.require(&name(&format!("{part}.bias"))))?;
    }
    let gate = gate.then(|| source.linear(&name("attn_gate"), q, c.n_embd)).transpose()?;
    let attention = Attention {
        qkv,
        qk_norm,
        v_norm: None,
        scale: c.attention_scale(),
        soft_cap: c.score_soft_cap,
        sinks: None,
        gate,
        output: source.linear(&name("attn_output"), c.n_embd, q)?,
    };
    let [gate, up] = match fused_gate_up {
        true => source.split_linear(&name("ffn_up"), [c.n_ff; 2], c.n_embd)?,
        false => [
            source.linear(&name("ffn_gate"), c.n_ff, c.n_embd)?,
            source.linear(&name("ffn_up"), c.n_ff, c.n_embd)?,
        ],
    };
    let dense =
        Dense { activation, gate, up, down: source.linear(&name("ffn_down"), c.n_embd, c.n_ff)? };
    let (mixer, ffn) = (Mixer::Attention(attention), FeedForward::Dense(dense));
    Ok(Block {
        mixer: Branch {
            norm: attn_norm,
            layer: mixer,
            post_norm: post_attn_norm,
            scale: c.branch_scale,
        },
        ffn: Branch { norm: ffn_norm, layer: ffn, post_norm: post_ffn_norm, scale: c.branch_scale },
        parallel,
    })
}
