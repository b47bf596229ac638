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
    let BlockTensors {
        attn_norm,
        post_attn_norm,
        ffn_norm,
        post_ffn_norm,
        post_eps,
        norm_kind,
        qkv_biases,
        qk_norm,
        v_norm,
        keys_as_values,
        gate,
        fused_qkv,
        fused_gate_up,
        activation,
        parallel,
        output_scale,
    } = *tensors;
    let name = |part: &str| format!("blk.{i}.{part}");
    let (heads, has_kv, n_ff) = (c.heads(i), c.has_kv(i), c.n_ff[i]);
    let (q, kv) = (heads.q_width(), heads.kv_width());
    if !has_kv {
        let unused = ["attn_k", "attn_v", "attn_k_norm"];
        unused.into_iter().for_each(|part| source.pass_over(&name(&format!("{part}.weight"))));
    }
    let output_scale = match output_scale {
        true => source.scalar(&name("layer_output_scale.weight"))?.unwrap_or(1.0),
        false => 1.0,
    };
    let mut norm =
        |part: Option<&str>, kind: NormKind, n: usize, eps: f32| -> Result<Option<Norm>> {
            let weight = part.map(|part| source.vector(&name(&format!("{part}.weight")), n));
            Ok(weight.transpose()?.map(|weight| Norm { kind, weight, eps }))
        };
    let post_eps = post_eps.unwrap_or(c.norm_eps);
    let attn_norm = match first_width {
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
                QkNormPlace::HeadsBeforeRope | QkNormPlace::HeadsAfterRope => [heads.dim; 2],
            };
            let mut of = |part, n| norm(part, NormKind::Rms, n, c.norm_eps);
            let k = of(has_kv.then_some("attn_k_norm"), n_k)?;
            of(Some("attn_q_norm"), n_q)?.map(|q| QkNorm { q, k, place })
        }
    };
    let per_layer_norm = match c.n_embd_per_layer {
        0 => None,
        _ => norm(Some("post_norm"), norm_kind, c.n_embd, c.norm_eps)?,
    };
    let width = first_width.unwrap_or(c.n_embd);
    let (q, kv) = if fused_qkv {
        let [q, k, v] = source.split_linear(&name("attn_qkv"), [q, kv, kv], width)?;
        (q, Some((k, Some(v))))
    } else {
        let linear = |source: &mut Source, part, n| source.linear(&name(part), n, width);
        let q = linear(source, "attn_q", q)?;
        if has_kv {
            let k = linear(source, "attn_k", kv)?;
            let has_v = !keys_as_values || source.has(&name("attn_v.weight"));
            (q, Some((k, has_v.then(|| linear(source, "attn_v", kv)).transpose()?)))
        } else {
            (q, None)
        }
    };
    let v_norm = v_norm.then(|| Norm::rms(vec![1.0; heads.dim], c.norm_eps));
    let kv = kv.map(|(k, v)| KeysValues { k, v, v_norm });
    if qkv_biases {
        let mut biases = ["attn_q", "attn_k", "attn_v"].into_iter();
        biases.try_for_each(|part| source.require(&name(&format!("{part}.bias"))))?;
    }
    let gate = gate.then(|| source.linear(&name("attn_gate"), heads.q_width(), c.n_embd));
    let attention = Attention {
        q,
        kv,
        qk_norm,
        scale: c.attention_scale(i),
        soft_cap: c.score_soft_cap,
        sinks: None,
        gate: gate.transpose()?,
        output: source.linear(&name("attn_output"), c.n_embd, heads.q_width())?,
    };
    let [gate, up] = match fused_gate_up {
        true => source.split_linear(&name("ffn_up"), [n_ff; 2], c.n_embd)?,
        false => [
            source.linear(&name("ffn_gate"), n_ff, c.n_embd)?,
            source.linear(&name("ffn_up"), n_ff, c.n_embd)?,
        ],
    };
    let down = source.linear(&name("ffn_down"), c.n_embd, n_ff)?;
    let ffn = FeedForward::Dense(Dense { activation, gate, up, down });
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
        ffn: Branch { norm: ffn_norm, layer: ffn, post_norm: post_ffn_norm, scale },
        parallel,
        per_layer: per_layer.map(|layer| Branch {
            norm: None,
            layer,
            post_norm: per_layer_norm,
            scale: 1.0,
        }),
        output_scale,
    })
}
