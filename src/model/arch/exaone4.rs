//! `exaone4`: EXAONE 4. Norms only behind the branches, normed heads; the large model has windows, and rotates under
//! them alone.

use super::Arch;
use super::decoder::{self, BlockTensors, LLAMA};
use crate::error::Result;
use crate::model::block::QkNormPlace;
use crate::model::{Config, Keys, LayerKind, Rope};
use dovetail_kernels::cpu::RopeStyle;

pub(super) const ARCH: Arch =
    Arch { name: "exaone4", config, weights: |c, source| decoder::weights(c, source, &TENSORS) };

const TENSORS: BlockTensors = BlockTensors {
    attn_norm: None,
    post_attn_norm: Some("post_attention_norm"),
    ffn_norm: None,
    post_ffn_norm: Some("post_ffw_norm"),
    qk_norm: Some(QkNormPlace::HeadsBeforeRope),
    ..LLAMA
};

/// Blocks of the model that has windows.
const LARGE: usize = 64;

fn config(keys: &Keys) -> Result<Config> {
    let mut config = keys.config(RopeStyle::Halves)?;
    let windows = keys.windows(config.n_layers, 4)?;
    if let Some((window, windowed)) = windows.filter(|_| config.n_layers == LARGE) {
        let rope = std::mem::replace(&mut config.kinds[0].rope, Rope::none());
        config.add_kind(LayerKind::windowed(window, rope), |i| windowed[i]);
    }
    Ok(config)
}
