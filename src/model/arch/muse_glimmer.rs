//! `muse-glimmer`: normed embeddings and heads, gated attention, windows; only under windows positions are embedded.

use super::Arch;
use super::decoder::{self, BlockTensors, LLAMA};
use crate::error::Result;
use crate::model::block::QkNormPlace;
use crate::model::{Config, Keys, Rope};
use dovetail_kernels::cpu::RopeStyle;

pub(super) const ARCH: Arch = Arch {
    name: "muse-glimmer",
    config,
    weights: |c, source| decoder::weights(c, source, &TENSORS),
};

const TENSORS: BlockTensors = BlockTensors {
    post_attn_norm: Some("post_attention_norm"),
    post_ffn_norm: Some("post_ffw_norm"),
    post_eps: Some(1e-8),
    qk_norm: Some(QkNormPlace::HeadsBeforeRope),
    gate: true,
    ..LLAMA
};

fn config(keys: &Keys) -> Result<Config> {
    let mut config = keys.config(RopeStyle::Adjacent)?;
    config.embedding_rms_eps = Some(config.norm_eps);
    config.logit_scale = keys.factor("logit_scale")?;
    config.logit_soft_cap = keys.float("final_logit_softcapping")?.filter(|cap| *cap != 0.0);
    let rope = config.replace_rope(Rope::none());
    keys.add_windows(&mut config, 4, rope)?;
    Ok(config)
}
