//! `minicpm`: MiniCPM 1 and 2 without experts. Embeddings, branches and logits are scaled (arXiv 2404.06395); files without
//! these keys are of its first models.

use super::Arch;
use super::decoder::{self, LLAMA};
use crate::error::Result;
use crate::model::{Config, Keys};
use dovetail_kernels::cpu::RopeStyle;

pub(super) const ARCH: Arch =
    Arch { name: "minicpm", config, weights: |c, source| decoder::weights(c, source, &LLAMA) };

fn config(keys: &Keys) -> Result<Config> {
    let mut config = keys.config(RopeStyle::Adjacent)?;
    let factor = |name: &str, default: f32| match keys.float(name)? {
        Some(_) => keys.factor(name),
        None => Ok(default),
    };
    config.embedding_scale = factor("embedding_scale", 12.0)?;
    config.branch_scale = factor("residual_scale", 1.4 / (config.n_layers as f32).sqrt())?;
    // llama.cpp takes 256 / width where the key is missing, and divides by that too: the paper divides by width / 256.
    config.logit_scale = 1.0 / factor("logit_scale", config.n_embd as f32 / 256.0)?;
    Ok(config)
}
