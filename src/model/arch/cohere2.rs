//! `cohere2`: Command R7B, Command A, Aya. LayerNorm, both branches side by side; only under windows positions are
//! embedded.

use super::Arch;
use super::decoder::{self, BlockTensors, LLAMA};
use crate::error::Result;
use crate::model::block::NormKind;
use crate::model::{Config, Keys, Rope};
use dovetail_kernels::cpu::RopeStyle;

pub(super) const ARCH: Arch =
    Arch { name: "cohere2", config, weights: |c, source| decoder::weights(c, source, &TENSORS) };

const TENSORS: BlockTensors =
    BlockTensors { norm_kind: NormKind::Layer, parallel: true, ffn_norm: None, ..LLAMA };

fn config(keys: &Keys) -> Result<Config> {
    let mut config = keys.config(RopeStyle::Adjacent)?;
    config.logit_scale = keys.factor("logit_scale")?;
    let rope = config.replace_rope(Rope::none());
    keys.add_windows(&mut config, 4, rope)?;
    Ok(config)
}
