//! The weights of a dense decoder: attention with grouped heads and a gated feed-forward layer in each block.
//!
//! [`BlockTensors`] says what a block has and what its tensors are called; an architecture names what differs from
//! [`LLAMA`].

use crate::error::Result;
use crate::model::block::{
    Activation, Attention, Block, Branch, Dense, FeedForward, KeysValues, Mixer, Norm, NormKind,
    PerLayer, QkNorm, QkNormPlace,
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
    /// Whether each head of values is normed, without weights.
    pub v_norm: bool,
    /// Whether keys are values too in blocks without `attn_v`.
    pub keys_as_values: bool,
    /// Whether `attn_gate` gates the heads.
    pub gate: bool,
    /// Whether `attn_qkv` is queries, keys and values.
    pub fused_qkv: bool,
    /// Whether `ffn_up` is gate and up.
    pub fused_gate_up: bool,
    pub activation: Activation,
    /// Whether both branches read what `attn_norm` gives.
    pub parallel: bool,
    /// Whether blocks may have a `layer_output_scale`.
    pub output_scale: bool,
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
    v_norm: false,
    keys_as_values: false,
    gate: false,
    fused_qkv: false,
    fused_gate_up: false,
    activation: Activation::SwiGlu,
    parallel: false,
    output_scale: false,
};

/// All weights of a decoder whose blocks have these tensors.
pub(crate) fn weights(c: &Config, source: &mut Source, tensors: &BlockTensors) -> Result<Weights> {
    let blocks = blocks(c, source, tensors, None)?;
    let weight = source.vector("output_norm.weight", c.n_embd)?;
    let output_norm = Norm { kind: tensors.norm_kind, weight, eps: c.norm_eps };
    let per_layer = match c.n_embd_per_layer {
        0 => None,
        width => Some(source.per_layer_input(c.n_layers, width, c.n_embd, c.norm_eps)?),
    };
    Ok(Weights { per_layer, blocks, output_norm, output: source.head(c.n_vocab, c.n_embd)? })
}

/// The blocks, which the files of drafters name alike. `first_width` is the width of the first attention's input, if that
/// is not the normed hidden state.
pub(crate) fn blocks(
    c: &Config,
    source: &mut Source,
    tensors: &BlockTensors,
    first_width: Option<usize>,
) -> Result<Vec<Block>> {
    (0..c.n_layers).map(|i| block(i, c, source, tensors, first_width.filter(|_| i == 0))).collect()
}

fn block(
    i: usize,
    c: &Config,
    source: &mut Source,
    tensors: &BlockTensors,
    first_width: Option<usize>,
) -> Result<Block> {
    let name = |part: &str| format!("blk.{i}.{part}");
    let post_eps = tensors.post_eps.unwrap_or(c.norm_eps);
    let mut norm = |part: Option<&str>, eps: f32| -> Result<Option<Norm>> {
        let weight = part.map(|part| source.vector(&name(&format!("{part}.weight")), c.n_embd));
        Ok(weight.transpose()?.map(|weight| Norm { kind: tensors.norm_kind, weight, eps }))
    };
    let attn_norm = norm(tensors.attn_norm.filter(|_| first_width.is_none()), c.norm_eps)?;
    let post_attn_norm = norm(tensors.post_attn_norm, post_eps)?;
    let ffn_norm = match tensors.parallel {
        true => attn_norm.clone(),
        false => norm(tensors.ffn_norm, c.norm_eps)?,
    };
    let post_ffn_norm = norm(tensors.post_ffn_norm, post_eps)?;
    let per_layer_norm = norm((c.n_embd_per_layer > 0).then_some("post_norm"), c.norm_eps)?;
    let output_scale = match tensors.output_scale {
        true => source.scalar(&name("layer_output_scale.weight"))?.unwrap_or(1.0),
        false => 1.0,
    };
    let attention = attention(i, c, source, tensors, first_width.unwrap_or(c.n_embd))?;
    let dense = dense(i, c, source, tensors)?;
    let per_layer = match c.n_embd_per_layer {
        0 => None,
        width => Some(PerLayer {
            gate: source.linear(&name("inp_gate"), width, c.n_embd)?,
            projection: source.linear(&name("proj"), c.n_embd, width)?,
        }),
    };
    let scale = c.branch_scale;
    Ok(Block {
        mixer: Branch {
            norm: attn_norm,
            layer: Mixer::Attention(attention),
            post_norm: post_attn_norm,
            scale,
        },
        ffn: Branch {
            norm: ffn_norm,
            layer: FeedForward::Dense(dense),
            post_norm: post_ffn_norm,
            scale,
        },
        parallel: tensors.parallel,
        per_layer: per_layer.map(|layer| Branch {
            norm: None,
            layer,
            post_norm: per_layer_norm,
            scale: 1.0,
        }),
        output_scale,
    })
}

/// Attention of block `i`, whose input has so many columns.
fn attention(
    i: usize,
    c: &Config,
    source: &mut Source,
    tensors: &BlockTensors,
    width: usize,
) -> Result<Attention> {
    let name = |part: &str| format!("blk.{i}.{part}");
    let (heads, has_kv) = (c.heads(i), c.has_kv(i));
    let (q_width, kv_width) = (heads.q_width(), heads.kv_width());
    if !has_kv {
        let unused = ["attn_k", "attn_v", "attn_k_norm"];
        unused.into_iter().for_each(|part| source.pass_over(&name(&format!("{part}.weight"))));
    }
    let qk_norm = match tensors.qk_norm {
        None => None,
        Some(place) => {
            let [n_q, n_k] = match place {
                QkNormPlace::WholeRow => [q_width, kv_width],
                QkNormPlace::HeadsBeforeRope | QkNormPlace::HeadsAfterRope => [heads.dim; 2],
            };
            let q = source.rms_norm(&name("attn_q_norm"), n_q, c.norm_eps)?;
            let k = has_kv.then(|| source.rms_norm(&name("attn_k_norm"), n_k, c.norm_eps));
            Some(QkNorm { q, k: k.transpose()?, place })
        }
    };
    let (q, kv) = if tensors.fused_qkv {
        let parts = [q_width, kv_width, kv_width];
        let [q, k, v] = source.split_linear(&name("attn_qkv"), parts, width)?;
        (q, Some((k, Some(v))))
    } else {
        let mut linear = |part, n| source.linear(&name(part), n, width);
        let q = linear("attn_q", q_width)?;
        let k = has_kv.then(|| linear("attn_k", kv_width)).transpose()?;
        let has_v = has_kv && (!tensors.keys_as_values || source.has(&name("attn_v.weight")));
        let v = has_v.then(|| source.linear(&name("attn_v"), kv_width, width)).transpose()?;
        (q, k.map(|k| (k, v)))
    };
    if tensors.qkv_biases {
        let mut biases = ["attn_q", "attn_k", "attn_v"].into_iter();
        biases.try_for_each(|part| source.require(&name(&format!("{part}.bias"))))?;
    }
    let v_norm = tensors.v_norm.then(|| Norm::rms(vec![1.0; heads.dim], c.norm_eps));
    let gate = tensors.gate.then(|| source.linear(&name("attn_gate"), q_width, c.n_embd));
    Ok(Attention {
        q,
        kv: kv.map(|(k, v)| KeysValues { k, v, v_norm }),
        qk_norm,
        scale: c.attention_scale(i),
        soft_cap: c.score_soft_cap,
        sinks: None,
        gate: gate.transpose()?,
        output: source.linear(&name("attn_output"), c.n_embd, q_width)?,
    })
}

/// The feed-forward layer of block `i`.
fn dense(i: usize, c: &Config, source: &mut Source, tensors: &BlockTensors) -> Result<Dense> {
    let name = |part: &str| format!("blk.{i}.{part}");
    let n_ff = c.n_ff[i];
    let [gate, up] = match tensors.fused_gate_up {
        true => source.split_linear(&name("ffn_up"), [n_ff; 2], c.n_embd)?,
        false => [
            source.linear(&name("ffn_gate"), n_ff, c.n_embd)?,
            source.linear(&name("ffn_up"), n_ff, c.n_embd)?,
        ],
    };
    let down = source.linear(&name("ffn_down"), c.n_embd, n_ff)?;
    Ok(Dense { activation: tensors.activation, gate, up, down })
}
