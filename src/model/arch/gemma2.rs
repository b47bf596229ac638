//! `gemma2`: Gemma 2. Norms behind both branches, soft caps, a window in every other block.

use super::Arch;
use super::decoder::{self, BlockTensors};
use super::gemma;
use crate::error::Result;
use crate::model::{Config, Keys};

pub(super) const ARCH: Arch =
    Arch { name: "gemma2", config, weights: |c, source| decoder::weights(c, source, &TENSORS) };

pub(super) const TENSORS: BlockTensors = BlockTensors {
    post_attn_norm: Some("post_attention_norm"),
    post_ffn_norm: Some("post_ffw_norm"),
    ..gemma::TENSORS
};

fn config(keys: &Keys) -> Result<Config> {
    let mut config = gemma::config(keys)?;
    config.score_soft_cap = Some(keys.float("attn_logit_softcapping")?.unwrap_or(50.0));
    config.logit_soft_cap = Some(keys.float("final_logit_softcapping")?.unwrap_or(30.0));
    config.score_scale = score_scale(&config, 46);
    let rope = config.kinds[0].rope.clone();
    keys.add_windows(&mut config, 2, rope)?;
    Ok(config)
}

/// What scores are multiplied by in the largest model, of so many blocks: by the width for each head.
pub(super) fn score_scale(c: &Config, largest: usize) -> Option<f32> {
    (c.n_layers == largest).then(|| 1.0 / ((c.n_embd / c.heads(0).n) as f32).sqrt())
}
