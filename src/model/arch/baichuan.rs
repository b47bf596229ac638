//! `baichuan`: Baichuan 7B. Llama's blocks; the model of 13B has ALiBi (arXiv 2108.12409) in place of rotations.

use super::Arch;
use super::decoder::{self, LLAMA};
use crate::error::Result;
use crate::model::{Config, Keys};
use dovetail_kernels::cpu::RopeStyle;

pub(super) const ARCH: Arch =
    Arch { name: "baichuan", config, weights: |c, source| decoder::weights(c, source, &LLAMA) };

/// Blocks of the model that has rotations.
const WITH_ROPE: usize = 32;

fn config(keys: &Keys) -> Result<Config> {
    let config = keys.config(RopeStyle::Adjacent)?;
    match config.n_layers {
        WITH_ROPE => Ok(config),
        _ => Err(keys.wrong("block_count", "is not 32: ALiBi cannot be run yet")),
    }
}
