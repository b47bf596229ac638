//! `olmo2`: OLMo 2 and 3. Norms only behind the branches, queries and keys normed row by row; OLMo 3 has windows, under
//! which nothing is scaled.

use super::Arch;
use super::decoder::{self, BlockTensors, LLAMA};
use crate::error::Result;
use crate::model::block::QkNormPlace;
use crate::model::{Config, Keys, Rope};
use dovetail_kernels::cpu::RopeStyle;

pub(super) const ARCH: Arch =
    Arch { name: "olmo2", config, weights: |c, source| decoder::weights(c, source, &TENSORS) };

pub(super) const TENSORS: BlockTensors = BlockTensors {
    attn_norm: None,
    post_attn_norm: Some("post_attention_norm"),
    ffn_norm: None,
    post_ffn_norm: Some("post_ffw_norm"),
    qk_norm: Some(QkNormPlace::WholeRow),
    ..LLAMA
};

fn config(keys: &Keys) -> Result<Config> {
    let mut config = keys.config(RopeStyle::Halves)?;
    let n_rotated = config.kinds[0].rope.n_rotated();
    keys.add_windows(&mut config, 4, Rope::plain(RopeStyle::Halves, keys.rope_base()?, n_rotated))?;
    Ok(config)
}
