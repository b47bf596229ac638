//! `olmo2`: OLMo 2 and 3. Norms only behind the branches, queries and keys normed row by row; OLMo 3 has windows, under
//! which nothing is scaled.

use super::Arch;
use super::decoder::{self, BlockTensors, LLAMA};
use crate::error::Result;
use crate::model::block::QkNormPlace;
use crate::model::{Config, Keys, LayerKind};
use dovetail_kernels::cpu::RopeStyle;

pub(super) const ARCH: Arch =
    Arch { name: "olmo2", config, weights: |c, source| decoder::weights(c, source, &TENSORS) };

const TENSORS: BlockTensors = BlockTensors {
    attn_norm: None,
    post_attn_norm: Some("post_attention_norm"),
    ffn_norm: None,
    post_ffn_norm: Some("post_ffw_norm"),
    qk_norm: Some(QkNormPlace::WholeRow),
    ..LLAMA
};

fn config(keys: &Keys) -> Result<Config> {
    let mut config = keys.config(RopeStyle::Halves)?;
    if let Some((window, windowed)) = keys.windows(config.n_layers, 4)? {
        let base = keys.float("rope.freq_base")?.unwrap_or(10_000.0);
        let rope =
            Keys::plain_rope(RopeStyle::Halves, base, 2 * config.kinds[0].rope.frequencies.len());
        config.add_kind(LayerKind::windowed(window, rope), |i| windowed[i]);
    }
    Ok(config)
}
