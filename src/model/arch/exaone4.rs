//! `exaone4`: EXAONE 4. Norms only behind the branches, normed heads; the large model has windows, and rotates under
//! them alone.

use super::Arch;
use super::decoder::{self, BlockTensors};
use super::olmo2;
use crate::error::Result;
use crate::model::block::QkNormPlace;
use crate::model::{Config, Keys, Rope};
use dovetail_kernels::cpu::RopeStyle;

pub(super) const ARCH: Arch =
    Arch { name: "exaone4", config, weights: |c, source| decoder::weights(c, source, &TENSORS) };

const TENSORS: BlockTensors =
    BlockTensors { qk_norm: Some(QkNormPlace::HeadsBeforeRope), ..olmo2::TENSORS };

/// Blocks of the model that has windows.
const LARGE: usize = 64;

fn config(keys: &Keys) -> Result<Config> {
    let mut config = keys.config(RopeStyle::Halves)?;
    let windows = keys.windows(config.n_layers, 4)?;
    if let Some((window, windowed)) = windows.filter(|_| config.n_layers == LARGE) {
        let rope = config.replace_rope(Rope::none());
        config.change_kinds(
            |i| windowed[i],
            |kind| (kind.window, kind.rope) = (Some(window), rope.clone()),
        );
    }
    Ok(config)
}
