//! `gemma`: the first Gemma. Scaled embeddings and GeGLU; the files' norm weights are whole.

use super::Arch;
use super::decoder::{self, BlockTensors, LLAMA};
use crate::error::Result;
use crate::model::block::Activation;
use crate::model::{Config, Keys};
use dovetail_kernels::cpu::RopeStyle;

pub(super) const ARCH: Arch =
    Arch { name: "gemma", config, weights: |c, source| decoder::weights(c, source, &TENSORS) };

pub(super) const TENSORS: BlockTensors = BlockTensors { activation: Activation::GeGlu, ..LLAMA };

/// What all generations have in common.
pub(super) fn config(keys: &Keys) -> Result<Config> {
    let mut config = keys.config(RopeStyle::Halves)?;
    config.embedding_scale = (config.n_embd as f32).sqrt();
    Ok(config)
}
