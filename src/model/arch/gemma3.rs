//! `gemma3`: Gemma 3. Normed heads in place of capped scores, and another rotation under windows.

use super::Arch;
use super::decoder::{self, BlockTensors};
use super::{gemma, gemma2};
use crate::error::Result;
use crate::model::block::QkNormPlace;
use crate::model::{Config, Keys, Rope};
use dovetail_kernels::cpu::RopeStyle;

pub(super) const ARCH: Arch =
    Arch { name: "gemma3", config, weights: |c, source| decoder::weights(c, source, &TENSORS) };

pub(super) const TENSORS: BlockTensors =
    BlockTensors { qk_norm: Some(QkNormPlace::HeadsBeforeRope), ..gemma2::TENSORS };

fn config(keys: &Keys) -> Result<Config> {
    let mut config = gemma::config(keys)?;
    config.logit_soft_cap = keys.float("final_logit_softcapping")?.filter(|cap| *cap != 0.0);
    config.score_scale = gemma2::score_scale(&config, 62);
    let base = keys.float("rope.freq_base_swa")?.unwrap_or(10_000.0);
    let rope = Rope::plain(RopeStyle::Halves, f64::from(base), config.kinds[0].rope.n_rotated());
    keys.add_windows(&mut config, 6, rope)?;
    Ok(config)
}
