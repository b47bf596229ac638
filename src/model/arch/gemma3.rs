//! `gemma3`: Gemma 3. Normed heads in place of capped scores, and another rotation under windows.

use super::Arch;
use super::decoder::{self, BlockTensors};
use super::{gemma, gemma2};
use crate::error::Result;
use crate::model::block::QkNormPlace;
use crate::model::{Config, Keys, LayerKind};
use dovetail_kernels::cpu::RopeStyle;

pub(super) const ARCH: Arch =
    Arch { name: "gemma3", config, weights: |c, source| decoder::weights(c, source, &TENSORS) };

const TENSORS: BlockTensors =
    BlockTensors { qk_norm: Some(QkNormPlace::HeadsBeforeRope), ..gemma2::TENSORS };

fn config(keys: &Keys) -> Result<Config> {
    let mut config = gemma::config(keys)?;
    config.logit_soft_cap = keys.float("final_logit_softcapping")?.filter(|cap| *cap != 0.0);
    config.score_scale = gemma2::score_scale(&config, 62);
    let base = keys.float("rope.freq_base_swa")?.unwrap_or(10_000.0);
    if let Some((window, windowed)) = keys.windows(config.n_layers, 6)? {
        let n_rotated = 2 * config.kinds[0].rope.frequencies.len();
        let rope = Keys::plain_rope(RopeStyle::Halves, base, n_rotated);
        config.add_kind(LayerKind::windowed(window, rope), |i| windowed[i]);
    }
    Ok(config)
}
